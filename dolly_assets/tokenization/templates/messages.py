"""A conversation as chat templates read it: messages and tools as plain dictionaries."""

import json
import re
from typing import Any

from dolly_assets.conversations import Conversation, Message

_READS_CONTEXT = re.compile(r"""\.context\b|\[\s*['"]context['"]\s*\]""")


class TemplateInput:
    """Turns conversations into what one template reads.

    Fields that a message does not have are left out, since most templates print None.
    """

    def __init__(self, template_text: str, *, arguments_as_json: bool = False) -> None:
        """Prepare for a template.

        Args:
            template_text: Its source; one that never mentions a message's context gets it below
                the content.
            arguments_as_json: Whether it expects a tool call's arguments as JSON, not as an object.
        """
        self._reads_context = bool(_READS_CONTEXT.search(template_text))
        self._arguments_as_json = arguments_as_json

    def messages(self, conversation: Conversation) -> list[dict[str, Any]]:
        """Return the messages with the keys of OpenAI's chat format."""
        return [self._message(message) for message in conversation.messages]

    def tools(self, conversation: Conversation) -> list[Any]:
        """Return the tools, whose schemas are copied."""
        return [dict(tool) for tool in conversation.tools]

    def _message(self, message: Message) -> dict[str, Any]:
        splits_context = self._reads_context and message.context
        fields: dict[str, Any] = {
            "role": message.role,
            "content": message.content if splits_context else message.text,
        }
        if splits_context:
            fields["context"] = message.context
        if message.reasoning:
            fields["reasoning_content"] = message.reasoning
        if message.tool_calls:
            fields["tool_calls"] = [
                {
                    "type": "function",
                    "function": {"name": call.name, "arguments": self._arguments(call.arguments)},
                    **({"id": call.id} if call.id else {}),
                }
                for call in message.tool_calls
            ]
        if message.tool_call_id:
            fields["tool_call_id"] = message.tool_call_id
        if message.name:
            fields["name"] = message.name
        return fields

    def _arguments(self, arguments: Any) -> Any:
        plain = dict(arguments)
        return json.dumps(plain, ensure_ascii=False) if self._arguments_as_json else plain
