"""Ignores further interruptions while a worker is being stopped after the first one.

It knows signals only.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator

from dolly_assets.training.loop.stop import SIGNALS


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore requests to stop within the block: a worker is being stopped, and may be saving."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda _number, _frame: None) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
