"""The page, which Streamlit runs from the top for every click."""
# pyright: reportMissingImports=false

import streamlit as st

from dolly_assets.core.errors import DollyError
from dolly_assets.core.text import one_line
from dolly_assets.playground import chat, controls
from dolly_assets.playground.setup import current

TITLE = "Playground"


def show() -> None:
    """Show the page."""
    st.set_page_config(page_title=f"{TITLE} · dolly_assets", page_icon="💬", layout="wide")
    try:
        setup = current()
        models = setup.models.all()
    except DollyError as error:
        st.title(TITLE)
        st.error(one_line(error))
        st.button("Try again", icon=":material/refresh:")
        return
    if not models:
        st.title(TITLE)
        st.info("The store has no models yet: train one with `dolly train`, then reload this page.")
        return
    chosen = controls.show(models)
    chat.show(setup, chosen)


show()
