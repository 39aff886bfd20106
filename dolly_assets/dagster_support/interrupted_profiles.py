"""Profiles of interrupted epochs, as observations of `gpu_profile`, shown beside whole ones."""

from collections.abc import Callable, Sequence

import dagster as dg

from dolly_assets.core.errors import DollyError
from dolly_assets.dagster_support.events import observation_of
from dolly_assets.dagster_support.partitions import partition_key
from dolly_assets.dagster_support.report_links import live_report, report_link
from dolly_assets.registry.attributes import ProfileAttributes
from dolly_assets.registry.kinds import GPU_PROFILE
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.worker.profiles.interrupted import (
    DEAD_SECONDS,
    recover_profiles,
    recover_profiles_from_store,
)
from dolly_assets.worker.profiles.live import LiveState
from dolly_assets.worker.profiles.profile_publisher import profile_dir
from dolly_assets.worker.spec import Train, WorkerSpec, has_task


def report_interrupted(
    context: dg.AssetExecutionContext, spec: WorkerSpec, store: ArtifactStore
) -> None:
    """Publish profiles of what a failed training left, on this machine or else in the store."""
    if not has_task(spec, Train):
        return
    try:
        if profile_dir(spec).is_dir():
            _observe(context, recover_profiles(spec, store, context.log.info))
        else:  # the worker ran on another machine
            run_id = spec.made_by["run_id"]
            _observe(context, _recover(spec, store, lambda state: state.run_id == run_id))
    except (DollyError, OSError) as error:  # what ended the training matters more
        context.log.warning(f"the profile of the interrupted epoch was not published: {error}")


def report_left_behind(
    context: dg.AssetExecutionContext, spec: WorkerSpec, store: ArtifactStore, *, outlives_run: bool
) -> None:
    """Publish profiles of what earlier runs left in the store, whose machines are gone.

    Args:
        context: The step that trains now.
        spec: What it trains.
        store: Where profiles are published.
        outlives_run: Whether a worker may outlive its run; then only a silent one has ended.
    """
    if not has_task(spec, Train):
        return

    def has_ended(state: LiveState) -> bool:
        if state.run_id == context.run_id:
            return False
        run = context.instance.get_run_by_id(state.run_id)
        is_silent = state.seconds_since_refresh > DEAD_SECONDS
        return (run.is_finished and (is_silent or not outlives_run)) if run else is_silent

    _observe(context, _recover(spec, store, has_ended))


def observe_live(context: dg.AssetExecutionContext, spec: WorkerSpec[Train], key: str) -> None:
    """Link the live report of a run from its log, and from the first epoch that it trains."""
    link, family, task = report_link(key), spec.family.name, spec.task
    context.log.info(live_report(link, family, task.dataset, task.epochs[0]))
    context.log_event(
        dg.AssetObservation(
            dg.AssetKey(GPU_PROFILE.key(family)),
            partition=partition_key(task.dataset, task.epochs[0]),
            metadata={"live_report": dg.MetadataValue.url(link)},
        )
    )


def _recover(
    spec: WorkerSpec[Train], store: ArtifactStore, has_ended: Callable[[LiveState], bool]
) -> Sequence[Artifact]:
    objects = ObjectStore(spec.store_url, spec.s3)
    return recover_profiles_from_store(
        store, objects, spec.family.name, spec.task.dataset, has_ended
    )


def _observe(context: dg.AssetExecutionContext, interrupted: Sequence[Artifact]) -> None:
    for artifact in interrupted:
        context.log.warning(f"{artifact.name}: {ProfileAttributes.of(artifact).verdict}")
        context.log_event(observation_of(GPU_PROFILE, artifact))
