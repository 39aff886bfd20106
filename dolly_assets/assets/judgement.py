"""judgement: an epoch's answers against the base model's, compared by a language model.

It runs where Dagster's runs do: it needs no device, and the judge's key goes nowhere else. What was
asked is committed in batches, so that an interrupted run asks a few pairs again at most.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from dolly_assets.assets.epoch_checks import log_evaluations
from dolly_assets.assets.judgement_checks import judgement_evaluations
from dolly_assets.core.text import count
from dolly_assets.dagster_support.events import materialization_of
from dolly_assets.dagster_support.partitions import dataset_epochs, epochs_by_dataset
from dolly_assets.dagster_support.per_epoch import SEVERAL_EPOCHS_PER_RUN
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.dagster_support.run_context import made_by
from dolly_assets.family import ModelFamily
from dolly_assets.judging import Judge
from dolly_assets.judging.client import JudgeClient
from dolly_assets.judging.exchange import EXCHANGES_FILE, Exchange, as_table
from dolly_assets.judging.outcome import outcome
from dolly_assets.judging.pairs import (
    VERDICTS_FILE,
    Pair,
    ask_in_both_orders,
    orders_of,
    requests,
    verdicts,
)
from dolly_assets.judging.text import outcome_markdown, sentence, verdicts_markdown, warnings
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import JudgementAttributes
from dolly_assets.registry.inputs import as_inputs
from dolly_assets.registry.judgements import compared_answers, exchanges_before, pairs_of
from dolly_assets.registry.kinds import JUDGEMENT
from dolly_assets.storage.artifact import Artifact, ArtifactStore

PAIRS_PER_COMMIT = 16


def build_judgement(family: ModelFamily) -> dg.AssetsDefinition:
    """Return the asset `FAMILY/judgement`, by dataset and epoch; nothing is judged of epoch 0."""
    judge = family.evaluation.judge
    assert judge

    @dg.multi_asset(
        name=f"{family.name}__{JUDGEMENT.name}",
        specs=[
            dg.AssetSpec(
                JUDGEMENT.key(family.name),
                deps=JUDGEMENT.input_keys(family.name),
                skippable=True,
                group_name=family.name,
                description="How often a judge prefers an epoch's answers to the base model's.",
                code_version=JUDGEMENT.code_version(family),
            )
        ],
        partitions_def=dataset_epochs(family),
        backfill_policy=SEVERAL_EPOCHS_PER_RUN,
    )
    def judgement(context: dg.AssetExecutionContext, store: StoreResource) -> Iterator[dg.Output]:
        artifacts, client = store.open(), JudgeClient(judge)
        for dataset, epochs in epochs_by_dataset(context.partition_keys).items():
            for epoch in epochs:
                if not epoch:
                    context.log.info("epoch 0 is what the others are compared with: skipped")
                    continue
                address = JUDGEMENT.address(family.name, dataset, epoch)
                artifact = _Judgement(context, artifacts, family, address, judge, client).publish()
                context.log_event(materialization_of(artifact))
                log_evaluations(context, judgement_evaluations(artifact))
        yield from ()

    return judgement


@dataclass
class _Judgement:
    """The judgement of one epoch."""

    context: dg.AssetExecutionContext
    store: ArtifactStore
    family: ModelFamily
    address: ArtifactAddress
    judge: Judge
    client: JudgeClient

    def publish(self) -> Artifact:
        """Ask what was not asked before, and return the artifact."""
        compared = compared_answers(self.store, self.address)
        inputs = as_inputs(*compared)
        pairs = pairs_of(compared, self.judge.records)
        known = exchanges_before(self.store, self.address)
        self._ask(pairs, known, inputs)
        orders = [orders_of(self.judge, pair, known) for pair in pairs]
        found = verdicts(pairs, orders)
        exchanges = list(
            {each.request_digest: each for two in orders for each in two or ()}.values()
        )
        attributes = self._attributes(found, exchanges, compared.new.manifest.kind)
        self.context.log.info(str(attributes.verdict))
        tables = {EXCHANGES_FILE: as_table(exchanges), VERDICTS_FILE: found}
        return self._commit(tables, inputs, attributes)

    def _ask(self, pairs: list[Pair], known: dict[str, Exchange], inputs: dict[str, str]) -> None:
        """Ask in batches; what was replied is committed, also before an error."""
        asked: list[str] = []
        for start in range(0, len(pairs), PAIRS_PER_COMMIT):
            before = len(known)
            batch = pairs[start : start + PAIRS_PER_COMMIT]
            try:
                ask_in_both_orders(self.judge, self.client.ask, batch, known)
            finally:
                asked += [
                    request.digest
                    for pair in batch
                    for request in requests(self.judge, pair)
                    if request.digest in known
                ]
                if len(known) > before:
                    so_far = as_table([known[digest] for digest in dict.fromkeys(asked)])
                    unfinished = JudgementAttributes(epoch=self.address.epoch)
                    self._commit({EXCHANGES_FILE: so_far}, inputs, unfinished)
                    done = f"{min(start + PAIRS_PER_COMMIT, len(pairs))} of {len(pairs)} pairs"
                    new = count(len(known) - before, "new request")
                    self.context.log.info(f"epoch {self.address.epoch}: {done}, {new}")

    def _attributes(
        self, found: pa.Table, exchanges: list[Exchange], answers_of: str
    ) -> JudgementAttributes:
        result = outcome(found, most_not_understood=self.judge.most_not_understood)
        name = f"epoch {self.address.epoch}"
        warned = warnings(result, _cut_pairs(found, exchanges))
        measured = result._asdict()
        return JudgementAttributes.model_validate(
            {
                "verdict": sentence(result, name, self.judge.model),
                "settings": JUDGEMENT.code_version(self.family),
                "epoch": self.address.epoch,
                "judge": self.judge.model,
                "judge_reported": sorted({each.model for each in exchanges if each.model}),
                "answers_of": answers_of,
                "win_rate_interval": measured.pop("interval"),
                **measured,
                "prompt_tokens": sum(each.prompt_tokens or 0 for each in exchanges),
                "completion_tokens": sum(each.completion_tokens or 0 for each in exchanges),
                "judge_seconds": sum(each.seconds for each in exchanges),
                "warnings": warned,
                "outcome_markdown": outcome_markdown(result, warned),
                "verdicts_markdown": verdicts_markdown(found),
            }
        )

    def _commit(
        self, tables: dict[str, pa.Table], inputs: dict[str, str], attributes: JudgementAttributes
    ) -> Artifact:
        """Publish tables; without a verdict, the artifact is not up to date."""
        with tempfile.TemporaryDirectory() as folder:
            for name, table in tables.items():
                pq.write_table(table, Path(folder) / name, compression="zstd")
            return self.store.publish(
                self.address.name,
                Path(folder),
                kind=JUDGEMENT.name,
                inputs=inputs,
                attributes=attributes.as_json(),
                made_by=made_by(self.context),
            )


def _cut_pairs(found: pa.Table, exchanges: list[Exchange]) -> int:
    cut = {each.request_digest for each in exchanges if each.cut_characters}
    return sum(digest in cut for digest in found["base_first_request"].to_pylist())
