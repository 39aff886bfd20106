"""Faults that only conversations have: turns that do not fit together, and turns without text.

Knows roles, calls and results; it does not know what a template accepts.
"""

import re
from collections.abc import Callable, Iterator
from itertools import pairwise

from dolly_assets.conversations import Conversation
from dolly_assets.datasets.quality.finding import FlaggedRecord, QualityFinding, excerpt, finding
from dolly_assets.datasets.quality.records import Records
from dolly_assets.datasets.quality.turns import called

Fault = tuple[str, str]
"""Kind, and the text in which it shows."""
_VISIBLE = re.compile(r"[^\s\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\x00-\x1f\x7f-\x9f\u00ad]")


def turns(records: Records) -> QualityFinding:
    """Find conversations whose turns do not fit together."""
    return finding("turns", len(records), _flagged(records, _misfits))


def empty_turns(records: Records) -> QualityFinding:
    """Find turns of the user or the assistant without a visible character and without a call."""
    return finding("empty", len(records), _flagged(records, _empty))


def _flagged(
    records: Records, faults: Callable[[Conversation], Iterator[Fault]]
) -> Iterator[FlaggedRecord]:
    for number, conversation in enumerate(records.conversations()):
        for kind, text in faults(conversation):
            yield FlaggedRecord(record=number, kind=kind, excerpt=excerpt(text))


def _empty(conversation: Conversation) -> Iterator[Fault]:
    for number, message in enumerate(conversation.messages, 1):
        is_said = message.role in ("system", "tool") or message.tool_calls
        if not is_said and not _VISIBLE.search(message.text):
            yield f"empty turn of the {message.role}", f"turn {number}"


def _misfits(conversation: Conversation) -> Iterator[Fault]:
    messages = conversation.messages
    roles = [message.role for message in messages if message.role != "system"]
    if "user" not in roles:
        yield "no turn of the user", messages[0].text if messages else ""
    elif roles[0] != "user":
        yield "begins without the user", messages[0].text
    if roles and roles[-1] != "assistant":
        yield "ends without the assistant", messages[-1].text
    for number, (first, second) in enumerate(pairwise(messages), 2):
        if first.role == second.role != "tool":
            yield f"two turns of the {first.role} in a row", f"turn {number}: {second.text}"
    yield from _calls(conversation)


def _calls(conversation: Conversation) -> Iterator[Fault]:
    """Yield what is wrong with calls and their results."""
    declared = {tool.get("function", {}).get("name") for tool in conversation.tools}
    open_ids: list[str] = []
    for message in conversation.messages:
        if message.role != "tool":
            if open_ids:
                yield "call without a result", message.text
            open_ids = [call.id for call in message.tool_calls]
            if any(call.name not in declared for call in message.tool_calls):
                yield "call of a tool that is not declared", called(message)
        elif not open_ids:
            yield "result without a call", message.text
        elif message.tool_call_id and message.tool_call_id not in open_ids and any(open_ids):
            yield "result of another call", f"{message.tool_call_id}: {message.text}"
        else:
            is_named = message.tool_call_id in open_ids
            open_ids.pop(open_ids.index(message.tool_call_id) if is_named else 0)
