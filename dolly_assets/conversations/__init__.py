"""Conversations: the canonical form of an example, whatever its source and its template.

It knows messages and the tables that hold them; it knows neither files nor tokens.

- `conversation.py`: messages, tool calls, conversations, and their form as JSON.
- `text.py`: conversations as their readers see them.
- `tables.py`: tables of conversations, and those of single exchanges, read alike; of preferences.
- `preference.py`: two answers to one prompt, of which one was chosen.
"""

from dolly_assets.conversations.conversation import ROLES, Conversation, Message, Role, ToolCall

__all__ = ["ROLES", "Conversation", "Message", "Role", "ToolCall"]
