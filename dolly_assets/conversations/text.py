"""A conversation as its readers see it: each turn under its role."""

from dolly_assets.conversations.conversation import Conversation, Message


def as_text(conversation: Conversation) -> str:
    """Return the turns, each under its role; of a single message its text alone."""
    if len(conversation.messages) == 1 and conversation.messages[0].role == "user":
        return conversation.messages[0].text
    return "\n\n".join(f"{message.role}:\n{_said(message)}" for message in conversation.messages)


def _said(message: Message) -> str:
    calls = (call.text for call in message.tool_calls)
    return "\n".join(filter(None, [message.reasoning, message.text, *calls]))
