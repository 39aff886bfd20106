"""A family with a chat template, from its base model to the tokenized dataset."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dolly_assets.conversations import Conversation, Message
from dolly_assets.conversations.tables import CONVERSATION_SCHEMA, table_of
from dolly_assets.family import FamilyAttributes, ModelFamily
from dolly_assets.registry.attributes import BaseModelAttributes, TokenizedDatasetAttributes
from dolly_assets.registry.currency import is_current
from dolly_assets.tokenization.labels import LABEL_RUNS
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.tokenized_dataset import HELD_OUT_FILE, TRAIN_FILE
from dolly_assets.worker.spec import PrepareBaseModel, Tokenize, ref
from dolly_assets.worker.tasks.prepare_base_model import prepare_base_model
from dolly_assets.worker.tasks.tokenize import tokenize
from dolly_assets_tests.tiny_training import DATASET, Recorded, Workbench, tiny_family

DIALOGUES = [
    Conversation(
        (
            Message("user", f"How many legs have {animals}?"),
            Message("assistant", "Four."),
            Message("user", "And arms?"),
            Message("assistant", "None."),
        )
    )
    for animals in ("cats", "dogs", "cows", "pigs", "goats")
]
UNANSWERED = Conversation((Message("user", "Is anybody there?"),))


@pytest.fixture(scope="module")
def workbench(tmp_path_factory) -> Workbench:
    folder: Path = tmp_path_factory.mktemp("chatml")
    family = tiny_family(held_out_examples=1).model_copy(
        update={"template": "chatml", "prompt_style": PromptStyle()}
    )
    workbench, messenger = Workbench(folder, family), Recorded().messenger
    (folder / "raw").mkdir()
    table = table_of([*DIALOGUES, UNANSWERED])
    pq.write_table(table, folder / "raw/data.parquet")
    raw = workbench.store.publish(
        f"raw_dataset/{DATASET}",
        folder / "raw",
        kind="raw_dataset",
        attributes={"rows": table.num_rows},
    )
    prepare_base_model(
        workbench.spec(PrepareBaseModel(), folder / "prepare"), workbench.store, messenger
    )
    base_model = ref(workbench.latest("base_model"))
    task = Tokenize(dataset=DATASET, raw_dataset=ref(raw), base_model=base_model)
    tokenize(workbench.spec(task, folder / "tokenize"), workbench.store, messenger)
    return workbench


def test_a_base_model_carries_template_and_stop_tokens(workbench) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    artifact = workbench.latest("base_model")
    attributes, weights = BaseModelAttributes.of(artifact), artifact.fetch("weights")
    tokenizer = AutoTokenizer.from_pretrained(weights)

    assert attributes.template == "chatml"
    assert attributes.new_tokens == ["<|im_start|>", "<|im_end|>"]
    assert attributes.template_facts
    assert attributes.template_facts["end_tokens"] == ["<|im_end|>"]
    assert (weights / "chat_template.jinja").is_file()
    assert (
        tokenizer.apply_chat_template(
            [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
        )
        == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    stops = GenerationConfig.from_pretrained(weights).eos_token_id
    assert tokenizer.convert_ids_to_tokens(stops) == ["<|im_end|>", "<|endoftext|>"]
    assert tokenizer.pad_token not in ("<|im_end|>", "<|endoftext|>")


def test_a_tokenized_dataset_labels_every_turn_and_counts_what_is_refused(workbench) -> None:
    artifact = workbench.latest("tokenized_dataset", DATASET)
    train, held_out = artifact.read_table(TRAIN_FILE), artifact.read_table(HELD_OUT_FILE)
    attributes = TokenizedDatasetAttributes.of(artifact)

    assert (train.num_rows, held_out.num_rows) == (4, 1)
    for runs, ids in zip(train[LABEL_RUNS.name], train["input_ids"], strict=True):
        assert len(runs) == 4
        assert sum(runs.as_py()) == len(ids)
    assert held_out.select(CONVERSATION_SCHEMA.names).num_rows == 1
    assert attributes.template == "chatml"
    assert attributes.refused == {"it has no turn of the assistant": 1}
    statistics = json.loads((artifact.fetch("statistics.json")).read_text())
    assert statistics["refused_records"] == {"it has no turn of the assistant": [5]}


def test_another_template_makes_a_base_model_out_of_date(workbench) -> None:
    artifact, store = workbench.latest("base_model"), workbench.store
    family: ModelFamily = workbench.family
    assert is_current(store, family, artifact)
    for template in ("dolly", "alpaca"):
        assert not is_current(store, family.model_copy(update={"template": template}), artifact)


def test_a_family_without_a_template_is_named_as_before(workbench) -> None:
    """What earlier versions made stays up to date."""
    from dolly_assets.registry.kinds import BASE_MODEL, TOKENIZED_DATASET

    family = tiny_family()
    plain = family.model_dump(mode="json", exclude={"template", "labels"})
    again = ModelFamily.model_validate(plain)
    for kind in (BASE_MODEL, TOKENIZED_DATASET):
        for template in (None, "dolly"):
            named = family.model_copy(update={"template": template})
            assert kind.code_version(named) == kind.code_version(again)
        chatml = again.model_copy(update={"template": "chatml", "prompt_style": PromptStyle()})
        assert kind.code_version(chatml) != kind.code_version(again)


def test_a_yaml_names_a_template_or_a_file_beside_it(tmp_path) -> None:
    declared = tiny_family().model_dump(exclude={"name", "prompt_style"})
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    from_file = FamilyAttributes.model_validate({**declared, "template": "./chat.jinja"})
    family = ModelFamily.declared_in(tmp_path, from_file)
    assert family.model_dump()["template"] == {"name": "chat.jinja", "text": "{{ messages }}"}
    with pytest.raises(ValueError, match="'chatlm' is none of base, dolly, alpaca, chatml"):
        FamilyAttributes.model_validate({**declared, "template": "chatlm"})
    with pytest.raises(ValueError, match="prompt_style is the wording of the template dolly"):
        FamilyAttributes.model_validate(
            {**declared, "template": "chatml", "prompt_style": {"intro": ""}}
        )
