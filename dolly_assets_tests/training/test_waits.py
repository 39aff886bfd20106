"""What a step reads from the device, each of which waits for it, and what it walks on the host."""

import traceback
from collections import Counter
from pathlib import Path

import pytest

from dolly_assets.training.loop.request import FineTuneRequest
from dolly_assets_tests.training import runs
from dolly_assets_tests.training.test_fine_tune import RECIPE, job, prepared

pytestmark = pytest.mark.slow

READS = ("item", "cpu", "tolist", "__float__")
LIBRARIES = ("torch", "deepspeed")


def counted(job: FineTuneRequest) -> tuple[int, Counter[str]]:
    """Train, and return the number of steps and of calls that our code and the Trainer make."""
    import torch
    from transformers import PreTrainedModel

    counts: Counter[str] = Counter()

    def count(owner: type, name: str) -> None:
        function = getattr(owner, name)

        def counting(*arguments: object, **named: object) -> object:
            callers = [frame.filename for frame in traceback.extract_stack(limit=4)[:-1]]
            if not any(f"/{library}/" in callers[-1] for library in LIBRARIES):
                counts[name] += 1
            return function(*arguments, **named)

        setattr(owner, name, counting)

    for name in READS:
        count(torch.Tensor, name)
    count(PreTrainedModel, "num_parameters")
    return len(runs._run(job, {}, None, False).losses), counts


def test_a_step_reads_its_losses_and_its_norm_and_walks_no_parameters(tmp_path: Path) -> None:
    weights = prepared(tmp_path / "weights", dropout=0.0)
    recipe = RECIPE.model_copy(update={"micro_batch_size": 2})
    pool = runs.processes()
    jobs = [
        job(weights, tmp_path / str(epochs), recipe=recipe, last_epoch=epochs) for epochs in (1, 2)
    ]
    futures = [pool.submit(counted, each) for each in jobs]
    (few, fewer), (many, more) = [future.result(timeout=120) for future in futures]
    pool.shutdown()
    per_step = {name: (more[name] - fewer[name]) / (many - few) for name in more}
    # A read per epoch, of the data loader's seed, is shared by its steps.
    assert per_step["item"] <= 2 + 1 / (many - few), per_step
    assert per_step["cpu"] <= 1, per_step
    assert per_step.get("tolist", 0) + per_step.get("__float__", 0) == 0, per_step
    assert per_step.get("num_parameters", 0) == 0, per_step
