"""Tasks of lm-evaluation-harness as suites: https://github.com/EleutherAI/lm-evaluation-harness.

Its package is needed where tasks are scored, and nowhere else.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.text import one_line
from dolly_assets.generation.model import LoadedModel
from dolly_assets.suites.results import rows_of
from dolly_assets.suites.task_files import located, texts_in


def score_task(
    loaded: LoadedModel,
    suite: str,
    task: str | Path,
    *,
    limit: int | None,
    chat_template: bool,
    batch_size: int,
) -> pa.Table:
    """Return what a model scores on a task, as a table of RESULTS_SCHEMA.

    The score of a record is the task's first metric that is a number for each of them.

    Args:
        loaded: The model.
        suite: What errors call the suite.
        task: The name of a task, or the folder with the files of one.
        limit: The number of records of each task to score.
        chat_template: Whether prompts are laid out in the chat template.
        batch_size: How many requests are computed at once.

    Raises:
        ConfigurationError: The package is not installed, or the task cannot be loaded.
    """
    try:
        from lm_eval import simple_evaluate  # pyright: ignore[reportMissingImports]
        from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]
        from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigurationError(
            f"suite {suite}: lm-eval is not installed where workers run: "
            "pip install 'lm-eval>=0.4.13,<0.5'"
        ) from error
    model: Any = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=batch_size)
    asked = located(task) if isinstance(task, Path) else task
    try:
        found = simple_evaluate(
            model=model,
            tasks=[asked],
            task_manager=TaskManager(include_defaults=isinstance(asked, str)),
            limit=limit,
            apply_chat_template=chat_template,
            bootstrap_iters=0,
            log_samples=True,
        )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(
            f"suite {suite}: the task {_name(asked)} of lm-eval cannot be scored: "
            f"{one_line(error, 300)}; where the network cannot be reached, name a YAML file whose "
            "data_files lie beside it"
        ) from error
    samples = found["samples"] if found else {}
    return rows_of([row for name, each in samples.items() for row in _rows(suite, name, each)])


def _name(task: str | Mapping[str, Any]) -> str:
    return task if isinstance(task, str) else str(task["task"])


def _rows(suite: str, task: str, samples: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the records of a task, scored by its first filter and metric."""
    first = [each for each in samples if each["filter"] == samples[0]["filter"]]
    metric = next(
        (name for name in first[0]["metrics"] if isinstance(first[0][name], int | float)), None
    )
    if metric is None:
        raise ConfigurationError(
            f"suite {suite}: the task {task} has no metric that is a number for each record, found "
            f"{', '.join(first[0]['metrics'])}: name another task"
        )
    for sample in sorted(first, key=lambda each: each["doc_id"]):
        yield {
            "id": f"{task}/{sample['doc_id']}",
            "line": sample["doc_id"] + 1,
            "scorer": f"lm_eval {metric}",
            "prompt": _prompt(sample),
            "expected": [str(sample["target"])],
            "answer": str(sample["filtered_resps"]),
            "score": float(sample[metric]),
        }


def _prompt(sample: Mapping[str, Any]) -> str:
    """Return what the first request of a sample asked."""
    arguments = sample["arguments"]
    return str(next(iter(texts_in(_listed(arguments))), ""))


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(each) for key, each in value.items()}
    return [_listed(each) for each in value] if isinstance(value, list | tuple) else value
