"""The resources of assets: the store they read, and the launcher that runs their workers."""

import contextlib
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import dagster as dg

from dolly_assets import __version__
from dolly_assets.core.code_digest import code_digest
from dolly_assets.dagster_support.interrupted_profiles import (
    observe_live,
    report_interrupted,
    report_left_behind,
)
from dolly_assets.dagster_support.run_context import is_cancelled, observe_times, owner_of
from dolly_assets.datasets.catalogue import Catalogue
from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.datasets.inbox import Inbox
from dolly_assets.family import ModelFamily
from dolly_assets.launchers.base import Launcher, Times
from dolly_assets.launchers.kubernetes.launcher import KubernetesLauncher
from dolly_assets.launchers.kubernetes.settings import KubernetesSettings
from dolly_assets.launchers.local import LocalLauncher
from dolly_assets.planning.prices import Prices
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.io_manager import StoreSettings
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.worker.messages import Live, Log, Message, Published
from dolly_assets.worker.profiles.profile_publisher import profile_dir, spec_in
from dolly_assets.worker.spec import Task, WorkerSpec


class StoreResource(StoreSettings, dg.ConfigurableResource):
    """The object store that holds every artifact and the catalogue of datasets."""

    inbox_url: str | None = None

    def catalogue(self, declared: Sequence[DatasetConfig]) -> Catalogue:
        """The datasets known by name."""
        inbox = Inbox(self.inbox_url) if self.inbox_url else None
        return Catalogue(ObjectStore(self.url, self.s3), declared, inbox)


class PlanningResource(dg.ConfigurableResource):
    """What plans are made with besides the store."""

    prices_file: str | None = None

    def prices(self) -> Prices:
        """The prices of GPUs and electricity."""
        return Prices.read(Path(self.prices_file) if self.prices_file else None)


class WorkerResource(dg.ConfigurableResource):
    """Runs tasks in workers, in the environment that was chosen."""

    store: dg.ResourceDependency[StoreResource]
    scratch_dir: str
    kubernetes_file: str | None = None

    def run(
        self,
        context: dg.AssetExecutionContext,
        family: ModelFamily,
        task: Task,
        on_published: Callable[[Artifact], None] = lambda _: None,
    ) -> list[Artifact]:
        """Runs a task to its end and returns what it published; `on_published` hears of each artifact at once.

        Raises:
            DollyError: The worker ended with an error (see `dolly_assets.launchers.base.Launcher`).
        """
        store = self.store.open()
        published: list[Artifact] = []
        scratch = Path(self.scratch_dir) / context.run_id / task.task

        def on_message(message: Message | Times) -> None:
            if isinstance(message, Log):
                context.log.info(message.text)
            elif isinstance(message, Live):
                observe_live(context, spec, message.key)
            elif isinstance(message, Times):
                observe_times(context, spec, message)
            elif isinstance(message, Published):
                artifact = store.get(message.name, message.digest)
                published.append(artifact)
                on_published(artifact)

        shutil.rmtree(scratch, ignore_errors=True)
        self._free_scratch_of_finished_runs(context, store)
        spec = WorkerSpec(
            family=family,
            task=task,
            store_url=self.store.url,
            s3=self.store.s3,
            cache_dir=Path(self.store.cache_dir),
            cache_limit_bytes=self.store.cache_limit_bytes,
            scratch_dir=scratch,
            made_by=made_by(context),
        )
        report_left_behind(context, spec, store, outlives_run=bool(self.kubernetes_file))
        try:
            self._launcher(context).run(spec, on_message)
        except Exception:
            report_interrupted(context, spec, store)
            keep_logs_only(scratch)
            raise
        except BaseException:  # whoever stops a run does not want to wait: the next one reports
            keep_logs_only(scratch, but=profile_dir(spec))
            raise
        shutil.rmtree(scratch, ignore_errors=True)  # a worker in a cluster has none here
        with contextlib.suppress(OSError):  # another step of this run may use it
            scratch.parent.rmdir()
        return published

    def _launcher(self, context: dg.AssetExecutionContext) -> Launcher:
        """This machine, or the cluster that the environment names."""
        if not self.kubernetes_file:
            return LocalLauncher()
        settings = KubernetesSettings.read(Path(self.kubernetes_file))
        return KubernetesLauncher(settings, owner_of(context), partial(is_cancelled, context))

    def _free_scratch_of_finished_runs(
        self, context: dg.AssetExecutionContext, store: ArtifactStore
    ) -> None:
        """A run that was killed could not clean up after itself; what tells why it failed is kept."""
        for folder in Path(self.scratch_dir).glob("*"):
            run = context.instance.get_run_by_id(folder.name)
            if run is not None and run.is_finished:
                for scratch in folder.glob("*"):
                    if left := spec_in(scratch):
                        report_interrupted(context, left, store)
                    keep_logs_only(scratch)


def keep_logs_only(scratch: Path, but: Path | None = None) -> None:
    """Frees the disk of what a worker that failed left behind, but for what tells why, and one folder."""
    for folder in (path for path in scratch.glob("*") if path.is_dir() and path != but):
        shutil.rmtree(folder, ignore_errors=True)


def made_by(context: dg.AssetExecutionContext) -> dict[str, str]:
    """Who makes an artifact, for its manifest."""
    return {"run_id": context.run_id, "dolly_assets": __version__, "code": code_digest()}
