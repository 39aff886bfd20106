import pytest
from pydantic import BaseModel, ValidationError

from dolly_assets.core import text
from dolly_assets.core.hashing import canonical_json_digest, json_digest


@pytest.mark.parametrize(
    ("size_bytes", "decimal", "binary"),
    [
        (0, "0 B", "0 B"),
        (999, "999 B", "999 B"),
        (1500, "1.5 kB", "1.5 KiB"),
        (20_000_000, "20 MB", "19.1 MiB"),
        (999_999_999, "1 GB", "953.7 MiB"),
        (73 * 2**30, "78.4 GB", "73 GiB"),
        (3 * 10**15, "3,000 TB", "2,728.5 TiB"),
    ],
)
def test_files_are_measured_in_decimal_units_and_memory_in_binary_ones(
    size_bytes: int, decimal: str, binary: str
) -> None:
    assert text.file_size(size_bytes) == decimal
    assert text.memory_size(size_bytes) == binary


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 ms"),
        (0.25, "250 ms"),
        (0.9999, "1 s"),
        (41.23, "41.2 s"),
        (59.99, "1 min"),
        (185, "3 min 05 s"),
        (1800, "30 min"),
        (3599.9, "1 h"),
        (8220, "2 h 17 min"),
        (7199, "2 h"),
        (3_600_000, "1,000 h"),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    assert text.duration(seconds) == expected


def test_a_share_that_is_not_zero_is_not_written_as_zero() -> None:
    assert text.percent(0) == "0 %"
    assert text.percent(0.004) == "under 1 %"
    assert text.percent(0.0004, digits=1) == "under 0.1 %"
    assert text.percent(0.914) == "91 %"
    assert text.percent(0.914, digits=1) == "91.4 %"


def test_counts_money_energy_and_times() -> None:
    assert text.count(1, "epoch") == "1 epoch"
    assert text.count(1200, "row") == "1,200 rows"
    assert text.count(0, "copy", "copies") == "0 copies"
    assert text.dollars(1234.5) == "$1,234.50"
    assert text.energy(3600 * 249.6) == "249.6 Wh"
    assert text.energy(3600 * 4100) == "4.1 kWh"
    assert text.clock_time(0) == "00:00:00"
    assert text.date_and_time(86_399) == "1970-01-01 23:59:59"


def test_an_error_is_put_on_one_line() -> None:
    assert text.one_line(ValueError("two\n  lines")) == "two lines"
    assert text.one_line(ValueError("a long line"), limit=6) == "a long…"


class Inner(BaseModel):
    number: int


class Outer(BaseModel):
    inner: Inner
    names: tuple[str, ...] = ()


def test_of_a_validation_error_the_line_names_each_key_and_its_problem() -> None:
    with pytest.raises(ValidationError) as one:
        Outer.model_validate({"inner": {"number": "x"}})
    assert text.one_line(one.value).startswith("inner.number: Input should be a valid integer")
    with pytest.raises(ValidationError) as many:
        Outer.model_validate({"inner": {}, "names": [1, 2, 3, 4]})
    assert text.one_line(many.value).endswith("; and 2 more")


def test_digests_of_json_stay_what_stored_artifacts_hold() -> None:
    value = {"b": [1, 2.5, None], "a": "ä"}
    assert json_digest(value) == (
        "2ed0f54c6c91c515354056a04e63e160214fa4b7066d9452b406b60534704924"
    )
    assert canonical_json_digest(value) == (
        "324d0f98e8e7b390bd24bc556eff388b74bd640e9df12c341becba7b8658c628"
    )
    with pytest.raises(ValueError, match="Out of range float"):
        canonical_json_digest(float("nan"))


@pytest.mark.parametrize(
    ("value", "interval", "form", "expected"),
    [
        (0.28947, (0.2, 0.4), ".3f", "0.289 (0.200 to 0.400)"),
        (-0.25, (-0.4, -0.125), "+.3f", "-0.250 (-0.400 to -0.125)"),
        (5.623, None, ",.2f", "5.62"),
        (0.0, (0.0, 0.1), ".1f", "0.0 (0.0 to 0.1)"),
        (None, None, ".3f", "–"),
    ],
)
def test_a_value_is_written_with_its_interval(
    value: float | None, interval: tuple[float, float] | None, form: str, expected: str
) -> None:
    assert text.with_interval(value, interval, form) == expected
