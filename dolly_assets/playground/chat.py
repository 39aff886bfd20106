"""The conversation: questions, answers beside each other as they arrive, and votes on them."""
# pyright: reportMissingImports=false

import random
import time
from collections.abc import Iterator, Sequence
from functools import partial

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dolly_assets.core.errors import DollyError
from dolly_assets.core.text import one_line
from dolly_assets.playground import drawer, voting
from dolly_assets.playground.client import ServedModel
from dolly_assets.playground.controls import Chosen, conversation, keep, label
from dolly_assets.playground.conversation import Answer, Turn
from dolly_assets.playground.safe_text import markdown
from dolly_assets.playground.setup import Setup
from dolly_assets.playground.streams import at_once

LETTERS = "AB"
_REDRAW_SECONDS = 0.05  # a page that is drawn for every token is slower than the model
_WAITING = ":shimmer[Waiting for the first token …]"


def show(setup: Setup, chosen: Chosen) -> None:
    """Show the conversation, and answer what is asked."""
    _heading(setup, chosen)
    for problem in st.session_state.pop("problems", []):
        st.error(problem)
    for turn in conversation().turns:
        _show_turn(setup, turn)
    if not conversation().turns:
        _invitation(setup, chosen)
    asked = st.chat_input("Ask something", key="asked", submit_mode="stop")
    if asked:
        _answer(setup, chosen, asked)
        st.rerun()


def _heading(setup: Setup, chosen: Chosen) -> None:
    names, button = st.columns([5, 2], vertical_alignment="center")
    shown = [f"**{label(model)}**" for model in chosen.models]
    names.markdown(" &nbsp;and&nbsp; ".join(shown) + (" &nbsp;·&nbsp; blind" * chosen.is_blind))
    if button.button("About the models", icon=":material/info:", width="stretch"):
        drawer.show(setup, chosen.models)


def _invitation(setup: Setup, chosen: Chosen) -> None:
    if len(chosen.models) == 1:
        st.info("Ask something below. The model sees the whole conversation.")
        return
    st.info(
        "Ask something below: both models answer at once. Vote for the better answer, and it is "
        f"kept as a preference in the dataset `{setup.votes.name}`. The conversation continues "
        "from the answer you prefer, else from the left one."
    )


def _show_turn(setup: Setup, turn: Turn) -> None:
    _show_message(turn)
    for place, (column, answer) in enumerate(zip(_columns(turn), turn.answers, strict=True)):
        with column:
            _show_answer(turn, place, answer)
    if turn.is_open:
        _vote_bar(setup, turn)
    elif len(turn.answers) > 1 and turn.preferred is not None:
        st.caption(f":material/check: Kept in `{setup.votes.name}`.")


def _show_message(turn: Turn) -> None:
    with st.chat_message("user", avatar=":material/person:"):
        st.markdown(markdown(turn.message))
        if turn.context:
            st.caption(markdown(turn.context))


def _columns(turn: Turn) -> Sequence[DeltaGenerator]:
    return st.columns(len(turn.answers), border=len(turn.answers) > 1)


def _show_answer(turn: Turn, place: int, answer: Answer) -> None:
    _show_name(turn, place)
    if answer.text:
        st.markdown(markdown(answer.text))
    elif answer.is_whole:
        st.caption("(an empty answer)")
    if answer.error:
        st.error(answer.error)
    elif not answer.is_whole:
        st.caption("(stopped)")


def _show_name(turn: Turn, place: int) -> None:
    answer = turn.answers[place]
    name = "" if turn.is_blind and not turn.is_revealed else answer.model
    letter = f"**{LETTERS[place]}**" if len(turn.answers) > 1 else ""
    won = " :green-badge[preferred]" if turn.preferred == place else ""
    st.markdown(f":small[{letter} {name}{won}]")


def _vote_bar(setup: Setup, turn: Turn) -> None:
    first, second, skip = st.columns(3)
    for place, column in enumerate((first, second)):
        column.button(
            f"{LETTERS[place]} is better",
            key=f"vote-{turn.id}-{place}",
            icon=":material/thumb_up:",
            width="stretch",
            on_click=partial(_vote, setup, turn, place),
        )
    skip.button(
        "Skip",
        key=f"skip-{turn.id}",
        icon=":material/skip_next:",
        width="stretch",
        help="Shows which model is which, and keeps no vote.",
        on_click=lambda: keep(voting.skip(conversation(), turn)),
    )


def _vote(setup: Setup, turn: Turn, place: int) -> None:
    try:
        keep(voting.vote(setup.votes, conversation(), turn, place))
    except DollyError as error:
        st.session_state.setdefault("problems", []).append(f"Not kept: {one_line(error)}")


def _answer(setup: Setup, chosen: Chosen, message: str) -> None:
    """Show the answers to a message as they arrive, and keep them."""
    models = _sides(chosen)
    turn = Turn(
        message=message,
        context=chosen.context,
        answers=tuple(Answer(model=model.name, address=model.address) for model in models),
        sampling=chosen.sampling,
        is_blind=chosen.is_blind,
    )
    _show_message(turn)
    places = list[DeltaGenerator]()
    for place, column in enumerate(_columns(turn)):
        with column:
            _show_name(turn, place)
            places.append(st.empty())
            places[-1].markdown(_WAITING)
    for answers, changed in _growing(setup, turn):
        keep(conversation().with_turn(turn.model_copy(update={"answers": answers})))
        for place in changed:
            places[place].markdown(markdown(answers[place].text) + " ▌")


def _sides(chosen: Chosen) -> list[ServedModel]:
    """Return the models from left to right."""
    models = list(chosen.models)
    if chosen.is_blind:
        random.shuffle(models)
    return models


def _growing(setup: Setup, turn: Turn) -> Iterator[tuple[tuple[Answer, ...], set[int]]]:
    """Yield the answers so far, and which have changed, some times a second and at the end."""
    messages = [message.as_json() for message in conversation().prompt(turn)]
    streams = [
        partial(setup.models.answer, answer.model, messages, turn.sampling)
        for answer in turn.answers
    ]
    answers, changed, drawn = list(turn.answers), set[int](), 0.0
    for piece in at_once(streams):
        so_far = answers[piece.place]
        text = so_far.text + piece.text
        answers[piece.place] = so_far.model_copy(
            update={"text": text, "error": piece.error, "is_whole": piece.is_end}
        )
        changed.add(piece.place)
        if time.monotonic() - drawn >= _REDRAW_SECONDS:
            yield tuple(answers), changed
            changed, drawn = set(), time.monotonic()
    yield tuple(answers), changed
