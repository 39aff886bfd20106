"""`python -m dolly_assets.worker.torchrun ARGUMENTS`: torchrun, whose exit code is that of the rank that ended first.

Asked to stop, torchrun itself would give its ranks a fixed time and end with 1. Here ranks are
asked and waited for.
"""

import functools
import os
import signal
import sys
import traceback
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import psutil

from dolly_assets.training.loop.stop import STOPPED, StopRequest

if TYPE_CHECKING:
    from torch.distributed.launcher.api import LaunchConfig

# The end of ranks that were asked before they listened.
NOT_LISTENING = {-signal.SIGTERM, -signal.SIGINT}
# All ranks leave their group together, so that other nodes end about now; one that is lost ends
# never.
OTHER_NODES_SECONDS = 10.0


def main() -> int:
    """Runs the ranks to their end; returns the exit code, 128 + N for a rank that died of signal N."""
    stop = StopRequest()
    stop.defer(_ask_ranks)
    stop.listen()
    from torch.distributed import DistError, run
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher import api

    agent = functools.partial(LocalElasticAgent, exit_barrier_timeout=OTHER_NODES_SECONDS)
    api.LocalElasticAgent = agent  # pyright: ignore[reportPrivateImportUsage] torchrun has no option for it
    given = run.parse_args(["--signals-to-handle=SIGHUP", *sys.argv[1:]])
    try:
        if given.node_rank:
            _meet_first_node(run.config_from_args(given)[0])
        run.run(given)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if stop.is_requested and failure.exitcode in NOT_LISTENING:
            return STOPPED
        return failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode
    except DistError as error:  # another node did not come, or has gone
        traceback.print_exception(error)
        return STOPPED
    return 0


def _meet_first_node(config: "LaunchConfig") -> None:
    """Returns when the first node waits for this one.

    One that has lost this node, and has yet to notice, still answers; torchrun would take it for
    the one that comes after it, and both would wait. Its store remembers who has come.

    Raises:
        DistError: It did not come in time.
    """
    from torch.distributed import DistNetworkError, TCPStore  # pyright: ignore[reportPrivateImportUsage]

    host, _, port = config.rdzv_endpoint.rpartition(":")
    timeout = timedelta(seconds=int(config.rdzv_configs["timeout"]))
    is_first_time = False
    while not is_first_time:
        store = TCPStore(host, int(port), is_master=False, wait_for_workers=False, timeout=timeout)
        with suppress(DistNetworkError):  # it has ended
            is_first_time = store.add(f"node {config.rdzv_configs['rank']}", 1) == 1
            if not is_first_time:
                store.wait(["its end"])


def _ask_ranks() -> None:
    """Hands a request to stop on.

    Without ranks, not yet or no more, torchrun waits for other nodes, and ends here.
    """
    ranks = psutil.Process().children()
    if not ranks:
        os._exit(STOPPED)
    for rank in ranks:
        rank.send_signal(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
