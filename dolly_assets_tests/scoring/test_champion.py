"""Who becomes champion: one planted case for each way to win, to lose and to be refused."""

import math

import pyarrow as pa
import pytest

from dolly_assets.scoring import ChampionRule
from dolly_assets.scoring.alternatives import alternatives, alternatives_markdown
from dolly_assets.scoring.champion import Decision, decide
from dolly_assets.scoring.contender import Contender
from dolly_assets_tests.scoring.tables import right, scored

LOSSES = [1.0 + 0.01 * (place % 7) for place in range(100)]


def verdict(
    new: pa.Table | list[pa.Table] | None,
    old: pa.Table | None,
    rule: ChampionRule | None = None,
    *,
    exact: bool = True,
) -> Decision:
    tables = new if isinstance(new, list) else [new]
    candidates = [Contender(f"epoch {n}", f"new {n}", table) for n, table in enumerate(tables, 1)]
    champion = Contender("the champion", "old", old)
    return decide(rule or ChampionRule(), candidates, champion, exact=exact)


def better_by(gain: float) -> pa.Table:
    return scored(["no"] * 100, [loss - gain for loss in LOSSES])


def with_answers_lost(scores: pa.Table) -> pa.Table:
    """The same scores without those of answers."""
    place = scores.schema.get_field_index("token_f1")
    return scores.set_column(place, "token_f1", pa.nulls(scores.num_rows, pa.float64()))


CHAMPION_BY_LOSS = scored(["no"] * 100, LOSSES)


@pytest.mark.parametrize(
    ("new", "old", "rule", "exact", "expected", "words"),
    [
        (right(0.8), right(0.5), {}, True, "promoted", "exact match +0.3000"),
        (right(0.5), right(0.5), {}, True, "rejected", "is no better"),  # a draw
        (right(0.52), right(0.5), {}, True, "rejected", "may be chance: p = 0.2"),  # noise
        (right(0.52), right(0.5), {"significance": 1.0}, True, "promoted", "+0.0200"),
        (right(0.4), right(0.5), {}, True, "rejected", "is no better"),  # a regression
        (right(0.6), right(0.5), {"minimum_gain": 0.2}, True, "rejected", "minimum gain of 0.2"),
        (better_by(0.1), CHAMPION_BY_LOSS, {}, False, "promoted", "held-out loss -0.1000"),
        (better_by(math.nan), CHAMPION_BY_LOSS, {}, False, "rejected", "is not finite"),
        (CHAMPION_BY_LOSS, better_by(math.inf), {}, False, "promoted", "the champion's is not"),
        (None, right(0.5), {}, True, "rejected", "epoch 1 has no scores by example"),
        (right(0.9), None, {}, True, "rejected", "the champion has no scores by example"),
        (
            right(0.9),
            scored(["yes"] * 100, first_record=7),
            {},
            True,
            "rejected",
            "other held-out examples",
        ),
        (
            scored(["yes"] * 100, [2.0] * 100),
            scored(["no"] * 100, LOSSES),
            {"may_not_lose": {"held_out_loss": 0.1}},
            True,
            "rejected",
            "its held-out loss may be worse by up to",
        ),
        (
            scored(["yes"] * 100, LOSSES),
            scored(["no"] * 100, LOSSES),
            {"may_not_lose": {"held_out_loss": 0.1}},
            True,
            "promoted",
            "exact match +1.0000",
        ),
        (
            scored([None] * 100, LOSSES),
            scored(["no"] * 100, LOSSES),
            {},
            True,
            "rejected",
            "nothing was scored",
        ),
        (
            right(0.8),
            scored(["yes"] * 50 + ["no"] * 50 + ["no"] * 10),
            {},
            True,
            "rejected",
            "other held-out examples",
        ),  # another split
        (
            with_answers_lost(right(0.9)),
            right(0.5),
            {"score": "held_out_loss", "may_not_lose": {"token_f1": 0.0}},
            True,
            "rejected",
            "is no better",
        ),
        (
            with_answers_lost(better_by(0.1)),
            CHAMPION_BY_LOSS,
            {"score": "held_out_loss", "may_not_lose": {"token_f1": 0.0}},
            True,
            "rejected",
            "but its token F1 cannot be compared with the champion's",
        ),  # a lost suite
        (right(0.8), right(0.5), {"approval": "required"}, True, "awaiting approval", "awaits"),
    ],
)
def test_each_case_has_its_verdict_and_its_reason(
    new: pa.Table | None,
    old: pa.Table | None,
    rule: dict,
    exact: bool,
    expected: str,
    words: str,
) -> None:
    decision = verdict(new, old, ChampionRule(**rule), exact=exact)
    assert decision.verdict == expected, decision.reason
    assert words in decision.reason


def test_a_gate_that_refuses_is_the_reason_beside_the_gain() -> None:
    candidates = [Contender("epoch 1", "new", right(0.8))]
    champion = Contender("the champion", "old", right(0.5))
    blocked = "raw_dataset[demo] (cc-by-nc-4.0) allows no commercial use"
    decision = decide(
        ChampionRule(), candidates, champion, exact=True, gates=lambda place: [blocked]
    )
    assert decision.verdict == "rejected"
    assert decision.reason.startswith("epoch 1 is rejected: exact match +0.3000")
    assert decision.reason.endswith(f"but {blocked}")


def test_an_epoch_without_scores_is_listed_with_the_reason_and_the_others_compete() -> None:
    tables = [right(0.8), None]
    candidates = [Contender(f"epoch {n}", f"new {n}", each) for n, each in enumerate(tables, 1)]
    champion = Contender("the champion", "old", right(0.5))
    assert decide(ChampionRule(), candidates, champion, exact=True).candidate == 0
    old, first, missing = alternatives("exact_match", candidates, champion)
    assert (old.score, old.gain, first.gain) == (0.5, None, pytest.approx(0.3))
    assert (missing.score, missing.p_value) == (None, None)
    assert missing.note.startswith("epoch 2 has no scores by example")
    table = alternatives_markdown("exact_match", [old, first, missing])
    assert "| epoch 1 | 0.8000 (0." in table


def test_what_was_withdrawn_takes_no_part() -> None:
    candidates = [
        Contender("epoch 1", "new 1", right(0.9), barred="it was rolled back"),
        Contender("epoch 2", "new 2", right(0.8)),
    ]
    champion = Contender("the champion", "old", right(0.5))
    assert decide(ChampionRule(), candidates, champion, exact=True).candidate == 1
    alone = decide(ChampionRule(), candidates[:1], champion, exact=True)
    assert alone.reason == "epoch 1 is rejected: it was rolled back"


def test_the_champion_itself_stays_what_it_is() -> None:
    same = Contender("epoch 2", "old", right(0.5))
    decision = decide(
        ChampionRule(), [same], Contender("the champion", "old", right(0.5)), exact=True
    )
    assert (decision.verdict, decision.reason) == ("unchanged", "epoch 2 is the champion already")


def test_the_best_epoch_is_the_candidate_and_a_worse_later_one_is_not() -> None:
    decision = verdict([right(0.6), right(0.9), right(0.7)], right(0.5))
    assert decision.candidate == 1
    assert decision.reason.startswith("epoch 2 is promoted")


def test_an_epoch_whose_loss_is_not_finite_leaves_the_others_in_the_contest() -> None:
    decision = verdict([better_by(0.1), better_by(math.nan)], CHAMPION_BY_LOSS, exact=False)
    assert (decision.verdict, decision.candidate) == ("promoted", 0)


def test_more_epochs_need_more_evidence() -> None:
    """Many unlike epochs are many chances to win by luck, which the test takes into account."""

    def epoch(gained: int, lost_from: int) -> pa.Table:
        answers = ["no"] * 100
        for place in range(gained):
            answers[(lost_from + place) % 100] = "yes"
        return scored(answers)

    alone = verdict(epoch(5, 0), right(0.0)).gain
    among = verdict([epoch(5, 10 * n) for n in range(10)], right(0.0)).gain
    assert alone
    assert among
    assert alone.p_value < 0.05 < among.p_value
