"""`dolly forget`, on a store in which datasets, trainings and stages are laid out by hand."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from dolly_assets.conversations import Conversation
from dolly_assets.conversations.tables import table_of
from dolly_assets.core.names import epoch_key
from dolly_assets.registry.promotion import Author, place, roll_back
from dolly_assets.registry.stages import Stage
from dolly_assets.storage import ArtifactStore, RetentionPolicy
from dolly_assets.storage.artifact import Artifact
from dolly_assets.tokenization.tokenized_dataset import (
    HELD_OUT_FILE,
    HELD_OUT_SCHEMA,
    TRAIN_FILE,
    TRAIN_SCHEMA,
)
from dolly_assets.training.packing.batches import rows_by_step
from dolly_assets_tests.home import Home
from dolly_assets_tests.in_process import dolly, new_variables, refusal

RECORDS, BATCH, SEED = 10, 4, 3
TRAINED = [*range(9)]  # the last record is held out
RECIPE = {"global_batch_size": BATCH, "seed": SEED}
SPARED = int(  # a record that the first epoch leaves out, and the second does not
    next(
        row
        for row in TRAINED
        if row not in rows_by_step(9, global_batch_size=BATCH, seed=SEED, epoch=0)
        and row in rows_by_step(9, global_batch_size=BATCH, seed=SEED, epoch=1)
    )
)
USED = int(rows_by_step(9, global_batch_size=BATCH, seed=SEED, epoch=0)[0, 0])


class Shelf:
    """A home whose store is filled by hand."""

    def __init__(self, home: Path) -> None:
        self.variables = new_variables(home)
        self.store = ArtifactStore(str(home / "store"), home / "cache")

    def publish(self, name: str, kind: str, tables: dict[str, pa.Table], **fields: Any) -> Artifact:
        with tempfile.TemporaryDirectory() as folder:
            for file, table in tables.items():
                path = Path(folder) / file
                path.parent.mkdir(exist_ok=True)
                if file.endswith(".arrow"):
                    with pa.ipc.new_file(path, table.schema) as writer:
                        writer.write_table(table)
                else:
                    pq.write_table(table, path)
            inputs = {each.name: each.digest for each in fields.pop("inputs", ())}
            return self.store.publish(name, Path(folder), kind=kind, inputs=inputs, **fields)

    def raw(self, dataset: str, texts: Sequence[str], **attributes: Any) -> Artifact:
        rows = [
            {"instruction": text, "context": "", "response": f"{text}!", "category": dataset}
            for text in texts
        ]
        stated = {"rows": len(rows), "source": f"/data/{dataset}.jsonl", **attributes}
        table = pa.Table.from_pylist(rows)
        return self.publish(
            f"raw_dataset/{dataset}", "raw_dataset", {"data.parquet": table}, attributes=stated
        )

    def tokenized(self, raw: Artifact) -> Artifact:
        dataset = raw.name.rpartition("/")[2]
        ids = [1, int(raw.digest[:6], 16)]
        lines = [
            {"record": place, "row": place, "input_ids": ids, "prompt_length": 1}
            for place in TRAINED
        ]
        held_out = [{"record": RECORDS - 1, "input_ids": ids, "prompt_length": 1}]
        return self.publish(
            f"tiny/tokenized_dataset/{dataset}",
            "tokenized_dataset",
            {
                TRAIN_FILE: pa.Table.from_pylist(lines, schema=TRAIN_SCHEMA),
                HELD_OUT_FILE: pa.Table.from_pylist(held_out, schema=HELD_OUT_SCHEMA),
            },
            inputs=[raw],
        )

    def epoch(self, epoch: int, tokenized: Artifact, training: str = "t") -> Artifact:
        dataset = tokenized.name.rpartition("/")[2]
        weights = pa.table({"training": [training], "epoch": [epoch]})
        base = self.publish("tiny/base_model", "base_model", {"base.parquet": weights.slice(1)})
        return self.publish(
            f"tiny/model_checkpoint/{dataset}/{epoch_key(epoch)}",
            "model_checkpoint",
            {"weights/model.parquet": weights},
            inputs=[base, tokenized],
            attributes={"epoch": epoch, "training": training, "recipe": RECIPE},
        )

    def state(self, tokenized: Artifact) -> Artifact:
        """A training that was interrupted in its second epoch."""
        return self.publish(
            "tiny/training_state/animals",
            "training_state",
            {"state/model.parquet": pa.table({"step": [1]})},
            inputs=[tokenized],
            attributes={"epoch": 2, "step": 1, "steps": 2, "ranks": 1, "recipe": RECIPE},
        )

    def staged(self, checkpoint: Artifact, stage: Stage = "production") -> Artifact:
        """Bring a checkpoint into a stage, as a promotion would."""
        dataset = checkpoint.name.split("/")[2]
        return place(self.store, "tiny", dataset, stage, checkpoint, {"verdict": "promoted"}, {})

    def forget(self, *arguments: str) -> dict[str, Any]:
        result = dolly(self.variables, "forget", *arguments, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    def commands(self, record: str) -> list[str]:
        return [each for step in self.forget(record)["steps"] for each in step["commands"]]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def words(of: str, records: int = RECORDS) -> list[str]:
    return [f"{of} {place}" for place in range(records)]


def test_everything_that_holds_a_record_or_learnt_from_it_is_found(shelf: Shelf) -> None:
    """Also in a copy of it, under another number and category, and as a conversation."""
    raw = shelf.raw("animals", words("cat"))
    tokenized = shelf.tokenized(raw)
    epochs = [shelf.epoch(epoch, tokenized) for epoch in (0, 1, 2)]
    shelf.staged(epochs[2])
    state = shelf.state(tokenized)
    scores = {"scores.parquet": pa.table({"loss": [1.0]})}
    for kind in ("evaluation", "gpu_profile"):
        shelf.publish(f"tiny/{kind}/animals/02", kind, scores, inputs=[epochs[2]])
    copied = shelf.raw("copies", ["another", f"cat {USED}"])
    said = Conversation.of_exchange(f"cat {USED}", "", f"cat {USED}!")
    dialogues = shelf.publish(
        "raw_dataset/dialogues",
        "raw_dataset",
        {"data.parquet": table_of([said])},
        attributes={"rows": 1, "form": "conversations"},
    )
    shelf.raw("others", words("dog"))

    found = shelf.forget(f"animals/{USED}")
    assert found["text"] == f"cat {USED} → cat {USED}!"
    assert {(each["name"], each["side"], *each["records"]) for each in found["held_by"]} == {
        (raw.name, "raw", USED),
        (tokenized.name, "train", USED),
        (copied.name, "raw", 1),
        (dialogues.name, "raw", 0),
    }
    learnt = {name: [each["name"] for each in of] for name, of in found["learnt_by"].items()}
    assert learnt == {
        "checkpoints": [epochs[1].name, epochs[2].name],
        "clean": [],
        "states": [state.name],
        "staged": ["tiny/champion_model/animals"],
    }
    assert found["made_from_these"] == {"evaluation": 1}
    text = dolly(shelf.variables, "forget", f"animals/{USED}").stdout
    assert f"record {USED} of raw_dataset/animals: cat {USED} → cat {USED}!" in text
    assert "tiny/champion_model/animals" in text
    assert f"delete record {USED}, counted from 0, from /data/animals.jsonl" in text
    assert "no model in the store can take its place" in text
    assert '{artifacts: "tiny/training_state/animals", folders: {state: 0}}' in text


def test_a_champion_rolls_back_to_an_epoch_that_left_the_record_out(shelf: Shelf) -> None:
    tokenized = shelf.tokenized(shelf.raw("animals", words("cat")))
    first, second, third = (shelf.epoch(epoch, tokenized) for epoch in (1, 2, 3))
    shelf.staged(first)
    shelf.staged(third)
    shelf.staged(second)
    found = shelf.forget(f"animals/{SPARED}")
    assert [each["name"] for each in found["learnt_by"]["clean"]] == [first.name]
    [remedy] = found["remedies"]
    assert remedy["rollbacks"] == {"production": 2}, "the first one leads to one that learnt it"
    assert remedy["replacements"] == [
        {"epoch": 1, "held_out_loss": None, "why": "published before the record came in"}
    ]
    assert (remedy["retraining"]["epochs"], remedy["retraining"]["trained"]) == (2, 3)
    commands = shelf.commands(f"animals/{SPARED}")
    assert (
        commands[:2]
        == ["dolly rollback tiny/animals --to production --reason 'forget a record'"] * 2
    )
    assert "dolly train --model tiny --dataset animals --epochs 1-2" in commands
    check_policy(commands[-3], "tiny/model_checkpoint/animals/02", "raw_dataset/animals")
    for _ in range(2):
        roll_back(shelf.store, "tiny", "animals", stage="production", author=Author("a user"))
    [remedy] = shelf.forget(f"animals/{SPARED}")["remedies"]
    assert remedy["withdraw_from"] == []


def check_policy(command: str, *names: str) -> None:
    """The policy that is printed is one that garbage collection reads, and covers the names."""
    document = command.removeprefix("echo '").removesuffix("' > forget.yaml")
    policy = RetentionPolicy.model_validate(yaml.safe_load(document))
    for name in names:
        rule = policy.rule_for(name)
        assert rule
        assert rule.publications == 1


def test_a_training_without_the_record_is_promoted_instead(shelf: Shelf) -> None:
    raw = shelf.raw("animals", words("cat"))
    shelf.staged(shelf.epoch(1, shelf.tokenized(raw)), "staging")
    without = [text for text in words("cat", RECORDS + 1) if text != f"cat {USED}"]
    sibling = shelf.epoch(2, shelf.tokenized(shelf.raw("animals", without)), "other")
    found = shelf.forget(f"animals/{USED}", "--digest", raw.digest[:8])
    [remedy] = found["remedies"]
    assert remedy["replacements"][0]["why"] == "of a training without the record"
    assert sibling.name.endswith("02")
    steps = found["steps"]
    assert steps[0]["commands"] == [
        "dolly promote tiny/animals/2 --to staging --reason 'forget a record'"
    ]
    assert not any("delete record" in step["what"] for step in steps), "the source has it no more"


def test_a_record_that_was_held_out_was_learnt_by_nothing(shelf: Shelf) -> None:
    tokenized = shelf.tokenized(shelf.raw("animals", words("cat"), source="owner/name"))
    shelf.epoch(1, tokenized)
    found = shelf.forget(f"animals/{RECORDS - 1}")
    assert {each["side"] for each in found["held_by"]} == {"raw", "held out"}
    assert not any(found["learnt_by"].values())
    assert found["remedies"] == []
    commands = [command for step in found["steps"] for command in step["commands"]]
    assert commands[0].startswith("dolly artifacts fetch raw_dataset/animals animals-without-9 ")
    assert commands[1].startswith("dolly datasets add animals animals-without-9/data.parquet ")
    text = dolly(shelf.variables, "forget", f"animals/{RECORDS - 1}").stdout
    assert "no training in the store learnt from it" in text


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ("animals", "'animals': expected DATASET/N with the number of a record"),
        ("animals/-1", "expected DATASET/N"),
        ("animals/10", "no publication of the raw dataset has such a record"),
        ("animals/id:7", "no publication of the raw dataset has such a record"),
        ("birds/1", "no raw dataset 'birds' is in the store; it has animals, dialogues"),
        ("3", "a record of which dataset: animals, dialogues? Name it as DATASET/N"),
        (
            "dialogues/id:a",
            "'dialogues/id:a' is several records: name one, as dialogues/0 --digest",
        ),
    ],
)
def test_a_record_that_is_not_there_or_not_clear_is_refused(
    shelf: Shelf, record: str, why: str
) -> None:
    shelf.raw("animals", words("cat"))
    said = [Conversation.of_exchange(text, "", "yes") for text in "xy"]
    table = table_of(said).set_column(4, "id", pa.array(["a", "a"]))
    shelf.publish("raw_dataset/dialogues", "raw_dataset", {"data.parquet": table})
    assert why in refusal(shelf.variables, "forget", record)


def test_a_number_that_versions_give_to_different_records_needs_a_digest(shelf: Shelf) -> None:
    old = shelf.raw("animals", words("cat"))
    shelf.raw("animals", [*words("cat")[1:]])
    assert "'animals/3' is several records: name one, as animals/3 --digest " in refusal(
        shelf.variables, "forget", "animals/3"
    )
    assert shelf.forget("animals/3", "--digest", old.digest[:12])["text"].startswith("cat 3")
    assert "has no digest beef…; it has" in refusal(
        shelf.variables, "forget", "animals/3", "--digest", "beef"
    )


def test_a_store_that_has_lost_a_dataset_is_an_error(shelf: Shelf) -> None:
    """What it holds is not known, so nothing is stated."""
    shelf.raw("animals", words("cat"))
    for folder in ("store/blobs", "cache"):
        shutil.rmtree(Path(shelf.variables["DOLLY_HOME"]) / folder, ignore_errors=True)
    why = refusal(shelf.variables, "forget", "animals/1")
    assert why.startswith("dolly: raw_dataset/animals of ")
    assert "it is not known whether it holds the record" in why


@pytest.mark.slow
def test_the_retraining_is_planned_on_a_store_that_was_really_trained(trained: Home) -> None:
    """The losses state which records were used, and the plan what training again takes."""
    store = ArtifactStore(str(trained.path / "store"), trained.path / "cache")
    checkpoint = store.latest("tiny/model_checkpoint/animals/01")
    assert checkpoint
    used = checkpoint.read_table("record_losses.parquet")["record"].to_numpy()
    for record in (int(used[0]), int(np.setdiff1d(np.arange(48), used)[0])):
        found = json.loads(dolly(trained.variables, "forget", f"animals/{record}", "--json").stdout)
        names = [each["name"] for each in found["learnt_by"]["checkpoints"]]
        assert (checkpoint.name in names) == (record in used)
        for remedy in found["remedies"]:
            assert remedy["retraining"]["hours"] > 0
            assert remedy["retraining"]["unknown"] == ""
