"""`python -m dolly_assets.worker.torchrun ARGUMENTS`: torchrun, whose exit code is that of the rank that ended first.

Asked to stop, torchrun itself would give its ranks a fixed time and end with 1. Here ranks are asked and waited for.
"""

import os
import signal
import sys
import traceback
from types import FrameType

import psutil

from dolly_assets.training.stop import SIGNALS, STOPPED

# The end of ranks that were asked before they listened.
NOT_LISTENING = {-signal.SIGTERM, -signal.SIGINT}


def main() -> int:
    """Runs the ranks to their end; returns the exit code, 128 + N for a rank that died of signal N."""
    asked: list[int] = []

    def ask_ranks(number: int, _: FrameType | None) -> None:
        asked.append(number)
        ranks = psutil.Process().children()
        if not ranks:
            os._exit(STOPPED)
        for rank in ranks:
            rank.send_signal(signal.SIGTERM)

    for number in SIGNALS:
        signal.signal(number, ask_ranks)
    from torch.distributed import DistError, run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        run.main(["--signals-to-handle=SIGHUP", *sys.argv[1:]])
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if asked and failure.exitcode in NOT_LISTENING:
            return STOPPED
        return failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode
    except DistError as error:  # another node did not come, or has gone
        traceback.print_exception(error)
        return STOPPED
    return 0


if __name__ == "__main__":
    sys.exit(main())
