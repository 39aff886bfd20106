"""The sensors behind alerts: failed runs, failed checks, champions, approvals, late assets.

They follow finished runs, so each is reported once, whichever database the instance uses. How an
alert is delivered is the business of `alerts`.
"""

from collections.abc import Iterator

import dagster as dg

from dolly_assets.automation.alerts import Alert, Alerts

LATE = "FAIL"
PARTITION = "dagster/partition"  # the tag in which Dagster names the partition of a run


def build_alert_sensors(*, is_on: bool) -> list[dg.SensorDefinition]:
    """Return the sensors `alerts_on_success`, `alerts_on_failure` and `alerts_on_late`."""
    status = dg.DefaultSensorStatus.RUNNING if is_on else dg.DefaultSensorStatus.STOPPED

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.SUCCESS,
        name="alerts_on_success",
        default_status=status,
        description="Alerts on failed checks and new champions of successful runs.",
    )
    def alerts_on_success(
        context: dg.RunStatusSensorContext, alerts: dg.ResourceParam[Alerts]
    ) -> None:
        for alert in _alerts_of(context.instance, context.dagster_run.run_id):
            alerts.send(alert)

    @dg.run_failure_sensor(
        name="alerts_on_failure",
        default_status=status,
        description="Alerts on failed runs, with the reason.",
    )
    def alerts_on_failure(
        context: dg.RunFailureSensorContext, alerts: dg.ResourceParam[Alerts]
    ) -> None:
        run = context.dagster_run
        reasons = [_reason(event) for event in context.get_step_failure_events()] or [
            context.failure_event.message or ""
        ]
        what = (
            ", ".join(sorted(key.to_user_string() for key in run.asset_selection or ()))
            or run.job_name
        )
        partition = run.tags.get(PARTITION) or run.tags.get(
            "dagster/asset_partition_range_start", ""
        )
        title = f"{what} {partition}".strip() + f" failed in run {run.run_id[:8]}"
        alerts.send(Alert(kind="run_failed", title=title, text="\n".join(reasons)))
        for alert in _alerts_of(context.instance, run.run_id):
            alerts.send(alert)

    @dg.sensor(
        name="alerts_on_late",
        default_status=status,
        minimum_interval_seconds=300,
        description="Alerts on assets that are later than their freshness policy allows.",
    )
    def alerts_on_late(
        context: dg.SensorEvaluationContext, alerts: dg.ResourceParam[Alerts]
    ) -> dg.SensorResult:
        assert context.repository_def
        records = context.instance.get_freshness_state_records(
            list(context.repository_def.asset_graph.get_all_asset_keys())
        )
        late = {
            key.to_user_string()
            for key, record in records.items()
            if record.freshness_state.value == LATE
        }
        for asset in sorted(late - set((context.cursor or "").split())):
            alerts.send(
                Alert(
                    kind="late",
                    title=f"{asset} is late",
                    text="It was not materialized within the time allowed.",
                )
            )
        return dg.SensorResult(cursor=" ".join(sorted(late)))

    return [alerts_on_success, alerts_on_failure, alerts_on_late]


def _alerts_of(instance: dg.DagsterInstance, run_id: str) -> Iterator[Alert]:
    """Yield the alerts that the events of a run call for, apart from its failure."""
    events = {dg.DagsterEventType.ASSET_CHECK_EVALUATION, dg.DagsterEventType.ASSET_MATERIALIZATION}
    for record in instance.get_records_for_run(run_id, of_type=events).records:
        event = record.event_log_entry.dagster_event
        if event and event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            yield from _of_check(event.asset_check_evaluation_data)
        elif materialization := record.asset_materialization:
            yield from _of_champion(materialization)


def _of_check(check: dg.AssetCheckEvaluation) -> Iterator[Alert]:
    if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
        of = f" of {check.partition}" if check.partition else ""
        title = f"{check.check_name} failed on {check.asset_key.to_user_string()}{of}"
        yield Alert(kind="check_failed", title=title, text=check.description or "")


def _of_champion(materialization: dg.AssetMaterialization) -> Iterator[Alert]:
    if materialization.asset_key.path[-1] != "champion_model":
        return
    metadata, family = materialization.metadata, materialization.asset_key.path[0]
    verdict, reason = metadata["verdict"].value, str(metadata["reason"].value)
    if verdict == "promoted":
        title = f"{family} has a new champion on {materialization.partition}"
        yield Alert(kind="champion_changed", title=title, text=reason)
    elif verdict == "awaiting approval":
        title = f"{family} has a candidate on {materialization.partition}"
        text = f"{reason}. Run: dolly promote {family}/{materialization.partition}"
        yield Alert(kind="approval_needed", title=title, text=text)


def _reason(event: dg.DagsterEvent) -> str:
    error = event.step_failure_data.error
    while error and error.cause:
        error = error.cause
    return f"{event.step_key}: {error.message.strip() if error else event.message}"
