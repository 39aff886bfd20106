"""`python -m dolly_assets.worker.torchrun ARGUMENTS`: torchrun with the first rank's exit code.

The exit code is that of the rank that ended first. When asked to stop, torchrun itself would give
its ranks a fixed time and exit with 1; here ranks are asked to stop and waited for. It knows
processes, not what they train.
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

# Exit codes of ranks that were asked to stop before they handled the signal.
NOT_LISTENING = {-signal.SIGTERM, -signal.SIGINT}
# All ranks leave their group together, so that other nodes end at about the same time; one that is
# lost never ends.
OTHER_NODES_SECONDS = 10.0


def main() -> int:
    """Run the ranks to their end; return the exit code, 128 + N for a rank killed by signal N."""
    stop = StopRequest()
    stop.defer(_ask_ranks)
    stop.listen()
    from torch.distributed import DistError, run
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher import api

    agent = functools.partial(LocalElasticAgent, exit_barrier_timeout=OTHER_NODES_SECONDS)
    # torchrun has no option for it.
    api.LocalElasticAgent = agent  # pyright: ignore[reportPrivateImportUsage]
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
    except DistError as error:  # another node did not join, or was lost
        traceback.print_exception(error)
        return STOPPED
    return 0


def _meet_first_node(config: "LaunchConfig") -> None:
    """Return when the first node waits for this one.

    A first node that has lost this one, and has not noticed yet, still answers; torchrun would
    mistake it for its successor, and both would wait. Its store remembers which nodes have joined.

    Raises:
        DistError: It did not start in time.
    """
    from torch.distributed import DistNetworkError, TCPStore  # pyright: ignore[reportPrivateImportUsage]

    host, _, port = config.rdzv_endpoint.rpartition(":")
    timeout = timedelta(seconds=int(config.rdzv_configs["timeout"]))
    is_first_time = False
    while not is_first_time:
        store = TCPStore(host, int(port), is_master=False, wait_for_workers=False, timeout=timeout)
        with suppress(DistNetworkError):  # the store has ended
            is_first_time = store.add(f"node {config.rdzv_configs['rank']}", 1) == 1
            if not is_first_time:
                store.wait(["its end"])


def _ask_ranks() -> None:
    """Forward a request to stop to the ranks.

    Without ranks, before they start or after they end, torchrun waits for other nodes; it then
    ends at once.
    """
    ranks = psutil.Process().children()
    if not ranks:
        os._exit(STOPPED)
    for rank in ranks:
        rank.send_signal(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
