"""An outcome in a sentence and in tables, for logs and the Dagster UI."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from dolly_assets.core.markdown import markdown_list, markdown_table
from dolly_assets.core.text import count, percent
from dolly_assets.judging.outcome import SIGNIFICANCE, Outcome
from dolly_assets.scoring.champion import shown_p

_SHOWN = 6  # pairs in the table
_LITTLE_AGREEMENT = 0.4  # of kappa: what is called fair at most (Landis and Koch, 1977)
_MUCH_FOR_THE_LONGER = 0.75


def sentence(outcome: Outcome, name: str, judge: str) -> str:
    """Return what a judge found, in one sentence.

    Args:
        outcome: What it found.
        name: The model that was judged, such as `epoch 3`.
        judge: The judge's name.
    """
    if outcome.win_rate is None:
        return f"{name} has no win rate over the base model: {outcome.why_none}"
    interval = outcome.interval
    bounds = (
        f" (95 % from {percent(interval.low, 1)} to {percent(interval.high, 1)})"
        if interval
        else ""
    )
    p_value = outcome.p_value or 0.0
    chance = ", which may be chance" if p_value > SIGNIFICANCE else ""
    return (
        f"{name} wins {percent(outcome.win_rate, 1)}{bounds} over the base model, by the judge "
        f"{judge} on {count(outcome.pairs - outcome.not_understood, 'pair')}: {outcome.wins} won, "
        f"{outcome.losses} lost, {outcome.ties} tied; sign test {shown_p(p_value)}{chance}"
    )


def warnings(outcome: Outcome, cut: int) -> list[str]:
    """Return what makes an outcome mean little.

    Args:
        outcome: The outcome.
        cut: Pairs of which a text was cut.
    """
    return [*_of_positions(outcome), *_of_others(outcome, cut)]


def _of_positions(outcome: Outcome) -> Iterator[str]:
    flipped = outcome.first_preferred + outcome.second_preferred
    if flipped:
        place = "first" if outcome.first_preferred >= outcome.second_preferred else "second"
        most = max(outcome.first_preferred, outcome.second_preferred)
        yield (
            f"position bias: {flipped} of {count(outcome.asked, 'verdict')} changed sides with the "
            f"order of the answers and count as ties; {most} of them preferred the answer shown "
            f"{place}"
        )
    if outcome.order_kappa is not None and outcome.order_kappa <= _LITTLE_AGREEMENT:
        yield (
            "the judge hardly agrees with itself when the answers change places (Cohen's kappa "
            f"{outcome.order_kappa:.2f}): a better judge would say more"
        )


def _of_others(outcome: Outcome, cut: int) -> Iterator[str]:
    if outcome.not_understood:
        yield (
            f"{count(outcome.not_understood, 'pair')} of {outcome.pairs} left out: the judge's "
            "reply holds no verdict"
        )
    if outcome.equal_answers:
        yield f"{count(outcome.equal_answers, 'pair')} tied because both answers are the same"
    if outcome.longer_won is not None and outcome.longer_won >= _MUCH_FOR_THE_LONGER:
        yield (
            f"the longer answer won {percent(outcome.longer_won)} of the pairs that were decided: "
            "the judge may prefer length"
        )
    if cut:
        yield (
            f"in {count(cut, 'pair')} a text was cut for the judge: see "
            "evaluation.judge.max_characters"
        )


def outcome_markdown(outcome: Outcome, warned: Sequence[str]) -> str:
    """Return the table of counts, and below it what makes them mean little."""
    rows = [
        ("won in both orders", str(outcome.wins)),
        ("lost in both orders", str(outcome.losses)),
        ("tied", str(outcome.ties)),
        ("not understood", str(outcome.not_understood)),
        ("same verdict in both orders", _share(outcome.order_agreement)),
        ("Cohen's kappa of the two orders", _number(outcome.order_kappa)),
        ("answer shown first preferred", str(outcome.first_preferred)),
        ("answer shown second preferred", str(outcome.second_preferred)),
        ("longer answer won", _share(outcome.longer_won)),
    ]
    table = markdown_table(("pairs", f"{outcome.pairs}"), rows)
    return f"{table}\n\n{markdown_list(warned)}" if warned else table


def verdicts_markdown(verdicts: pa.Table) -> str:
    """Return a few pairs with the judge's reply: losses first, then what was not understood."""
    order = {"loss": 0, "not_understood": 1, "tie": 2, "win": 3}
    rows = sorted(verdicts.to_pylist(), key=lambda row: order[row["result"]])[:_SHOWN]
    header = ("record", "result", "prompt", "base model", "this model", "reply, base model first")
    lines = [
        (
            row["record"],
            row["result"].replace("_", " "),
            row["prompt"],
            row["base_answer"].strip() or "(empty)",
            row["new_answer"].strip() or "(empty)",
            row["base_first_reply"] or "(the answers are the same)",
        )
        for row in rows
    ]
    return markdown_table(header, lines)


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value, 1)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
