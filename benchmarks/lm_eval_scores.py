"""Whether suites score as lm-evaluation-harness itself does, record by record.

    python benchmarks/lm_eval_scores.py FOLDER [--template base]

FOLDER holds the weights of a model. The questions of the bundled suite `general` are a task of
lm-evaluation-harness: scored by its own command, by a suite with `lm_eval`, and as records with
`choices`. Needs `pip install "lm-eval>=0.4.13,<0.5"`. Exit code 1 if a score differs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from dolly_assets.generation.model import LoadedModel, load_with_template
from dolly_assets.suites.harness import score_task
from dolly_assets.suites.records import Record, read_suite
from dolly_assets.suites.run import SuiteRun
from dolly_assets.suites.settings import GENERAL_FILE, Suite
from dolly_assets.suites.task_files import TASK_FILE, task_files
from dolly_assets.tokenization.prompt_style import PromptStyle

NAME = "questions"
BATCH = 16


def main() -> int:
    """Print the three scores."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--template", default="base", help="as the model's attributes state it")
    arguments = parser.parse_args()
    records = [each for each in read_suite(GENERAL_FILE, "exact").records if each.choices]
    with tempfile.TemporaryDirectory() as name:
        task = _task(Path(name), records)
        theirs = _command(arguments.folder, Path(name))
        loaded = load_with_template(arguments.folder, PromptStyle(), template=arguments.template)
        ours = {
            "a suite with lm_eval": _of_suite(loaded, task, Path(name) / "stored"),
            "records with choices": _of_records(loaded, records),
        }
    print(f"{'lm_eval itself':22} {sum(theirs) / len(theirs):.4f} of {len(theirs)} questions")
    for way, scores in ours.items():
        differ = sum(a != b for a, b in zip(scores, theirs, strict=True))
        print(f"{way:22} {sum(scores) / len(scores):.4f}, {differ} differ")
    return int(any(scores != theirs for scores in ours.values()))


def _task(folder: Path, records: list[Record]) -> Path:
    """Write the questions as a task of lm-evaluation-harness."""
    data = folder / f"{NAME}.jsonl"
    lines = [
        {
            "question": each.prompt,
            "choices": each.choices,
            "gold": each.choices.index(each.expected[0]),
        }
        for each in records
    ]
    data.write_text("\n".join(map(json.dumps, lines)))
    file = folder / f"{NAME}.yaml"
    config = {
        "task": NAME,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "gold",
    }
    file.write_text(yaml.safe_dump(config))
    return file


def _command(weights: Path, folder: Path) -> list[float]:
    """Score the task with the package's own command."""
    out = folder / "theirs"
    options = {
        "--model": "hf",
        "--model_args": f"pretrained={weights}",
        "--tasks": NAME,
        "--include_path": str(folder),
        "--batch_size": str(BATCH),
        "--device": "cpu",
        "--output_path": str(out),
    }
    words = [word for option in options.items() for word in option]
    subprocess.run(
        [sys.executable, "-m", "lm_eval", "run", *words, "--log_samples"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    [file] = out.rglob(f"samples_{NAME}_*.jsonl")
    samples = sorted(map(json.loads, file.read_text().splitlines()), key=lambda s: s["doc_id"])
    return [float(sample["acc"]) for sample in samples]


def _of_suite(loaded: LoadedModel, task: Path, stored: Path) -> list[float]:
    for place, file in task_files(task).items():
        (stored / place).parent.mkdir(parents=True, exist_ok=True)
        (stored / place).write_bytes(file.read_bytes())
    assert (stored / TASK_FILE).is_file()
    table = score_task(loaded, NAME, stored, limit=None, chat_template=False, batch_size=BATCH)
    return table["score"].to_pylist()


def _of_records(loaded: LoadedModel, records: list[Record]) -> list[float]:
    suite = Suite(chat_template=False)
    run = SuiteRun(loaded, suite, place=NAME, max_new_tokens=1, batch_size=BATCH)
    return run.score(records)["score"].to_pylist()


if __name__ == "__main__":
    sys.exit(main())
