"""A short version of every fault in faults.py: complete or absent, and damage never returned.

S3 is moto's server behind a proxy that misbehaves. `benchmarks/store_faults.py` is the long
version.
"""

from pathlib import Path

import pytest

from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage import ArtifactStore
from dolly_assets_tests.storage import faults
from dolly_assets_tests.storage.faulty_proxy import FAULTS, FaultyProxy


def _check(outcome: faults.Outcome) -> None:
    assert outcome.tried > 0
    assert outcome.hits > 0
    assert (outcome.lost, outcome.returned) == (0, 0), outcome.row()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.slow
def test_a_misbehaving_network_loses_nothing_and_returns_no_damage(
    s3: str, s3_endpoint: str, tmp_path: Path, fault: str
) -> None:
    outcome = faults.http_faults(fault, s3_endpoint, s3, tmp_path, seed=len(fault), rounds=1)
    _check(outcome)
    if fault in ("500", "503 SlowDown", "answer lost", "reset in request"):
        assert outcome.refused == 0, outcome.errors


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("permission lost", "access denied; check the credentials"),
        ("clock skew", "set this machine's clock"),
    ],
)
def test_what_no_retry_helps_is_said_in_one_line(
    s3: str,
    s3_endpoint: str,
    tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    message: str,
) -> None:
    with FaultyProxy(s3_endpoint, seed=0) as proxy:
        proxy.set_fault(fault)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with pytest.raises(ArtifactError, match=message) as caught:
            ArtifactStore(s3, tmp_path / "cache").publish("a", tree, kind="k")
    assert "\n" not in str(caught.value)


def test_a_bucket_that_does_not_exist_is_refused(s3: str, tmp_path: Path) -> None:
    _check(faults.missing_bucket(tmp_path, seed=0))


@pytest.mark.slow
def test_twenty_kills_leave_every_artifact_whole(shared_url: str, tmp_path: Path) -> None:
    _check(faults.kills(shared_url, tmp_path, seed=1, hits=10))


@pytest.mark.slow
def test_two_writers_of_one_artifact_both_succeed(shared_url: str, tmp_path: Path) -> None:
    _check(faults.two_writers(shared_url, tmp_path, seed=2, rounds=1))


@pytest.mark.slow
def test_a_flipped_bit_anywhere_is_reported(tmp_path: Path) -> None:
    outcome = faults.flipped_bits(tmp_path, seed=3, rounds=10)
    _check(outcome)
    assert outcome.refused == outcome.tried


@pytest.mark.slow
def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    outcome = faults.full_disk(tmp_path, seed=4)
    if outcome is None:
        pytest.skip("this user may not mount a small file system")
    _check(outcome)
