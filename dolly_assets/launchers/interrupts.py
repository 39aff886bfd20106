"""Being interrupted once is enough: whoever asks again changes nothing while what runs is being ended."""

import contextlib
import signal
import threading
from collections.abc import Iterator

from dolly_assets.training.loop.stop import SIGNALS


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Requests to stop are not heard within it: a worker is being ended already, and may have something to save."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda _number, _frame: None) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
