"""A preference: two answers to one prompt, of which one was chosen.

Its JSON is the conversational form of TRL's preference datasets
(https://huggingface.co/docs/trl/dataset_formats), with what is known of the two models beside it.
"""

from dataclasses import dataclass
from typing import Any, Literal

from dolly_assets.conversations.conversation import Conversation, Message

Side = Literal["left", "right", ""]


@dataclass(frozen=True)
class Preference:
    """Two answers to one prompt.

    Attributes:
        prompt: The messages that both models answered.
        chosen: The answer that was preferred.
        rejected: The other one.
        chosen_model: The model that gave the first, with its digest; empty if unknown.
        rejected_model: The model that gave the other.
        chosen_side: Where the preferred answer was shown; empty if unknown.
        id: The record's identifier, if the source states one.
    """

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    chosen_model: str = ""
    rejected_model: str = ""
    chosen_side: Side = ""
    id: str = ""

    def row(self) -> dict[str, str]:
        """Return the preference as a row of a table with PREFERENCE_SCHEMA."""
        return {
            "prompt": Conversation(self.prompt).messages_json(),
            "chosen": self.chosen,
            "rejected": self.rejected,
            "chosen_model": self.chosen_model,
            "rejected_model": self.rejected_model,
            "chosen_side": self.chosen_side,
            "id": self.id,
        }

    def as_json(self) -> dict[str, Any]:
        """Return the preference as trainers of preferences read it."""
        return {
            "prompt": [message.as_json() for message in self.prompt],
            "chosen": [Message("assistant", self.chosen).as_json()],
            "rejected": [Message("assistant", self.rejected).as_json()],
            "chosen_model": self.chosen_model,
            "rejected_model": self.rejected_model,
            "chosen_side": self.chosen_side,
            "id": self.id,
        }
