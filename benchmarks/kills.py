"""Kill a training at random moments until it completes, and compare its weights with another's.

    python benchmarks/kills.py [--kills 50] [--stops 20] [--seed 1]

A tiny family trains three epochs on two CPU ranks. `kill -9` hits a random process of its tree: the
launching process, torchrun, a rank, or the sampler. SIGTERM goes to the launching process or to
torchrun, as a cluster would send it. The same training is run again after each signal until its
three epochs exist; the next training begins with an empty store. Most of them use the launcher as
the asset does; some go through `dolly train`. Exit code 1 if any weights differ or a step was lost
that should not be.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

from dolly_assets.core.errors import DollyError
from dolly_assets.family import FamilyAttributes, ModelFamily
from dolly_assets.launchers.local import LocalLauncher
from dolly_assets.planning.prices import Prices
from dolly_assets.registry.training import Training, plan_resume
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets.worker.messages import Message
from dolly_assets.worker.spec import Train, WorkerSpec, ref

EPOCHS = 3
RECORDS = 600
HELD_OUT = 40
BATCH = 8
FAMILY = {
    "type": "dolly_assets.components.ModelFamilyComponent",
    "attributes": {
        "dataset": "sums",
        "base_model": {
            "untrained": {
                "config": {
                    "model_type": "gpt_neox",
                    "hidden_size": 32,
                    "num_hidden_layers": 2,
                    "num_attention_heads": 2,
                    "intermediate_size": 64,
                    "max_position_embeddings": 128,
                    "hidden_dropout": 0.1,
                },
                "vocabulary_size": 384,
            },
            "license": "apache-2.0",
        },
        "prompt_style": {"intro": ""},
        "recipe": {
            "epochs": EPOCHS,
            "max_length": 96,
            "held_out_examples": HELD_OUT,
            "packing": False,
            "global_batch_size": BATCH,
            "micro_batch_size": 2,
            "learning_rate": 1.0e-3,
            "scheduler": "linear",
            "warmup_steps": 20,
            "precision": "fp32",
            "zero_stage": 1,
        },
        "compute": {"cpu_ranks": 2, "save_minutes": 0.03},
        "evaluation": {
            "examples": 8,
            "max_new_tokens": 2,
            "batch_size": 8,
            "prompts": [{"instruction": "Add 1 to 1."}],
        },
    },
}
DOLLY = [sys.executable, "-c", "from dolly_assets.cli.main import main; main()"]


@dataclass
class Tally:
    """What happened in all runs of one kind."""

    title: str
    hits: Counter[str] = field(default_factory=Counter)  # process hit
    moments: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    runs: int = 0
    retrained: int = 0  # steps trained more than once
    differing: int = 0  # epochs whose weights are not those of the training left alone

    @property
    def count(self) -> int:
        """Processes hit."""
        return self.hits.total()

    def __str__(self) -> str:
        def listed(counter: Counter[str]) -> str:
            return ", ".join(f"{count} {name}" for name, count in counter.most_common())

        equal, epochs = self.runs * EPOCHS - self.differing, self.runs * EPOCHS
        return (
            f"| {self.title} | {self.count} | {listed(self.hits)} | {listed(self.moments)} "
            f"| {self.runs} | "
            f"{self.starts - self.runs} | {self.retrained} | {equal}/{epochs} |"
        )


class Victim:
    """Three epochs in a home of their own, by the launcher or by the command line."""

    def __init__(self, home: Path, *, through_cli: bool) -> None:
        self.home, self.through_cli = home, through_cli
        self.attempts = 0

    @property
    def scratch(self) -> Path:
        """Of the attempt that runs."""
        if not self.through_cli:
            return self.home / "scratch" / str(self.attempts)
        return max(
            (self.home / "scratch").glob("*/train"),
            key=lambda path: path.stat().st_mtime,
            default=self.home,
        )

    def start(self) -> subprocess.Popen[bytes]:
        """Begins, or goes on."""
        self.attempts += 1
        variables = {
            "DOLLY_HOME": str(self.home),
            "DOLLY_DEFS": str(self.home / "defs"),
            "DAGSTER_HOME": "",
        }
        mine = [sys.executable, __file__, "--attempt", str(self.home), str(self.attempts)]
        command = [
            *DOLLY,
            "train",
            "--model",
            "tiny",
            "--dataset",
            "sums",
            "--epochs",
            f"1-{EPOCHS}",
        ]
        with (self.home / "log").open("ab") as log:
            return subprocess.Popen(
                command if self.through_cli else mine,
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def steps(self) -> int:
        """Optimizer steps that the attempt has done."""
        file = self.scratch / "profile" / "steps-00000.jsonl"
        return file.read_bytes().count(b"\n") if file.is_file() else 0

    def moment(self) -> str:
        """Return the stage that the training has reached."""
        if not self.steps():
            return "starting"
        return "saving or publishing" if any((self.scratch / "trainer").glob("*-*")) else "training"

    def weights(self) -> list[str]:
        """Digest of the weights of each epoch that is published."""
        found = [
            _store(self.home).latest(f"tiny/model_checkpoint/sums/{epoch:02d}")
            for epoch in range(1, EPOCHS + 1)
        ]
        return [str(item.manifest.attributes["weights_sha256"]) for item in found if item]


def main() -> int:
    """Run the benchmark, or one attempt of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--attempt", nargs=2, metavar=("HOME", "NUMBER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.attempt:
        return attempt(Path(arguments.attempt[0]), arguments.attempt[1])
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), chance)
        by_cli = max(1, arguments.kills // 10), max(1, arguments.stops // 10)
        tallies = [
            bench.disturb("kill -9, launcher", signal.SIGKILL, arguments.kills - by_cli[0]),
            bench.disturb("kill -9, dolly train", signal.SIGKILL, by_cli[0], through_cli=True),
            bench.disturb("SIGTERM, launcher", signal.SIGTERM, arguments.stops - by_cli[1]),
            bench.disturb("SIGTERM, dolly train", signal.SIGTERM, by_cli[1], through_cli=True),
        ]
    print(
        "| what | times | process hit | moment | runs | restarts "
        "| steps trained twice | epochs with equal weights |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print(*tallies, sep="\n")
    lost = sum(tally.retrained for tally in tallies[2:]) > sum(tally.count for tally in tallies[2:])
    return int(lost or any(tally.differing for tally in tallies))


class Bench:
    """A training left alone, and others that are not."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self._folder, self._chance = folder, chance
        self._homes = 0
        self._prepared = folder / "prepared"
        prepare(self._prepared)
        alone = self._new(through_cli=False)
        process = alone.start()
        began = time.monotonic()
        while process.poll() is None and not alone.steps():
            time.sleep(0.05)
        self._starting_seconds = time.monotonic() - began
        assert process.wait() == 0, (alone.home / "log").read_text()[-3000:]
        self._seconds = time.monotonic() - began
        self._weights = alone.weights()
        self._steps = alone.steps()
        assert len(self._weights) == EPOCHS
        print(
            f"left alone: {self._steps} steps, {self._seconds:.0f} s, "
            f"of them {self._starting_seconds:.0f} s to start"
        )

    def _new(self, *, through_cli: bool) -> Victim:
        self._homes += 1
        home = self._folder / str(self._homes)
        shutil.copytree(self._prepared, home)
        return Victim(home, through_cli=through_cli)

    def disturb(
        self, title: str, number: signal.Signals, times: int, *, through_cli: bool = False
    ) -> Tally:
        """Send signals to trainings, each of which is run again until it is complete."""
        tally = Tally(title)
        while tally.count < times:
            training = self._new(through_cli=through_cli)
            steps = 0
            while True:
                tally.starts += 1
                process = training.start()
                if tally.count < times:
                    self._hit(training, process, number, tally)
                tree = _tree(process.pid)
                code = process.wait()
                psutil.wait_procs(tree, timeout=120)
                steps += training.steps()
                if code == 0:
                    break
                print(
                    f"{title}: {tally.count}/{times}, code {code}, {training.steps()} steps",
                    file=sys.stderr,
                    flush=True,
                )
            weights = training.weights()
            tally.runs += 1
            tally.differing += sum(
                weights[epoch : epoch + 1] != [self._weights[epoch]] for epoch in range(EPOCHS)
            )
            tally.retrained += max(0, steps - self._steps) if not through_cli else 0
            shutil.rmtree(training.home)
        return tally

    def _hit(
        self,
        training: Victim,
        process: subprocess.Popen[bytes],
        number: signal.Signals,
        tally: Tally,
    ) -> None:
        """Return a random moment: one in five is in the start, the others after it."""
        if self._chance.random() < 0.2:
            wait = self._chance.uniform(0, self._starting_seconds)
        else:
            while process.poll() is None and not training.steps():
                time.sleep(0.05)
            wait = self._chance.uniform(0, self._seconds - self._starting_seconds)
        deadline = time.monotonic() + wait
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        choice = [
            (role, item)
            for role, item in _roles(process.pid)
            if number == signal.SIGKILL or role in ASKED
        ]
        if process.poll() is not None or not choice:
            return
        role, victim = self._chance.choice(choice)
        moment = training.moment()
        try:
            victim.send_signal(number)
        except psutil.NoSuchProcess:
            return
        tally.hits[role] += 1
        tally.moments[moment] += 1


ASKED = {"launching process", "torchrun"}


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _roles(pid: int) -> Iterator[tuple[str, psutil.Process]]:
    for process in _tree(pid):
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if process.pid == pid:
            yield "launching process", process
        elif "dolly_assets.worker.torchrun" in words:
            yield "torchrun", process
        elif "dolly_assets.worker" in words:
            yield "rank", process
        elif "dolly_assets.profiling.record.sampler" in words:
            yield "sampler", process


def prepare(home: Path) -> None:
    """Prepare a home with the family and a tokenized dataset, before any training."""
    (home / "defs" / "tiny").mkdir(parents=True)
    (home / "defs" / "tiny" / "defs.yaml").write_text(yaml.safe_dump(FAMILY))
    rows = [
        {"instruction": f"Add {n % 29} to {n // 29}.", "response": str(n % 29 + n // 29)}
        for n in range(RECORDS)
    ]
    (home / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    variables = {"DOLLY_HOME": str(home), "DOLLY_DEFS": str(home / "defs"), "DAGSTER_HOME": ""}
    for arguments in (
        ["datasets", "add", "sums", str(home / "sums.jsonl"), "--answers", "exact"],
        ["train", "--model", "tiny", "--dataset", "sums", "--epochs", "0"],
    ):
        subprocess.run(
            [*DOLLY, *arguments],
            env={**os.environ, **variables},
            check=True,
            stdout=subprocess.DEVNULL,
        )


def attempt(home: Path, number: str) -> int:
    """Plans and runs what is left, as the asset does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    attributes = FamilyAttributes.model_validate(FAMILY["attributes"])
    family = ModelFamily(name="tiny", **dict(attributes))
    store = _store(home)
    base_model, tokenized = (
        store.latest(name) for name in ("tiny/base_model", "tiny/tokenized_dataset/sums")
    )
    assert base_model
    assert tokenized
    training = Training(family, "sums", base_model, tokenized)
    try:
        plan = plan_resume(store, training, range(1, EPOCHS + 1), retrain=False)
        if not plan.epochs:
            return 0
        task = Train(
            dataset="sums",
            epochs=plan.epochs,
            base_model=ref(base_model),
            tokenized_dataset=ref(tokenized),
            resume_from=ref(plan.resume_from) if plan.resume_from else None,
            state=ref(plan.state) if plan.state else None,
            training=training.digest,
            prices=Prices.read(),
        )
        spec = WorkerSpec(
            family=family,
            task=task,
            store_url=str(home / "store"),
            cache_dir=home / "cache",
            scratch_dir=home / "scratch" / number,
            made_by={},
        )
        LocalLauncher().run(spec, _show)
    except DollyError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _show(message: Message) -> None:
    print(message, flush=True)


def _store(home: Path) -> ArtifactStore:
    return ArtifactStore(str(home / "store"), home / "cache")


if __name__ == "__main__":
    sys.exit(main())
