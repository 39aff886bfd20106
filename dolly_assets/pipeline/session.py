"""The whole platform in one process: definitions, store, catalogue and Dagster instance of an environment.

The command line works through it. The Dagster UI needs none of it: it loads `definitions.py`.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dagster as dg
import psutil

from dolly_assets import definitions as code_location
from dolly_assets.core.environment import Environment
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.dagster_support.partitions import DATASETS
from dolly_assets.dagster_support.run_context import PROCESS_TAG
from dolly_assets.datasets.catalogue import Catalogue
from dolly_assets.datasets.inbox import Inbox
from dolly_assets.family import ModelFamily
from dolly_assets.pipeline.console import CONSOLE
from dolly_assets.pipeline.dagster_home import prepare_dagster_home
from dolly_assets.pipeline.yaml_errors import explain
from dolly_assets.planning.prices import Prices
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.storage.opening import open_store

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@dataclass(frozen=True)
class Session:
    """An environment, ready to be worked with."""

    environment: Environment

    @cached_property
    def trees(self) -> list[dg.ComponentTree]:
        """The declared components."""
        return code_location.component_trees(self.environment)

    @cached_property
    def families(self) -> dict[str, ModelFamily]:
        """The model families, by name.

        Raises:
            ConfigurationError: A YAML file is wrong; the text names file, line and key.
        """
        with self._yaml_problems_explained():
            return code_location.families(self.trees)

    def family(self, name: str) -> ModelFamily:
        """The family of that name; raises ConfigurationError with the known ones."""
        if name not in self.families:
            raise ConfigurationError(
                f"unknown model family {name!r}; known: {', '.join(sorted(self.families))}"
            )
        return self.families[name]

    @cached_property
    def store(self) -> ArtifactStore:
        """The artifacts."""
        return open_store(self.environment)

    @cached_property
    def prices(self) -> Prices:
        """What GPUs and electricity cost; raises ConfigurationError if the file of `DOLLY_PRICES` is wrong."""
        return Prices.read(self.environment.prices_file)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The datasets known by name.

        Raises:
            ConfigurationError: A YAML file is wrong; the text names file, line and key.
        """
        with self._yaml_problems_explained():
            declared = code_location.declared_datasets(self.trees)
        inbox = Inbox(self.environment.inbox_url) if self.environment.inbox_url else None
        return Catalogue(ObjectStore(self.environment.store_url), declared, inbox)

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        """The Dagster instance, made at first use; runs that died with their process are marked as failed."""
        home = prepare_dagster_home(self.environment)
        os.environ["DAGSTER_HOME"] = str(home)
        instance = dg.DagsterInstance.get()
        _fail_dead_runs(instance)
        return instance

    @cached_property
    def job(self) -> Any:
        """The job that can materialize every asset."""
        return code_location.build(self.environment).resolve_implicit_global_asset_job_def()

    def register_datasets(self, names: Sequence[str]) -> None:
        """Makes datasets known to Dagster as partitions."""
        self.instance.add_dynamic_partitions(str(DATASETS.name), list(names))

    def materialize(
        self,
        keys: Sequence[Sequence[str]],
        first: str | None = None,
        last: str | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        """Materializes assets for no partition, one, or a range of them, in one run of this process.

        Raises:
            DollyError: The run failed with an error that the user can put right.
            KeyboardInterrupt: Ctrl-C; the worker has ended.
        """
        partition = {RANGE_START: first, RANGE_END: last} if first and last else {}
        try:
            self.job.execute_in_process(
                instance=self.instance,
                asset_selection=[dg.AssetKey(list(key)) for key in keys],
                partition_key=None if last else first,
                tags={**partition, PROCESS_TAG: _this_process()},
                run_config={"loggers": {CONSOLE: {"config": {}}}, "ops": config or {}},
            )
        except dg.DagsterExecutionInterruptedError as error:
            raise KeyboardInterrupt from error

    @contextmanager
    def _yaml_problems_explained(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            text = explain(error)
            file = None if ".yaml" in text else code_location.first_broken_file(self.environment)
            raise ConfigurationError(f"{file}: {text}" if file else text) from error


def _this_process() -> str:
    process = psutil.Process()
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"


def _fail_dead_runs(instance: dg.DagsterInstance) -> None:
    """Runs of this kind end with their process; one that was killed could not say so."""
    unfinished = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
    for run in instance.get_runs(unfinished):
        host, _, process = run.tags.get(PROCESS_TAG, "").partition(":")
        pid, _, created = process.partition(":")
        if host == socket.gethostname() and not _is_alive(int(pid), created):
            instance.report_run_failed(
                run, "the process of this run was killed; what it had published is kept"
            )
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _is_alive(pid: int, created: str) -> bool:
    try:
        return f"{psutil.Process(pid).create_time():.2f}" == created
    except psutil.NoSuchProcess:
        return False
