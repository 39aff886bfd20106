"""The sidebar: which models answer, how, and what becomes of the conversation.

The models stand in the page's address as well, so that a link opens the same ones.
"""
# pyright: reportMissingImports=false

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import streamlit as st

from dolly_assets.core.errors import DatasetError
from dolly_assets.core.text import one_line
from dolly_assets.playground.client import Sampling, ServedModel
from dolly_assets.playground.conversation import Conversation

FIRST, SECOND, BLIND = "model", "compare", "blind"
"""Keys of the page's address, and of the controls."""


class Chosen(NamedTuple):
    """What the sidebar is set to.

    Attributes:
        models: One model or two.
        is_blind: Whether the names are hidden until the vote.
        sampling: How tokens are chosen.
        context: What the next message refers to.
    """

    models: tuple[ServedModel, ...]
    is_blind: bool
    sampling: Sampling
    context: str


def conversation() -> Conversation:
    """Return the conversation of this tab."""
    if "conversation" not in st.session_state:
        st.session_state["conversation"] = Conversation()
    return st.session_state["conversation"]


def keep(changed: Conversation) -> None:
    """Make a conversation that of this tab."""
    st.session_state["conversation"] = changed


def label(model: ServedModel) -> str:
    """Return what people read of a model."""
    if model.epoch is None:
        return model.name
    epoch = f"epoch {model.epoch}" if model.epoch else "base model"
    return f"{model.name} · {epoch}" if model.stage else model.name


def show(models: Sequence[ServedModel]) -> Chosen:
    """Show the sidebar, and return what it is set to."""
    by_name = {model.name: model for model in models}
    with st.sidebar:
        st.header("Playground", anchor=False)
        chosen, is_blind = _models(by_name)
        _system()
        sampling = _sampling()
        context = st.text_area(
            "Context of the next message",
            key="context",
            height=68,
            placeholder="What the message refers to, such as a text to summarize",
            help="Handed to the model as the context of a dataset's record.",
        )
        _conversation_file()
    return Chosen(tuple(by_name[name] for name in chosen), is_blind, sampling, context)


def _models(by_name: Mapping[str, ServedModel]) -> tuple[list[str], bool]:
    _read_address(by_name)
    first = _select("Model", FIRST, by_name)
    chosen, is_blind = [first], False
    if st.toggle("Compare with a second model", key="two"):
        chosen.append(_select("Second model", SECOND, by_name))
        is_blind = st.toggle(
            "Blind",
            key=BLIND,
            help="Names are hidden, and sides are drawn anew for every question, until you vote.",
        )
    _write_address(chosen, is_blind=is_blind)
    return chosen, is_blind


def _select(title: str, key: str, by_name: Mapping[str, ServedModel]) -> str:
    return st.selectbox(
        title, list(by_name), key=key, format_func=lambda name: label(by_name[name])
    )


def _read_address(by_name: Mapping[str, ServedModel]) -> None:
    """Set the controls as the address states, when the page is opened."""
    if FIRST in st.session_state:
        return
    names, asked = list(by_name), st.query_params
    unknown = [asked[key] for key in (FIRST, SECOND) if asked.get(key, names[0]) not in by_name]
    for name in unknown:
        st.session_state.setdefault("problems", []).append(
            f"Unknown model {name!r} in this page's address: choose one of the list instead"
        )
    champions = [name for name, model in by_name.items() if model.stage == "production"]
    default = (champions or names)[0]
    first, second = asked.get(FIRST, default), asked.get(SECOND, names[-1])
    st.session_state[FIRST] = first if first in by_name else default
    st.session_state[SECOND] = second if second in by_name else names[-1]
    st.session_state["two"] = asked.get(SECOND) in by_name
    st.session_state[BLIND] = asked.get(BLIND) == "1"


def _write_address(chosen: Sequence[str], *, is_blind: bool) -> None:
    wanted = dict(zip((FIRST, SECOND), chosen, strict=False)) | ({BLIND: "1"} if is_blind else {})
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)


def _system() -> None:
    """Let people write the system prompt; a new one begins a new conversation."""
    st.session_state.setdefault("system", conversation().system)
    stated = st.text_area(
        "System prompt",
        key="system",
        height=68,
        placeholder="None",
        help="Stands before everything else. Changing it begins a new conversation.",
    )
    if stated != conversation().system:
        keep(Conversation(system=stated))


def _sampling() -> Sampling:
    default = Sampling()
    with st.expander("Sampling", icon=":material/tune:"):
        temperature = st.slider(
            "Temperature", 0.0, 2.0, default.temperature, 0.05, help="0 gives the likeliest answer."
        )
        top_p = st.slider(
            "Top p", 0.05, 1.0, default.top_p, 0.05, help="Only the likeliest tokens count."
        )
        max_tokens = st.number_input("Most tokens of an answer", 1, 4096, default.max_tokens)
        seed = st.number_input("Seed", 0, 2**31 - 1, default.seed)
    return Sampling(
        temperature=temperature, top_p=top_p, max_tokens=int(max_tokens), seed=int(seed)
    )


def _conversation_file() -> None:
    """Begin, download and open conversations."""
    current = conversation()
    st.button(
        "New conversation",
        icon=":material/add_comment:",
        width="stretch",
        disabled=not current.turns,
        on_click=lambda: keep(Conversation(system=current.system)),
    )
    st.download_button(
        "Download as JSON",
        data=current.as_json(),
        file_name=f"conversation-{current.created_at:%Y-%m-%d-%H%M}.json",
        mime="application/json",
        icon=":material/download:",
        width="stretch",
        disabled=not current.turns,
        on_click="ignore",
    )
    with st.expander("Open a conversation", icon=":material/upload_file:"):
        st.file_uploader(
            "A file that was downloaded here",
            type="json",
            key="file",
            on_change=_open,
        )


def _open() -> None:
    """Continue the conversation of a file."""
    file = st.session_state["file"]
    if file is None:
        return
    try:
        opened = Conversation.read(file.getvalue(), file.name)
    except DatasetError as error:
        st.session_state.setdefault("problems", []).append(f"Not opened: {one_line(error)}")
        return
    keep(opened)
    st.session_state["system"] = opened.system
