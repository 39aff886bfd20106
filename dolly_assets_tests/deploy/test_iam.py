"""The policies of deploy/iam/ let each account do its work, and let nobody change the published."""

from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

from deploy.check import DEPLOY
from dolly_assets.conversations import Message
from dolly_assets.conversations.preference import Preference
from dolly_assets.core.errors import ArtifactError
from dolly_assets.datasets.catalogue import Catalogue
from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.datasets.inbox import Inbox
from dolly_assets.datasets.preferences.votes import Votes
from dolly_assets.papers.signing import sign, verify_signature
from dolly_assets.storage import ArtifactStore, RetentionPolicy
from dolly_assets.storage.conventions import LIVE, MESSAGES
from dolly_assets.storage.locks import LAST_SWEEP, sweeping
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.storage.reading import Artifact
from dolly_assets.storage.round_trip import round_trip
from dolly_assets_tests.deploy.policies import enforcing_server
from dolly_assets_tests.papers.keys import make_keys

pytestmark = pytest.mark.slow  # each test has an S3 server of its own

BUCKETS = ("dolly-artifacts-prod", "dolly-logs-prod", "dolly-inbox-prod")
URL = "s3://dolly-artifacts-prod/models"

As = Callable[[str], ObjectStore]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with enforcing_server(DEPLOY / "iam") as url:
        yield url


@pytest.fixture
def act_as(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> As:
    """Changes the account that this process has, and opens the store as that; buckets are empty."""

    def act_as(user: str) -> ObjectStore:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", user)
        return ObjectStore(URL)

    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "root")
    client = boto3.client("s3", region_name="us-east-1")
    for bucket in BUCKETS:
        client.create_bucket(Bucket=bucket)
        for found in client.list_objects_v2(Bucket=bucket).get("Contents", []):
            client.delete_object(Bucket=bucket, Key=found["Key"])
    return act_as


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, Path]:
    """Many small files, and one of several chunks."""
    files = {f"{number:02}": b"%d" % number for number in range(20)} | {"big": b"x" * (9 << 20)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in files}


def published(user: str, act_as: As, tree: dict[str, Path], cache: Path) -> Artifact:
    act_as(user)
    return ArtifactStore(URL, cache).publish("demo/model_checkpoint", tree, kind="k")


@pytest.mark.parametrize("user", ["worker", "run"])
def test_who_trains_may_publish_and_may_change_nothing_that_is_published(
    act_as: As, tree: dict[str, Path], tmp_path: Path, user: str
) -> None:
    artifact = published(user, act_as, tree, tmp_path / "cache")
    ArtifactStore(URL, tmp_path / "cache").publish_rank(
        "demo/ranks", tree, attempt="a", rank=0, ranks=1, timeout_seconds=10, kind="k"
    )
    assert not [key for key in act_as("root").keys("") if key.startswith(("locks/", "pending/"))]
    objects = act_as(user)
    objects.write(f"{LIVE}/demo/alpaca/run/state.json", b"1")
    objects.write(f"{LIVE}/demo/alpaca/run/state.json", b"2")
    objects.write(f"{MESSAGES}/job/1.json", b"{}")
    round_trip(objects)
    record, blob = artifact.manifest.key, artifact.manifest.files[-1].blobs[0].key
    before = {key: objects.read_all(key) for key in (record, blob)}
    for key in before:
        for change in (
            lambda key=key: objects.write(key, b"other"),
            lambda key=key: objects.delete([key]),
        ):
            with pytest.raises(ArtifactError, match="access denied"):
                change()
        assert not objects.create(key, b"other")
    note = record.removesuffix(".json") + ".dropped"
    for key in (note, LAST_SWEEP, "locks/sweep-1", blob[:-1] + "?"):
        with pytest.raises(ArtifactError, match="access denied"):
            objects.write(key, b"{}")
    assert {key: objects.read_all(key) for key in before} == before


def test_only_a_run_may_change_the_catalogue_and_read_the_inbox(
    act_as: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    boto3.client("s3", region_name="us-east-1").put_object(
        Bucket="dolly-inbox-prod", Key="inbox/new.jsonl", Body=b"{}"
    )
    dataset = DatasetConfig(name="animals", source="s3://elsewhere/a.jsonl", license="CC0-1.0")
    catalogue = Catalogue(act_as("run"), [])
    catalogue.add(dataset)
    catalogue.remove("animals")
    assert list(Inbox("s3://dolly-inbox-prod/inbox").arrivals()) == ["new"]
    with pytest.raises(ArtifactError, match="access denied"):
        Catalogue(act_as("worker"), []).add(dataset)
    with pytest.raises(ArtifactError, match="access denied"):
        Inbox("s3://dolly-inbox-prod/inbox").arrivals()


def test_a_signer_signs_and_publishes_nothing(
    act_as: As, tree: dict[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("model_signing")
    artifact = published("worker", act_as, tree, tmp_path / "cache")
    key, public = make_keys(tmp_path / "keys")
    objects = act_as("signer")
    sign(objects, artifact, key)
    sign(objects, artifact, key)
    verify_signature(objects, artifact, public)
    for change in (
        lambda: objects.create(f"{artifact.manifest.key}.json", b"{}"),
        lambda: objects.delete([f"signatures/{artifact.name}/{artifact.digest}.sig"]),
    ):
        with pytest.raises(ArtifactError, match="access denied"):
            change()
    with pytest.raises(ArtifactError, match="access denied"):
        sign(act_as("worker"), artifact, key)


def test_the_playground_votes_once_and_changes_no_vote(act_as: As) -> None:
    vote = Preference((Message("user", "Why?"),), "good", "bad", id="1")
    objects = act_as("playground")
    votes = Votes(objects, Catalogue(objects, []), "votes")
    assert votes.add(vote)
    assert not votes.add(vote)
    [key] = objects.keys("preferences")
    with pytest.raises(ArtifactError, match="access denied"):
        objects.write(key, b"{}")
    with pytest.raises(ArtifactError, match="access denied"):
        objects.create("blobs/sha256/00/00aa", b"x")


def test_a_server_reads_models_and_writes_nothing(
    act_as: As, tree: dict[str, Path], tmp_path: Path
) -> None:
    artifact = published("worker", act_as, tree, tmp_path / "cache")
    objects = act_as("serving")
    found = ArtifactStore(URL, tmp_path / "other-cache").latest(artifact.name)
    assert found
    found.copy_to(tmp_path / "models")
    assert (tmp_path / "models" / "big").read_bytes() == tree["big"].read_bytes()
    for key in ("blobs/sha256/00/00aa", "live/a", "signatures/a", "catalogue/a.json"):
        with pytest.raises(ArtifactError, match="access denied"):
            objects.create(key, b"x")


def test_a_worker_cannot_end_garbage_collections_lock(act_as: As) -> None:
    with sweeping(act_as("collector")):
        objects = act_as("worker")
        [lock] = objects.keys("locks")
        with pytest.raises(ArtifactError, match="access denied"):
            objects.delete([lock])


def test_a_damaged_blob_is_replaced_when_the_collector_has_deleted_it(
    act_as: As, tree: dict[str, Path], tmp_path: Path
) -> None:
    artifact = published("worker", act_as, tree, tmp_path / "cache")
    blob = artifact.manifest.files[-1].blobs[0].key
    act_as("root").write(blob, b"short")
    with pytest.raises(
        ArtifactError, match=f"{blob} is damaged and cannot be overwritten.*delete it"
    ):
        published("worker", act_as, tree, tmp_path / "cache")
    act_as("collector").delete([blob])
    again = published("worker", act_as, tree, tmp_path / "cache")
    assert again.digest == artifact.digest
    assert not [one for one in ArtifactStore(URL, tmp_path / "cache").verify() if one.damaged]


def test_the_collector_collects_and_can_neither_publish_nor_touch_the_catalogue(
    act_as: As, tree: dict[str, Path], tmp_path: Path
) -> None:
    kept = published("worker", act_as, tree, tmp_path / "cache")
    act_as("worker").create("blobs/sha256/00/00aa", b"left behind")
    act_as("root").write("catalogue/animals.json", b"{}")
    objects = act_as("collector")
    policy = RetentionPolicy(grace_hours=0)
    found = ArtifactStore(URL, tmp_path / "cache").collect_garbage(
        policy, protected={kept.digest}, delete=True
    )
    assert (found.blobs, found.records) == (1, [])
    for change in (
        lambda: objects.create(kept.manifest.key + ".json", b"{}"),
        lambda: objects.delete(["catalogue/animals.json"]),
    ):
        with pytest.raises(ArtifactError, match="access denied"):
            change()


def test_a_store_that_ignores_the_condition_is_refused_before_anything_is_trained(
    act_as: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    with enforcing_server(DEPLOY / "iam", ignores_conditions=True) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(ArtifactError, match="must refuse `If-None-Match: \\*`"):
            round_trip(act_as("worker"))
        assert act_as("root").keys("preflight") == []
