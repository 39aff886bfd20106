"""A vote on the two answers of a turn, as a preference."""

from dolly_assets.conversations.preference import Preference, Side
from dolly_assets.core.errors import DatasetError
from dolly_assets.datasets.preferences.votes import Votes
from dolly_assets.playground.conversation import Conversation, Turn

SIDES: tuple[Side, Side] = ("left", "right")


def preference(conversation: Conversation, turn: Turn, place: int) -> Preference:
    """Return the vote for the answer at a place of a turn."""
    chosen, rejected = turn.answers[place], turn.answers[1 - place]
    return Preference(
        prompt=conversation.prompt(turn),
        chosen=chosen.text,
        rejected=rejected.text,
        chosen_model=chosen.address,
        rejected_model=rejected.address,
        chosen_side=SIDES[place],
        id=turn.id,
    )


def vote(votes: Votes, conversation: Conversation, turn: Turn, place: int) -> Conversation:
    """Keep a vote, and return the conversation with it, where the models are revealed.

    Raises:
        DatasetError: Nothing can be learnt from it.
        ArtifactError: The store does not take it.
    """
    if not turn.is_open:
        raise DatasetError("this turn has no two whole answers to choose from: ask again")
    votes.add(preference(conversation, turn, place))
    voted = turn.model_copy(update={"preferred": place, "is_revealed": True})
    return conversation.with_turn(voted)


def skip(conversation: Conversation, turn: Turn) -> Conversation:
    """Return the conversation with the models of a turn revealed, without a vote."""
    return conversation.with_turn(turn.model_copy(update={"is_revealed": True}))
