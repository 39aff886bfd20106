"""An environment opened for work: families, catalogue, store, and runs in Dagster.

The command line works through it. The Dagster UI needs none of it: it loads `definitions.py`.
Dagster itself is loaded when a session first needs an instance or a job, and not by a command that
only reads the store.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dolly_assets.core.environment import Environment
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.datasets.catalogue import Catalogue
from dolly_assets.family import ModelFamily
from dolly_assets.pipeline.declared import Declared, read_declared
from dolly_assets.planning.prices import Prices
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets.storage.opening import open_objects, open_store

if TYPE_CHECKING:
    import dagster as dg

    from dolly_assets.registry.estimate import Estimator


@dataclass(frozen=True)
class Session:
    """An environment, ready to be worked with."""

    environment: Environment

    @cached_property
    def declared(self) -> Declared:
        """The families and datasets that YAML declares.

        Raises:
            ConfigurationError: A YAML file is wrong; the text names file, line and key.
        """
        return read_declared(self.environment)

    @cached_property
    def families(self) -> dict[str, ModelFamily]:
        """The model families, by name; raises ConfigurationError as `declared` does."""
        return self.declared.families

    def family(self, name: str) -> ModelFamily:
        """Return the family of that name; raises ConfigurationError that lists the known ones."""
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
    def estimator(self) -> "Estimator":
        """Estimates trainings; the runs of this session use the same one."""
        from dolly_assets.registry.estimate import Estimator

        return Estimator(
            self.environment.prices_file, in_cluster=bool(self.environment.kubernetes_file)
        )

    @property
    def prices(self) -> Prices:
        """The prices of GPUs and electricity; raises ConfigurationError if a file is wrong."""
        return self.estimator.prices

    @cached_property
    def catalogue(self) -> Catalogue:
        """The datasets known by name; raises ConfigurationError as `declared` does."""
        inbox = None
        if self.environment.inbox_url:
            from dolly_assets.datasets.inbox import Inbox

            inbox = Inbox(self.environment.inbox_url)
        objects = open_objects(self.environment)
        return Catalogue(objects, self.declared.datasets, inbox)

    @cached_property
    def instance(self) -> "dg.DagsterInstance":
        """The Dagster instance, created at first use."""
        from dolly_assets.pipeline.runs import open_instance

        return open_instance(self.environment)

    @cached_property
    def job(self) -> "dg.JobDefinition":
        """The job that can materialize every asset."""
        from dolly_assets.pipeline.runs import build_job

        return build_job(self.environment, self.estimator)

    def register_datasets(self, names: Sequence[str]) -> None:
        """Make datasets known to Dagster as partitions."""
        from dolly_assets.dagster_support.partitions import DATASETS

        self.instance.add_dynamic_partitions(str(DATASETS.name), list(names))

    def materialize(
        self,
        keys: Sequence[Sequence[str]],
        first: str | None = None,
        last: str | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        """Materialize assets for no partition, one, or a range of them; see `runs.materialize`."""
        from dolly_assets.pipeline.runs import materialize

        materialize(self.instance, self.job, keys, first, last, config)
