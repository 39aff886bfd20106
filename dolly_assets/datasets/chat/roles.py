"""Who speaks: the names of roles in sources, and the canonical role of each."""

from dolly_assets.conversations import Role
from dolly_assets.datasets.chat.losses import Losses, RecordError

CALL = "function_call"
"""Role of a turn whose text is a call as JSON: the assistant makes it."""

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
    "tool_response": "tool",
    "function_response": "tool",
}
"""Roles of OpenAI, ShareGPT, LLaMA-Factory, Gemini and Llama -> canonical role."""
CALLS = (CALL, "tool_call")


def role_of(stated: object, losses: Losses) -> Role:
    """Return the canonical role of a stated one, in any case.

    Raises:
        RecordError: It is unknown.
    """
    if not isinstance(stated, str):
        raise RecordError(f"its role is {_shown(stated)}; expected one of {', '.join(ROLES)}")
    name = stated.strip().casefold()
    if name not in ROLES:
        raise RecordError(
            f"unknown role {_shown(stated)}; expected one of {', '.join((*ROLES, *CALLS))}"
        )
    if name == "developer":
        losses.note("read the role 'developer' as 'system'")
    return ROLES[name]


def is_call(stated: object) -> bool:
    """Whether a stated role is that of a call."""
    return isinstance(stated, str) and stated.strip().casefold() in CALLS


def _shown(stated: object) -> str:
    return "missing" if stated is None else repr(stated)[:80]
