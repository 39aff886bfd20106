"""Every check finds what it is for, and leaves sound data alone."""

import pyarrow as pa
import pytest

from dolly_assets.datasets import demo
from dolly_assets.datasets.quality import finding as findings_module
from dolly_assets.datasets.quality.checks import CHECKS, CheckName, Limits
from dolly_assets.datasets.quality.finding import QualityFinding
from dolly_assets.datasets.quality.patterns import KNOWN_MARKERS
from dolly_assets.datasets.quality.report import judged, refusal, verdicts_markdown
from dolly_assets.datasets.quality.suite import check_dataset, check_split
from dolly_assets_tests.datasets.quality.planted import (
    DEFECTS,
    PROMPTS,
    SPLIT_DEFECTS,
    Planted,
    plant,
    split_of,
)

pytestmark = pytest.mark.usefixtures("all_examples")
Findings = dict[CheckName, QualityFinding]
PLANTED = sorted({*DEFECTS, *SPLIT_DEFECTS, "over_long"})


@pytest.fixture(scope="module")
def clean() -> pa.Table:
    return demo.generate(examples=1_000)


@pytest.fixture(scope="module")
def planted(clean: pa.Table) -> Planted:
    return plant(clean)


@pytest.fixture(scope="module")
def found(planted: Planted) -> Findings:
    of_family = check_split(planted.table, planted.split, markers=KNOWN_MARKERS, prompts=PROMPTS)
    return {finding.check: finding for finding in [*of_family, *check_dataset(planted.table)]}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_defect_is_found_and_nothing_else(
    planted: Planted, found: Findings, name: CheckName
) -> None:
    records = {example.record for example in found[name].examples}
    assert (0 if name == "evaluation_prompts" else planted.record_of[name]) in records
    assert records <= {
        0,
        *planted.overwritten,
    }  # some defects are two: a long prompt, its twin in training


def test_every_check_but_the_schema_has_a_planted_defect() -> None:
    of_other_forms = {"turns", "equal_answers", "contradictions", "one_sided"}
    assert {*PLANTED, *of_other_forms, "schema"} == set(CHECKS)


def test_sound_data_raises_no_alarm(clean: pa.Table) -> None:
    findings = [
        *check_dataset(clean),
        *check_split(clean, split_of(clean), markers=KNOWN_MARKERS, prompts=PROMPTS),
    ]
    assert {finding.check: finding.found for finding in findings if finding.found} == {}


def test_equal_data_gives_equal_findings_however_it_is_batched(
    planted: Planted, found: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dolly_assets.datasets.quality.records.BATCH_RECORDS", 64)
    for finding in check_dataset(planted.table):
        assert finding == found[finding.check] or finding.check == "prompt_markers"


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        (demo.EXCHANGE_SCHEMA.empty_table(), "no records"),
        (demo.generate(examples=3).drop_columns(["response"]), "no column response"),
        (
            demo.generate(examples=1).set_column(2, "response", pa.array([3])),
            "response is not a string",
        ),
        (
            demo.generate(examples=1).set_column(2, "response", pa.array([None], pa.string())),
            "no response",
        ),
    ],
)
def test_a_table_that_is_no_dataset_stops_at_its_schema(table: pa.Table, kind: str) -> None:
    [finding] = check_dataset(table)
    assert kind in finding.kinds
    assert "schema: " in (refusal(judged([finding], {}), "broken") or "")


def test_limits_decide_what_stops_and_what_warns(found: Findings) -> None:
    findings = [found["known_bad_answers"], found["leakage_exact"]]
    assert [verdict.status for verdict in judged(findings, {})] == ["warns", "stops training"]
    changed: dict[CheckName, Limits] = {
        "known_bad_answers": Limits(stop_above=0),
        "leakage_exact": Limits(warn_above=0.5, stop_above=None),
    }
    verdicts = judged(findings, changed)
    assert [verdict.status for verdict in verdicts] == ["stops training", "passed"]
    why = refusal(verdicts, "animals") or ""
    assert why.startswith(
        "dataset animals was refused for training: known_bad_answers: 2 of 1,000 answers"
    )
    assert "checks.known_bad_answers.stop_above" in why
    assert "| leakage_exact | passed | 1 of " in verdicts_markdown(verdicts)


def test_excerpts_show_control_characters_and_hide_personal_data(found: Findings) -> None:
    [example] = found["personal_data"].examples
    assert "DE****" in example.excerpt
    assert "3704" not in example.excerpt
    assert findings_module.excerpt("a\x00b\nc") == "a<U+0000>b c"
