"""A family that trains in seconds, in a home of its own.

DeepSpeed's ranks, the store and Dagster are real.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dolly_assets_tests.tiny_training import Bench

TINY_FAMILY = """
type: dolly_assets.components.ModelFamilyComponent
attributes:
  dataset: animals
  base_model:
    untrained:
      config:
        model_type: gpt_neox
        hidden_size: 32
        num_hidden_layers: 2
        num_attention_heads: 2
        intermediate_size: 64
        max_position_embeddings: 128
        hidden_dropout: 0.1
      vocabulary_size: 384
      seed: 1
    license: apache-2.0
  prompt_style: {intro: ""}
  recipe:
    epochs: 4
    max_length: 96
    packing: false
    held_out_examples: 8
    global_batch_size: 8
    micro_batch_size: 2
    learning_rate: 1.0e-3
    warmup_steps: 2
    precision: fp32
    zero_stage: 1
    seed: 7
  compute: {cpu_ranks: 2}
  evaluation: {examples: 8, max_new_tokens: 4, batch_size: 8, prompts: [{instruction: Name an animal.}]}
"""


@dataclass(frozen=True)
class Home:
    """A DOLLY_HOME with the family `tiny`, and `dolly` run in it as a user would."""

    path: Path
    inbox: Path | None = None

    @property
    def variables(self) -> dict[str, str]:
        """What `dolly` is told by its environment."""
        inbox = {"DOLLY_INBOX": str(self.inbox)} if self.inbox else {}
        return {
            "DOLLY_HOME": str(self.path),
            "DOLLY_DEFS": str(self.path / "defs"),
            "DAGSTER_HOME": "",
            **inbox,
        }

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Starts `dolly` in a session of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", "from dolly_assets.cli.main import main; main()", *arguments],
            env={**os.environ, **self.variables},
            text=True,
            start_new_session=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )

    def dolly(self, *arguments: str, code: int = 0, stdin: str = "") -> str:
        """Runs `dolly` to its end and returns what it wrote; both streams when it should fail."""
        process = self.start(*arguments, stdin=subprocess.PIPE)
        out, err = process.communicate(stdin, timeout=300)
        assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
        return out if code == 0 else out + err

    def status(self) -> dict[int, dict[str, Any]]:
        """Epoch -> row of `dolly status --json`, of the family tiny on animals."""
        rows = json.loads(self.dolly("status", "--json"))
        return {
            row["epoch"]: row
            for row in rows
            if (row["family"], row["dataset"]) == ("tiny", "animals")
        }


@pytest.fixture(scope="session")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSONL file of 48 examples with one right answer each."""
    path = tmp_path_factory.mktemp("data") / "animals.jsonl"
    legs = {
        "four": ("cat", "dog"),
        "two": ("hen", "owl"),
        "six": ("ant", "fly"),
        "none": ("cod", "eel"),
    }
    questions = (
        "How many legs has a {}?",
        "Legs of a {}?",
        "Count the legs of a {}.",
        "A {} has how many legs?",
        "Say the legs of a {}.",
        "{}: legs?",
    )
    rows = [
        {"instruction": question.format(animal), "response": count}
        for question in questions
        for count, animals in legs.items()
        for animal in animals
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory, animals: Path) -> Callable[[], Home]:
    """Makes homes with the family `tiny` and the dataset `animals`, and nothing trained."""

    def make() -> Home:
        path = tmp_path_factory.mktemp("home")
        (path / "defs" / "tiny").mkdir(parents=True)
        (path / "defs" / "tiny" / "defs.yaml").write_text(TINY_FAMILY)
        home = Home(path)
        home.dolly("datasets", "add", "animals", str(animals), "--answers", "exact")
        return home

    return make


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> "Bench":
    """A store with what a worker's training starts from."""
    from dolly_assets_tests.tiny_training import make_bench

    return make_bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="session")
def trained(new_home: Callable[[], Home], tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home in which the epochs 1-2 of tiny were trained in one go. Tests must leave it as it is.

    The processes of a parallel test run share it: the first that needs it trains.
    """
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with (shared / "trained").open("a+") as note:
        fcntl.flock(note, fcntl.LOCK_EX)
        note.seek(0)
        if path := note.read():
            return Home(Path(path))
        home = new_home()
        home.dolly("train", "--model", "tiny", "--dataset", "animals", "--epochs", "1-2")
        note.write(str(home.path))
    return home


@pytest.fixture
def trained_copy(trained: Home, tmp_path: Path) -> Home:
    """A copy of `trained` that a test may change."""
    return Home(Path(shutil.copytree(trained.path, tmp_path / "home")))
