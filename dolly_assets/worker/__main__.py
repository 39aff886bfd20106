"""`python -m dolly_assets.worker SPEC`: one rank of a worker.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | an error, with its traceback in the log |
| 2 | an error that the user can fix |
| 75 | stopped on request, or because another node was lost; the next run resumes from there |

It knows no task: each is a module of `tasks/`.
"""

import os
import sys
import traceback
import warnings
from pathlib import Path

from dagster_pipes import PipesContext, PipesDefaultContextLoader, open_dagster_pipes

from dolly_assets.core.errors import ConfigurationError, DollyError, TrainingStopped
from dolly_assets.core.processes import END_WITH_STDIN, end_with_stdin
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.training.loop.stop import STOPPED, StopRequest
from dolly_assets.training.process_group import lost_another_node
from dolly_assets.worker.explanation import explanation
from dolly_assets.worker.message_store import MessageWriter
from dolly_assets.worker.messages import Messenger
from dolly_assets.worker.spec import (
    Evaluate,
    ExportModel,
    PrepareBaseModel,
    Sample,
    ScoreSuites,
    Tokenize,
    Train,
    WorkerSpec,
    has_task,
    read_spec,
)
from dolly_assets.worker.tasks.evaluate import evaluate
from dolly_assets.worker.tasks.export import export
from dolly_assets.worker.tasks.prepare_base_model import prepare_base_model
from dolly_assets.worker.tasks.sample import sample
from dolly_assets.worker.tasks.score_suites import score_suites
from dolly_assets.worker.tasks.tokenize import tokenize
from dolly_assets.worker.tasks.train import train


def run_task(
    spec: WorkerSpec, store: ArtifactStore, messenger: Messenger, stop: StopRequest
) -> None:
    """Run the task of a spec; only a training has something to save when it is asked to stop."""
    if has_task(spec, Train):
        train(spec, store, messenger, stop)
    elif has_task(spec, PrepareBaseModel):
        prepare_base_model(spec, store, messenger)
    elif has_task(spec, Tokenize):
        tokenize(spec, store, messenger)
    elif has_task(spec, Evaluate):
        evaluate(spec, store, messenger)
    elif has_task(spec, Sample):
        sample(spec, store, messenger)
    elif has_task(spec, ScoreSuites):
        score_suites(spec, store, messenger)
    elif has_task(spec, ExportModel):
        export(spec, store, messenger)
    else:
        raise NotImplementedError(spec.task.task)


def main() -> int:
    """Run the task of the spec that the command line names; return the exit code."""
    stop = StopRequest()
    stop.listen()
    _quiet_libraries()
    if os.environ.get(END_WITH_STDIN):
        end_with_stdin(exit_code=1)
    try:
        spec = read_spec(Path(sys.argv[1]).read_bytes())
    except ConfigurationError as error:  # without it nobody knows where messages go
        sys.exit(str(error))
    writer = MessageWriter(ObjectStore(spec.store_url, spec.s3))
    with open_dagster_pipes(context_loader=PipesDefaultContextLoader(), message_writer=writer):
        messenger = Messenger(PipesContext.get(), rank=int(os.environ.get("RANK", "0")))
        try:
            run_task(spec, spec.open_store(), messenger, stop)
        except TrainingStopped as stopped:
            messenger.emit_stopped(str(stopped))
            return STOPPED
        except DollyError as error:
            if lost_another_node(error):
                messenger.log(str(error))
                return STOPPED
            messenger.emit_failed(str(error), by_user=True)
            return 2
        except Exception as error:  # noqa: BLE001 every error is reported before the process ends
            if stop.is_requested or lost_another_node(error):  # another rank left first
                traceback.print_exc()
                return STOPPED
            explained = explanation(error, spec)
            messenger.emit_failed(
                explained or f"{type(error).__name__}: {error}", by_user=bool(explained)
            )
            traceback.print_exc()
            return 2 if explained else 1
    return 0


def _quiet_libraries() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.simplefilter("ignore", FutureWarning)  # from libraries about other libraries
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("DS_LOG_LEVEL", "error")


if __name__ == "__main__":
    sys.exit(main())
