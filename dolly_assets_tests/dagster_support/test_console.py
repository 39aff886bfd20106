"""What a run prints on a terminal: what it does, and not that it left out a check."""

from collections.abc import Iterator

import dagster as dg
import pytest

from dolly_assets.dagster_support.console import console_logger


@dg.op(out=dg.Out(is_required=False))
def has_nothing_to_do(context: dg.OpExecutionContext) -> Iterator[dg.Output]:
    context.log.info("nothing to do")
    yield from ()


@dg.op
def check(context: dg.OpExecutionContext, result: int) -> None:
    context.log.info(f"checked {result}")


@dg.job(logger_defs={"console": console_logger})
def job() -> None:
    check(has_nothing_to_do())


def test_a_check_of_an_asset_that_had_nothing_to_do_is_not_mentioned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process({"loggers": {"console": {}}}, instance=instance)
        said = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert any("due to skipped dependencies" in message for message in said), said
    [line] = capsys.readouterr().out.splitlines()
    assert line.endswith("has_nothing_to_do            nothing to do")
