"""What is known of the models, in a drawer beside the conversation."""
# pyright: reportMissingImports=false

from collections.abc import Sequence

import streamlit as st

from dolly_assets.core.errors import DollyError
from dolly_assets.core.markdown import markdown_table
from dolly_assets.core.text import one_line, with_interval
from dolly_assets.playground.cards import Card, card_of
from dolly_assets.playground.client import ServedModel
from dolly_assets.playground.setup import Setup


@st.dialog("About the models", position="right", width="medium")
def show(setup: Setup, models: Sequence[ServedModel]) -> None:
    """Show a card for each model."""
    unique = {model.name: model for model in models}
    for tab, model in zip(st.tabs(list(unique)), unique.values(), strict=True):
        with tab:
            try:
                card = card_of(setup.store, model)
            except DollyError as error:
                st.warning(f"Nothing is known of it: {one_line(error)}")
            else:
                _show(card)


def _show(card: Card) -> None:
    name, _, digest = card.address.partition("@")
    st.caption(f"`{name}` `{digest[:12]}` · published {card.trained_at}", help=f"`{digest}`")
    st.subheader("Scores", anchor=False)
    if card.scores:
        rows = [
            (score.name, with_interval(score.value, score.interval, ".4f")) for score in card.scores
        ]
        st.markdown(markdown_table(("score", "value (95 % interval)"), rows))
    else:
        st.caption("Not scored yet.")
    st.subheader("Licence", anchor=False)
    st.markdown(f"Commercial use: **{card.commercial_use}**")
    st.markdown(markdown_table(("made from", "licence"), [*card.licenses.items()]))
    for obligation in card.obligations:
        st.caption(obligation)
    st.subheader("Template", anchor=False)
    st.caption(f"`{card.template_name}`: what the model reads, as Jinja.")
    st.code(card.template or "(the model carries none)", language="jinja2", wrap_lines=True)
    st.subheader("Lineage", anchor=False)
    st.code(card.lineage, language=None, wrap_lines=True)
