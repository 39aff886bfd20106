"""Stages: what comes into them, in which order, and that no two changes are half of each."""

import itertools
import os
import threading
import time
from pathlib import Path

import pytest

from dolly_assets.core.errors import ArtifactError
from dolly_assets.registry.promotion import Author, promote, roll_back
from dolly_assets.registry.stages import changes, checkpoint_of, model_in
from dolly_assets.scoring import ChampionRule
from dolly_assets.storage import ArtifactStore, locks
from dolly_assets.storage.artifact import Artifact
from dolly_assets_tests.fixtures.stores import Publish
from dolly_assets_tests.registry.scored import MINE, publish_epochs
from dolly_assets_tests.tiny_training import DATASET, tiny_family

RULE = ChampionRule(gates=("license", "profile", "interval", "memorization"))
FAMILY = tiny_family().model_copy(update={"champion": RULE, "use": "commercial"})
OF = (FAMILY.name, DATASET)
ADA = Author("ada", "it answers best")


@pytest.fixture
def epochs(publish: Publish) -> list[Artifact]:
    return publish_epochs(publish)


def promoted(store: ArtifactStore, epoch: int | None, to: str = "production") -> Artifact:
    return promote(store, FAMILY, DATASET, to=to, author=ADA, epoch=epoch)  # pyright: ignore[reportArgumentType] a stage


def test_a_promoted_model_has_the_files_and_the_terms_of_its_checkpoint(
    store: ArtifactStore, epochs: list[Artifact]
) -> None:
    placed = promoted(store, 3)
    assert placed.digest == epochs[3].digest
    stated = placed.manifest.attributes
    assert (stated["epoch"], stated["licenses"], stated["template"]) == (3, MINE, "chatml")
    assert stated["reason"] == "epoch 3 is promoted to production by ada: it answers best"
    assert stated["decided_by"] == "ada"
    assert model_in(store, *OF, "production") is not None


def test_without_an_epoch_the_model_of_the_stage_below_moves_on(
    store: ArtifactStore, epochs: list[Artifact]
) -> None:
    promoted(store, 3, "candidate")
    promoted(store, 4, "candidate")
    promoted(store, None, "staging")
    assert checkpoint_of(promoted(store, None)) == epochs[4].digest
    with pytest.raises(ArtifactError, match=r"epoch 4 of tiny/animals is in production already"):
        promoted(store, None)


@pytest.mark.usefixtures("epochs")
@pytest.mark.parametrize(
    ("epoch", "why"),
    [
        (1, "allows no commercial use"),
        (2, "it has no scores: materialize evaluation"),
        (9, "is not in the store"),
        (6, r"reproduces 50.0 % more of its training .* from 30.0 % to 65.0 %\); at most 10.0 %"),
        (None, "has no model to promote to production: one is neither in candidate nor in"),
    ],
)
def test_a_model_that_a_gate_refuses_is_not_promoted(
    store: ArtifactStore, epoch: int | None, why: str
) -> None:
    with pytest.raises(ArtifactError, match=why):
        promoted(store, epoch)
    assert model_in(store, *OF, "production") is None


def test_rollbacks_lead_back_step_by_step_and_a_promotion_ends_a_withdrawal(
    store: ArtifactStore, epochs: list[Artifact]
) -> None:
    for epoch in (3, 4, 5):
        promoted(store, epoch)
    back = [roll_back(store, *OF, stage="production", author=ADA) for _ in range(2)]
    assert [*map(checkpoint_of, back)] == [epochs[4].digest, epochs[3].digest]
    assert back[1].manifest.attributes["withdrawn"] == sorted([epochs[4].digest, epochs[5].digest])
    with pytest.raises(ArtifactError, match="has no model in production before epoch 3"):
        roll_back(store, *OF, stage="production", author=ADA)
    again = promoted(store, 5)
    assert again.manifest.attributes["withdrawn"] == [epochs[4].digest]
    assert [each.manifest.attributes["epoch"] for each in changes(store, *OF, "production")] == [
        5, 3, 4, 5, 4, 3,
    ]  # fmt: skip


@pytest.mark.usefixtures("epochs")
def test_two_promotions_at_once_happen_one_after_the_other(
    store: ArtifactStore, tmp_path: Path
) -> None:
    outcomes: list[str] = []

    def run(epoch: int) -> None:
        try:
            promoted(ArtifactStore(store.url, tmp_path / f"cache {epoch}"), epoch)
            outcomes.append("promoted")
        except ArtifactError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=run, args=[epoch]) for epoch in (3, 4, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = [each.manifest.attributes["epoch"] for each in changes(store, *OF, "production")]
    assert outcomes.count("promoted") == len(history)
    assert all("in production already" in each for each in outcomes if each != "promoted")
    assert all(one != other for one, other in itertools.pairwise(history))


@pytest.mark.usefixtures("epochs")
def test_a_killed_promotion_leaves_the_former_model_and_holds_up_others_for_its_lease_only(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(store, 3)
    left = tmp_path / "store" / "locks" / f"{locks.DECISION}-killed"
    left.write_bytes(b"")
    monkeypatch.setattr(locks, "DECISION_PATIENCE_SECONDS", 0)
    with pytest.raises(ArtifactError, match="another process is promoting a model"):
        promoted(store, 4)
    found = model_in(store, *OF, "production")
    assert found
    assert found.manifest.attributes["epoch"] == 3
    past = time.time() - locks.LEASE_SECONDS[locks.DECISION] - 1
    os.utime(left, (past, past))
    assert promoted(store, 4).manifest.attributes["epoch"] == 4
