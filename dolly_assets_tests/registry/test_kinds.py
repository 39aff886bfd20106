"""Addresses, and the table of kinds: that it is complete, and what a new entry brings with it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from dolly_assets.components.code_location import build
from dolly_assets.core.environment import Environment
from dolly_assets.core.errors import ArtifactError
from dolly_assets.core.hashing import json_digest
from dolly_assets.registry import kinds
from dolly_assets.registry.address import SHARED_ASSETS, ArtifactAddress, split_partition
from dolly_assets.registry.attributes import Attributes
from dolly_assets.registry.currency import is_current
from dolly_assets.registry.inputs import inputs_of
from dolly_assets.registry.kinds import (
    FAMILY_ASSETS,
    KINDS,
    MODEL_CHECKPOINT,
    RAW_DATASET,
    TOKENIZED_DATASET,
    AssetKind,
    Partitioning,
)
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets_tests.fixtures.stores import Publish
from dolly_assets_tests.tiny_training import DATASET, tiny_family

ADDRESSES = {
    "raw_dataset/demo": ArtifactAddress("", "raw_dataset", "demo"),
    "dataset_quality/demo": ArtifactAddress("", "dataset_quality", "demo"),
    "tiny/dataset_quality/demo": ArtifactAddress("tiny", "dataset_quality", "demo"),
    "tiny/base_model": ArtifactAddress("tiny", "base_model"),
    "tiny/tokenized_dataset/a.b-c": ArtifactAddress("tiny", "tokenized_dataset", "a.b-c"),
    "tiny/model_checkpoint/demo/00": ArtifactAddress("tiny", "model_checkpoint", "demo", 0),
    "tiny/model_checkpoint/demo/12": ArtifactAddress("tiny", "model_checkpoint", "demo", 12),
}


@pytest.mark.parametrize(("name", "address"), ADDRESSES.items())
def test_a_name_and_its_address_are_the_same_thing(name: str, address: ArtifactAddress) -> None:
    assert address.name == name
    assert ArtifactAddress.parse(name) == address
    assert ArtifactAddress.of_partition(address.asset_key, address.partition_key) == address


def test_an_address_is_written_in_the_terms_of_dagster_and_of_messages() -> None:
    address = MODEL_CHECKPOINT.address("tiny", "demo", 3)
    assert address.asset_key == ("tiny", "model_checkpoint")
    assert address.partition_key == "demo|03"
    assert split_partition("demo|03") == ("demo", 3)
    assert split_partition("demo") == ("demo", None)
    assert str(address) == "tiny/model_checkpoint, partition demo|03,"


@pytest.mark.parametrize("name", ["tiny", "a/b/c/d/e", "tiny/model_checkpoint/demo/last", ""])
def test_a_name_that_is_not_ours_is_refused(name: str) -> None:
    with pytest.raises(ArtifactError, match="is not the name of one of our artifacts"):
        ArtifactAddress.parse(name)


def test_the_table_holds_every_asset_with_its_inputs_and_code_version(tmp_path: Path) -> None:
    environment = Environment.read({"DOLLY_HOME": str(tmp_path)})
    graph = build(environment).resolve_asset_graph()
    for family in ("demo", "gpt_j_6b", "pythia_12b"):
        specs = {
            key.path[-1]: graph.get(key)
            for key in graph.get_all_asset_keys()
            if key.path[0] == family
        }
        optional = {kind.name for kind in FAMILY_ASSETS if kind.is_optional}
        assert specs.keys() | optional == {kind.name for kind in FAMILY_ASSETS}
        for name, node in specs.items():
            kind = KINDS[name]
            assert {key.path[-1] for key in node.parent_keys} - optional == {
                each.name for each in kind.inputs
            }, name
            dimensions = {None: Partitioning.NONE, "MultiPartitionsDefinition": Partitioning.EPOCH}
            definition = type(node.partitions_def).__name__ if node.partitions_def else None
            assert dimensions.get(definition, Partitioning.DATASET) is kind.partitioning, name


def test_kinds_that_belong_to_no_family_are_those_that_names_begin_with() -> None:
    assert {RAW_DATASET.name} == {kind.name for kind in KINDS.values() if not kind.is_of_family}
    assert RAW_DATASET.name in SHARED_ASSETS


def test_probing_what_a_model_remembers_makes_no_earlier_scores_stale() -> None:
    """Only a family that sets how many records are probed has its epochs scored again."""
    family = tiny_family()
    earlier = json_digest([family.evaluation.examples, family.evaluation.max_new_tokens, 1])
    assert kinds.EVALUATION.code_version(family) == earlier
    asked = family.evaluation.model_copy(update={"memorization_records": 8})
    other = family.model_copy(update={"evaluation": asked})
    assert kinds.EVALUATION.code_version(other) != earlier
    assert kinds.SAMPLE_RESPONSES.code_version(other) == kinds.SAMPLE_RESPONSES.code_version(family)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, AssetKind]:
    """The table with one entry more."""
    tokens_by_length = AssetKind(
        "tokens_by_length",
        Partitioning.DATASET,
        Attributes,
        inputs=(TOKENIZED_DATASET,),
        settings=lambda family: [family.recipe.max_length],
    )
    monkeypatch.setitem(kinds.KINDS, tokens_by_length.name, tokens_by_length)
    return KINDS


def test_one_entry_gives_a_new_asset_its_names_inputs_and_currency(
    table: Mapping[str, AssetKind], store: ArtifactStore, publish: Publish
) -> None:
    family, kind = tiny_family(), table["tokens_by_length"]
    tokenized = publish(["tiny", "tokenized_dataset"], DATASET)
    made = publish(
        kind.key("tiny"),
        DATASET,
        inputs={"tokenized_dataset": tokenized.digest},  # short, as version 0.1.0 named inputs
        attributes={"settings": kind.code_version(family)},
    )
    assert ArtifactAddress.parse(made.name) == kind.address("tiny", DATASET)
    assert kind.input_keys("tiny") == [["tiny", "tokenized_dataset"]]
    assert inputs_of(made) == {tokenized.name: tokenized.digest}
    assert is_current(store, family, made)
    assert not is_current(store, tiny_family(max_length=95), made)
    publish(["tiny", "tokenized_dataset"], DATASET, text="new data")
    assert not is_current(store, family, made)
