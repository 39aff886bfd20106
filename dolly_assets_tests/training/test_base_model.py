"""Base models of every origin, prepared for real and tiny; only the Hub is out of reach."""

import json
import logging
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from dolly_assets.core.errors import BaseModelError
from dolly_assets.training.base_model import BaseModelConfig, UntrainedModel, prepare
from dolly_assets.training.checkpoint.tensors import weights_sha256

CONTROL_TOKENS = ["<end>", "<response>"]
SPECIAL_TOKENS = ["### End", "### Instruction:", "### Response:"]
TEXTS = [
    "What is a dolly? A small platform on wheels, used for moving heavy things about.",
    "Grüße, 世界! Ünïcödé counts too. Who was the first sheep to be cloned from a grown animal? "
    "Dolly was.",
]
GPT2 = {"model_type": "gpt2", "n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 64}
LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "hidden_size": 32,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
}


def untrained(config: dict = GPT2, **values) -> BaseModelConfig:
    return BaseModelConfig(
        untrained=UntrainedModel(config=config, **({"vocabulary_size": 330} | values)),
        license="apache-2.0",
    )


def local(path: Path) -> BaseModelConfig:
    return BaseModelConfig(source=str(path), license="apache-2.0")


def prepared(
    config: BaseModelConfig, out: Path, special_tokens=SPECIAL_TOKENS, log=lambda message: None
):
    return prepare(config, special_tokens=special_tokens, texts=lambda: TEXTS, out=out, log=log)


def load(folder: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def write_gguf(file: Path, model_folder: Path) -> dict:
    """Writes a prepared Llama as GGUF with quantized embeddings; returns its tensors by name."""
    import gguf
    import numpy as np

    model, tokenizer = load(model_folder)
    config = model.config
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    tokens += [f"<unused{row}>" for row in range(len(tokens), config.vocab_size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    special = {*tokenizer.all_special_tokens}
    writer.add_token_types(
        [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens]
    )
    merges = json.loads((model_folder / "tokenizer.json").read_text())["model"]["merges"]
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    tensors = {}
    for name, tensor in model.state_dict().items():
        array = tensor.numpy()
        if heads := {"q_proj": 2, "k_proj": 1}.get(
            name.split(".")[-2]
        ):  # llama.cpp's order of rotary pairs
            array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        gguf_name = names.get_name(name, try_suffixes=(".weight",))
        assert gguf_name is not None
        tensors[gguf_name] = array
        if name == "model.embed_tokens.weight":
            blocks = gguf.quants.quantize(array, gguf.GGMLQuantizationType.Q8_0)
            tensors[gguf_name] = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(gguf_name, blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(gguf_name, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory) -> Path:
    """A prepared model: also the local folder that other tests start from. Not to be written to."""
    out = tmp_path_factory.mktemp("gpt2")
    prepared(untrained(), out)
    return out


@pytest.fixture
def copy(gpt2, tmp_path) -> Path:
    """A folder like it that a test may damage."""
    import shutil

    return Path(shutil.copytree(gpt2, tmp_path / "model"))


# --- What a configuration may say


@pytest.mark.parametrize(
    "source", ["EleutherAI/gpt-j-6b", "/models/a", "./a", "../a", "~/a", "models/a.gguf"]
)
def test_hub_ids_and_paths_are_sources(source) -> None:
    assert BaseModelConfig(source=source, license="mit").source == source


@pytest.mark.parametrize(
    "source", ["", "gpt2", "models/a/b", "a b/c", "-a/b", "https://huggingface.co/a/b"]
)
def test_anything_else_is_refused_with_what_a_source_is(source) -> None:
    with pytest.raises(ValidationError, match="neither a Hub id"):
        BaseModelConfig(source=source, license="mit")


@pytest.mark.parametrize(
    "values", [{}, {"source": "a/b", "untrained": {"config": GPT2, "vocabulary_size": 330}}]
)
def test_exactly_one_origin_is_named(values) -> None:
    with pytest.raises(ValidationError, match="exactly one of source and untrained"):
        BaseModelConfig(**values, license="mit")


@pytest.mark.parametrize(
    "values",
    [{"source": "./a"}, {"untrained": {"config": GPT2, "vocabulary_size": 330}}],
    ids=["path", "untrained"],
)
def test_only_a_hub_id_has_a_revision(values) -> None:
    with pytest.raises(ValidationError, match="'main' is for Hub ids only"):
        BaseModelConfig(**values, revision="main", license="mit")


@pytest.mark.parametrize("license_", [None, "", "see the website"])
def test_a_licence_is_required(license_) -> None:
    with pytest.raises(ValidationError, match="license"):
        BaseModelConfig.model_validate({"source": "a/b", "license": license_})


def test_an_untrained_model_needs_a_model_type_and_gets_its_vocabulary_from_the_tokenizer() -> None:
    with pytest.raises(ValidationError, match="model_type is missing"):
        UntrainedModel(config={"n_layer": 1}, vocabulary_size=330)
    with pytest.raises(ValidationError, match="vocab_size follows from the tokenizer"):
        UntrainedModel(config=GPT2 | {"vocab_size": 1000}, vocabulary_size=330)


def test_relative_paths_count_from_the_given_folder_and_other_sources_stay() -> None:
    resolved = BaseModelConfig(source="../models/a.gguf", license="mit").resolved(
        Path("/defs/family")
    )
    assert resolved.source == "/defs/models/a.gguf"
    assert BaseModelConfig(source="~/a", license="mit").resolved(Path("/defs")).source == str(
        Path.home() / "a"
    )
    assert BaseModelConfig(source="a/b", license="mit").resolved(Path("/defs")).source == "a/b"
    assert untrained().resolved(Path("/defs")) == untrained()


# --- Untrained models


@pytest.mark.slow
def test_an_untrained_model_is_written_with_its_facts(tmp_path) -> None:
    attributes = prepared(untrained(), tmp_path)
    model, tokenizer = load(tmp_path)
    assert attributes == {
        "source": "untrained",
        "revision": None,
        "license": "apache-2.0",
        "architecture": "GPT2LMHeadModel",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": "float32",
        "vocabulary_size": 330,
        "embedding_rows": 384,
        "context_length": 64,
        "tied_embeddings": True,
        "inactive_parameters": 0,
        "layouts": {"beyond": "packed", "limit": 64, "reason": "", "within": "packed"},
    }
    assert len(tokenizer) == 330
    assert model.config.vocab_size == 384


def test_equal_calls_write_equal_tensors_and_tokenizers_and_another_seed_others(
    gpt2, tmp_path
) -> None:
    prepared(untrained(), tmp_path / "again")
    prepared(untrained(seed=1), tmp_path / "other")
    assert weights_sha256(tmp_path / "again") == weights_sha256(gpt2)
    assert (tmp_path / "again" / "tokenizer.json").read_text() == (
        gpt2 / "tokenizer.json"
    ).read_text()
    assert weights_sha256(tmp_path / "other") != weights_sha256(gpt2)


def test_the_trained_tokenizer_spells_every_text_and_keeps_special_tokens_whole(gpt2) -> None:
    _, tokenizer = load(gpt2)
    text = "### Instruction:\nnaïve 東京 🙂\t\n### Response:\n### End"
    token_ids = tokenizer(text).input_ids
    assert tokenizer.decode(token_ids) == text
    assert set(tokenizer.convert_tokens_to_ids(SPECIAL_TOKENS)) <= set(token_ids)
    assert "### End" not in tokenizer.decode(token_ids, skip_special_tokens=True)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "gtp2"}, "no model_type 'gtp2'"),
        (GPT2 | {"n_layr": 2}, "a gpt2 configuration has no n_layr"),
        (GPT2 | {"n_layer": "two"}, "not a gpt2 configuration.*n_layer"),
        (GPT2 | {"n_embd": 15}, "no causal language model can be built"),
        ({"model_type": "t5"}, "no causal language model can be built"),
    ],
)
def test_a_wrong_untrained_configuration_is_explained(tmp_path, config, message) -> None:
    with pytest.raises(BaseModelError, match=message):
        prepared(untrained(config), tmp_path)


# --- Special tokens and embeddings


def test_new_tokens_get_equal_new_rows_in_every_call_and_old_rows_stay(gpt2, tmp_path) -> None:
    import torch

    tokens = [*SPECIAL_TOKENS, *(f"<extra{number}>" for number in range(60))]
    for folder in ("once", "twice"):
        torch.manual_seed(len(folder))  # what the caller's random numbers are must not matter
        attributes = prepared(local(gpt2), tmp_path / folder, tokens)
    assert weights_sha256(tmp_path / "once") == weights_sha256(tmp_path / "twice")
    assert (attributes["vocabulary_size"], attributes["embedding_rows"]) == (390, 448)
    old = load(gpt2)[0].get_input_embeddings().get_parameter("weight")
    new = load(tmp_path / "once")[0].get_input_embeddings().get_parameter("weight")
    assert torch.equal(new[:384], old)
    assert torch.allclose(new[384:], old.mean(0).expand(64, -1), atol=1e-4)


def test_preparing_leaves_the_callers_random_numbers_alone(gpt2, tmp_path) -> None:
    import torch

    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    prepared(untrained(), tmp_path / "untrained")
    prepared(local(gpt2), tmp_path / "grown", [f"<extra{number}>" for number in range(60)])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_tokens_that_are_there_already_are_not_added_twice(gpt2, tmp_path) -> None:
    prepared(local(gpt2), tmp_path)
    assert len(load(tmp_path)[1]) == len(load(gpt2)[1])
    assert weights_sha256(tmp_path) == weights_sha256(gpt2)


def test_the_answer_ends_with_the_first_special_token_and_pads_with_another(gpt2) -> None:
    model, tokenizer = load(gpt2)
    generation = model.generation_config
    assert generation.eos_token_id == tokenizer.convert_tokens_to_ids("### End")
    assert (
        generation.pad_token_id
        == tokenizer.pad_token_id
        == tokenizer.convert_tokens_to_ids("<|endoftext|>")
    )
    assert model.config.pad_token_id == tokenizer.pad_token_id


def test_a_style_that_ends_with_the_tokenizers_own_end_gets_a_padding_token_of_its_own(
    gpt2, tmp_path
) -> None:
    prepared(local(gpt2), tmp_path, ["<|endoftext|>"])
    model, tokenizer = load(tmp_path)
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert tokenizer.pad_token == "<|pad|>"
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id


# --- Local folders


def test_a_local_folder_is_prepared_in_its_own_dtype(copy, tmp_path) -> None:
    model, _ = load(copy)
    model.bfloat16().save_pretrained(copy)
    attributes = prepared(local(copy), tmp_path / "out")
    assert attributes["dtype"] == "bfloat16"
    assert attributes["source"] == str(copy)


def test_a_folder_with_pickled_weights_is_loaded_without_running_code(copy, gpt2, tmp_path) -> None:
    import torch

    model, _ = load(copy)
    (copy / "model.safetensors").unlink()
    torch.save(model.state_dict(), copy / "pytorch_model.bin")
    prepared(local(copy), tmp_path / "out")
    assert weights_sha256(tmp_path / "out") == weights_sha256(gpt2)

    class Hostile:
        def __reduce__(self):
            return Path.touch, (tmp_path / "code ran",)

    torch.save(model.state_dict() | {"hostile": Hostile()}, copy / "pytorch_model.bin")
    with pytest.raises(BaseModelError, match="cannot load this as a causal language model"):
        prepared(local(copy), tmp_path / "hostile")
    assert not (tmp_path / "code ran").exists()


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_that_is_no_model_is_refused_with_what_is_missing_and_what_was_found(
    copy, tmp_path, missing
) -> None:
    (copy / missing).unlink()
    kind = "*.safetensors" if missing == "model.safetensors" else missing
    with pytest.raises(BaseModelError) as error:
        prepared(local(copy), tmp_path / "out")
    assert f"{kind} " in str(error.value)
    assert "is missing; found" in str(error.value)
    assert "generation_config.json" in str(error.value)


def test_a_missing_path_is_named(tmp_path) -> None:
    with pytest.raises(BaseModelError, match=r"nowhere: no such file or folder"):
        prepared(local(tmp_path / "nowhere"), tmp_path / "out")


def test_a_file_that_is_not_gguf_by_name_is_no_folder(tmp_path) -> None:
    (tmp_path / "model.bin").touch()
    with pytest.raises(BaseModelError, match="expected a folder with a model in it"):
        prepared(local(tmp_path / "model.bin"), tmp_path / "out")


def test_an_unknown_architecture_is_named(copy, tmp_path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "gpt99"}))
    with pytest.raises(BaseModelError, match=r"model: transformers \S+ cannot load this .*gpt99"):
        prepared(local(copy), tmp_path / "out")


def test_damaged_weights_are_named(copy, tmp_path) -> None:
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(
        BaseModelError, match=r"model: transformers \S+ cannot load this .*[Ss]afetensor"
    ):
        prepared(local(copy), tmp_path / "out")


def test_weights_that_lack_a_tensor_are_not_filled_up_with_random_numbers(copy, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    del tensors["transformer.h.0.mlp.c_fc.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BaseModelError, match=r"1 tensors are missing .*h\.0\.mlp\.c_fc\.weight"):
        prepared(local(copy), tmp_path / "out")


def test_an_encoder_is_not_a_causal_language_model(copy, tmp_path) -> None:
    from transformers import BertConfig, BertLMHeadModel

    config = BertConfig(
        vocab_size=384,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    BertLMHeadModel(config).save_pretrained(copy)
    with pytest.raises(BaseModelError, match="not a causal language model: bert sees the tokens"):
        prepared(local(copy), tmp_path / "out")


def test_a_folder_with_files_in_it_is_not_written_to(gpt2, tmp_path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BaseModelError, match="expected an empty folder"):
        prepared(local(gpt2), tmp_path)


def test_only_weights_configuration_and_tokenizer_are_kept_and_the_rest_is_logged(
    gpt2, tmp_path, monkeypatch
) -> None:
    """A model's own save_pretrained may write whatever it likes."""
    from transformers import GPT2LMHeadModel

    save = GPT2LMHeadModel.save_pretrained

    def save_more(self, folder, **settings) -> None:
        save(self, folder, **settings)
        (Path(folder) / "extra").mkdir()
        for name in ("modeling_evil.py", "extra/model.pt"):
            (Path(folder) / name).touch()

    monkeypatch.setattr(GPT2LMHeadModel, "save_pretrained", save_more)
    lines: list[str] = []
    prepared(local(gpt2), tmp_path / "out", log=lines.append)
    files = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == {path.name for path in gpt2.iterdir()}
    assert [line for line in lines if "left out" in line] == [
        "left out of the weights folder, since no loader reads it: extra/model.pt, modeling_evil.py"
    ]


# --- GGUF files


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("llama")
    prepared(untrained(LLAMA), out, CONTROL_TOKENS)
    return out


def test_a_gguf_file_becomes_plain_float32_weights_with_exactly_its_values(llama, tmp_path) -> None:
    import numpy as np

    written = write_gguf(tmp_path / "tiny.gguf", llama)
    attributes = prepared(local(tmp_path / "tiny.gguf"), tmp_path / "out", CONTROL_TOKENS)
    model, tokenizer = load(tmp_path / "out")
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    assert np.array_equal(weights["model.embed_tokens.weight"], written["token_embd.weight"])
    original = load(llama)[0].state_dict()
    for name in original.keys() - {"model.embed_tokens.weight"}:
        assert np.array_equal(weights[name], original[name].numpy()), name
    assert (attributes["architecture"], attributes["dtype"], attributes["context_length"]) == (
        "LlamaForCausalLM",
        "float32",
        128,
    )
    assert attributes["tied_embeddings"] is False
    text = f"{TEXTS[0]}<response>Grüße<end>"
    assert tokenizer(text).input_ids == load(llama)[1](text).input_ids


def test_a_file_that_only_claims_to_be_gguf_is_refused_with_its_first_bytes(tmp_path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"PK\x03\x04 and more")
    with pytest.raises(BaseModelError, match=r"model\.gguf: not a GGUF file: it begins with b'PK"):
        prepared(local(tmp_path / "model.gguf"), tmp_path / "out")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "tiny.gguf"])
def test_a_git_lfs_pointer_among_a_models_files_is_named_as_one(llama, tmp_path, name) -> None:
    folder = shutil.copytree(llama, tmp_path / "clone")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4096\n"
    (folder / name).write_text(pointer)
    source = folder / name if name.endswith(".gguf") else folder

    with pytest.raises(
        BaseModelError,
        match=rf"{name}: a Git LFS pointer instead of the file's 4,096 bytes; run `git lfs pull`",
    ):
        prepared(local(source), tmp_path / "out")


def test_a_truncated_gguf_file_is_named(llama, tmp_path) -> None:
    file = tmp_path / "tiny.gguf"
    write_gguf(file, llama)
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(BaseModelError, match=r"tiny\.gguf: transformers \S+ cannot load this"):
        prepared(local(file), tmp_path / "out")


# --- The Hub, which cannot be reached


def test_a_hub_id_that_cannot_be_reached_is_refused_with_an_alternative(
    tmp_path, monkeypatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(
        BaseModelError, match=r"EleutherAI/gpt-j-6b: cannot be downloaded .*name a local folder"
    ):
        prepared(
            BaseModelConfig(source="EleutherAI/gpt-j-6b", license="apache-2.0"), tmp_path / "out"
        )


# --- The terminal


def test_the_output_of_transformers_goes_to_the_log_and_not_to_the_terminal(
    copy, llama, tmp_path, capfd
) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    tensors["unheard.of"] = tensors["transformer.wte.weight"].clone()
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    write_gguf(tmp_path / "tiny.gguf", llama)
    logger = logging.getLogger("transformers")
    handlers = list(logger.handlers)
    capfd.readouterr()
    messages: list[str] = []
    prepared(local(copy), tmp_path / "folder", log=messages.append)
    prepared(local(tmp_path / "tiny.gguf"), tmp_path / "gguf", log=messages.append)
    assert capfd.readouterr() == ("", "")
    assert any("unheard.of" in message for message in messages)
    assert "LlamaForCausalLM" in messages[-1]
    assert logger.handlers == handlers
