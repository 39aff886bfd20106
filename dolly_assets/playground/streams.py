"""The answers of several models at once, as they arrive.

Each answer has a thread, which waits for the network; the page has one, which draws. It knows
pieces of text, and no page.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from dolly_assets.core.errors import DollyError
from dolly_assets.core.text import one_line

Stream = Callable[[], Iterator[str]]


class Piece(NamedTuple):
    """A part of an answer.

    Attributes:
        place: Which of the answers.
        text: What is added to it.
        error: Why it has ended, if something is wrong.
        is_end: Whether it has ended as its model meant it.
    """

    place: int
    text: str = ""
    error: str = ""
    is_end: bool = False


def at_once(streams: Sequence[Stream]) -> Iterator[Piece]:
    """Yield pieces of all answers in the order in which they arrive, until all have ended.

    Where nobody reads on, the answers are ended.
    """
    arrived: queue.Queue[Piece | None] = queue.Queue()
    ended = threading.Event()

    def read(place: int, stream: Stream) -> None:
        try:
            for text in stream():
                arrived.put(Piece(place, text))
                if ended.is_set():
                    return
            arrived.put(Piece(place, is_end=True))
        except DollyError as error:
            arrived.put(Piece(place, error=one_line(error)))
        finally:
            arrived.put(None)

    for place, stream in enumerate(streams):
        threading.Thread(target=read, args=(place, stream), daemon=True).start()
    left = len(streams)
    try:
        while left:
            piece = arrived.get()
            if piece is None:
                left -= 1
            else:
                yield piece
    finally:
        ended.set()
