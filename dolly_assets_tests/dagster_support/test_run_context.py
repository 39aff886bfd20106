"""What a step knows of its run: which runs are attempts at the same work."""

import dagster as dg

from dolly_assets.dagster_support.run_context import ROOT_RUN_TAG, attempts_of

seen: list[frozenset[str]] = []


@dg.asset
def failing(context: dg.AssetExecutionContext) -> None:
    seen.append(attempts_of(context))
    raise dg.Failure("as a machine that dies")


def failing_job() -> dg.JobDefinition:
    definitions = dg.Definitions(
        assets=[failing],
        jobs=[dg.define_asset_job("job", [failing])],
        executor=dg.in_process_executor,
    )
    return definitions.resolve_job_def("job")


def test_the_attempts_of_a_run_are_those_that_it_executes_again() -> None:
    seen.clear()
    with dg.DagsterInstance.ephemeral() as instance:

        def execute(parent: str | None = None, root: str | None = None) -> str:
            return dg.execute_job(
                dg.reconstructable(failing_job),
                instance,
                raise_on_error=False,
                reexecution_options=dg.ReexecutionOptions(parent) if parent else None,
                tags={ROOT_RUN_TAG: root} if root else None,  # as the UI and the daemon do
            ).run_id

        first, other = execute(), execute()
        second = execute(first, first)
        third = execute(second, first)
    assert seen == [{first}, {other}, {first, second}, {first, second, third}]
