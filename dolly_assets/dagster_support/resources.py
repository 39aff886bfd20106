"""The resources of assets: the store that they read, and the launcher that runs their workers.

What becomes of a worker's messages and of its working folder is the business of `worker_run.py` and
`scratch.py`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import dagster as dg

from dolly_assets.dagster_support import scratch
from dolly_assets.dagster_support.interrupted_profiles import (
    report_interrupted,
    report_left_behind,
)
from dolly_assets.dagster_support.run_context import is_cancelled, made_by, owner_of
from dolly_assets.dagster_support.worker_run import MessageHandler
from dolly_assets.datasets.catalogue import Catalogue
from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.datasets.inbox import Inbox
from dolly_assets.family import ModelFamily
from dolly_assets.launchers.base import Launcher
from dolly_assets.launchers.kubernetes.launcher import KubernetesLauncher
from dolly_assets.launchers.kubernetes.settings import KubernetesSettings
from dolly_assets.launchers.local import LocalLauncher
from dolly_assets.registry.model_folders import weights_bytes
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.io_manager import StoreSettings
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.worker.profiles.profile_publisher import profile_dir, spec_in
from dolly_assets.worker.spec import Evaluate, ExportModel, Sample, ScoreSuites, Task, WorkerSpec


class StoreResource(StoreSettings, dg.ConfigurableResource):
    """The object store that holds every artifact and the catalogue of datasets."""

    inbox_url: str | None = None

    def catalogue(self, declared: Sequence[DatasetConfig]) -> Catalogue:
        """Return the datasets known by name: those declared, added and arrived."""
        inbox = Inbox(self.inbox_url) if self.inbox_url else None
        return Catalogue(ObjectStore(self.url, self.s3), declared, inbox)


class WorkerResource(dg.ConfigurableResource):
    """Runs tasks in workers, on this machine or in the cluster that the environment names."""

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
        """Run a task to its end.

        Args:
            context: The step that needs it.
            family: The family that it is for.
            task: What to do.
            on_published: Called with each artifact as soon as it is published.

        Returns:
            What the worker published.

        Raises:
            DollyError: The worker ended with an error (see `dolly_assets.launchers.base.Launcher`).
        """
        store = self.store.open()
        folder = Path(self.scratch_dir) / context.run_id / f"{family.name}-{task.task}"
        spec = WorkerSpec(
            family=family,
            task=task,
            store_url=self.store.url,
            s3=self.store.s3,
            cache_dir=Path(self.store.cache_dir),
            cache_limit_bytes=self.store.cache_limit_bytes,
            scratch_dir=folder,
            # It decides what is requested from a cluster, and nothing on this machine.
            weights_bytes=_largest_weights(store, task) if self.kubernetes_file else 0,
            made_by=made_by(context),
        )
        scratch.remove(folder)
        self._free_scratch_of_finished_runs(context, store)
        report_left_behind(context, spec, store, outlives_run=bool(self.kubernetes_file))
        handler = MessageHandler(context, spec, store, on_published)
        try:
            self._launcher(context).run(spec, handler)
        except Exception:
            report_interrupted(context, spec, store)
            scratch.keep_logs_only(folder)
            raise
        except BaseException:  # whoever stops a run should not wait: the next one reports
            scratch.keep_logs_only(folder, but=profile_dir(spec))
            raise
        scratch.remove(folder)
        return handler.published

    def _launcher(self, context: dg.AssetExecutionContext) -> Launcher:
        """Return the launcher of this machine, or of the cluster that the environment names."""
        if not self.kubernetes_file:
            return LocalLauncher()
        settings = KubernetesSettings.read(Path(self.kubernetes_file))
        return KubernetesLauncher(settings, owner_of(context), partial(is_cancelled, context))

    def _free_scratch_of_finished_runs(
        self, context: dg.AssetExecutionContext, store: ArtifactStore
    ) -> None:
        """Report and clean up what killed runs left; logs that explain a failure are kept."""
        for folder in scratch.of_finished_runs(Path(self.scratch_dir), context.instance):
            if left := spec_in(folder):
                report_interrupted(context, left, store)
            scratch.keep_logs_only(folder)


def _largest_weights(store: ArtifactStore, task: Task) -> int:
    """Return the size of the largest model that a task scores or samples from; 0 if none."""
    if isinstance(task, ExportModel):
        references = [task.champion]
    elif isinstance(task, Evaluate | Sample | ScoreSuites):
        references = [*task.checkpoints.values()]
    else:
        return 0
    models = [store.get(each.name, each.digest) for each in references]
    return max(weights_bytes(store, model) for model in models)
