"""How a process exits together with the one that started it.

Knows pipes, not what the processes do.
"""

import os
import threading

END_WITH_STDIN = "DOLLY_END_WITH_STDIN"  # set for workers: they exit when their launcher is gone


def end_with_stdin(exit_code: int) -> None:
    """End this process as soon as its stdin is closed.

    Stdin is a pipe that only the parent holds open, so it is closed however the parent ends.
    """

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os._exit(exit_code)

    threading.Thread(target=wait, name="end with stdin", daemon=True).start()
