import random

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from dolly_assets.tokenization.encode import PromptEncoder
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.rank_bpe import RankEncoder
from dolly_assets_tests.tokenization.tiny import byte_level_tokenizer, with_style

STYLE = PromptStyle()
PIECES = [
    *(
        "the",
        "The",
        " sky",
        "is",
        "blue",
        "don't",
        "I'LL",
        "'s",
        "12345",
        "٣",
        "½",
        "#",
        "###",
        "### End",
        "<|endoftext|>",
    ),
    *(
        " ",
        "  ",
        "   ",
        "\t",
        "\n",
        "\r\n",
        "\n\n",
        "\u00a0",
        "\u3000",
        "\u2028",
        "\u200b",
        "\ufeff",
        "\x00",
        "\x1f",
    ),
    *(
        "é",
        "e\u0301",
        "ß",
        "日本",
        "🙂",
        "👩\u200d👩\u200d👧",
        "ไทย",
        "עברית",
        "\U000e0001",
        "\u0338",
        "aaaa",
        "ababab",
        ".",
    ),
]


def plain_tokenizer():
    """Byte-level BPE without a normalizer, as GPT-2's."""
    tokenizer = byte_level_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([])
    rebuilt = Tokenizer(tokenizer.backend_tokenizer.model)
    rebuilt.pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
    rebuilt.decoder = tokenizer.backend_tokenizer.decoder
    tokenizer._tokenizer = rebuilt
    tokenizer.add_special_tokens({"eos_token": "<|endoftext|>"})
    return with_style(tokenizer, STYLE)


def backend_without_specials(tokenizer) -> Tokenizer:
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.encode_special_tokens = True
    return backend


def test_both_encoders_give_the_same_ids_for_thousands_of_texts() -> None:
    backend = backend_without_specials(plain_tokenizer())
    ranks = RankEncoder.of(backend)
    assert ranks
    dice = random.Random(7)
    for _ in range(3000):
        text = "".join(dice.choices(PIECES, k=dice.randint(0, 12)))
        ids = ranks.encode(text)
        assert ids is not None
        assert ids.tolist() == backend.encode(text).ids, ascii(text)


@pytest.mark.parametrize("unit", [" ", "a", "ab", "\n", "日", "."])
def test_so_they_do_for_a_long_run(unit) -> None:
    backend = backend_without_specials(plain_tokenizer())
    ranks = RankEncoder.of(backend)
    assert ranks
    ids = ranks.encode(unit * 20_000 + "x")
    assert ids is not None
    assert ids.tolist() == backend.encode(unit * 20_000 + "x").ids


def test_examples_are_the_same_whoever_encodes_them() -> None:
    dice = random.Random(8)
    fields = [["".join(dice.choices(PIECES, k=6)) for _ in range(300)] for _ in range(3)]
    tokenizer = plain_tokenizer()
    encoder = PromptEncoder(tokenizer, STYLE)
    assert encoder.encoder == "tiktoken"
    input_ids, prompt_lengths = encoder.examples(*fields)
    one_by_one = [
        encoder.prompt(instruction, context)
        for instruction, context, _ in zip(*fields, strict=True)
    ]
    found = zip(input_ids.to_pylist(), prompt_lengths.to_pylist(), strict=True)
    assert [ids[:length] for ids, length in found] == one_by_one


@pytest.mark.parametrize(
    "merges",
    [
        # "abc" is joined from ab and c, but bc comes first: tiktoken would join a and bc, which BPE
        # does not.
        [("b", "c"), ("a", "b"), ("ab", "c")],
        # aa is joined from the left: of a, a, a, a never remain a and aaa.
        [("a", "a"), ("aa", "a"), ("a", "aaa")],
        # aaa in two ways.
        [("a", "a"), ("aa", "a"), ("a", "aa")],
    ],
)
def test_merges_by_which_the_two_would_differ_are_left_to_the_tokenizer(merges) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = dict.fromkeys([*alphabet, *(left + right for left, right in merges)])
    backend = Tokenizer(
        models.BPE(vocab={token: place for place, token in enumerate(tokens)}, merges=merges)
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert RankEncoder.of(backend) is None


def test_what_is_not_known_is_left_to_the_tokenizer() -> None:
    tokenizer = with_style(byte_level_tokenizer(), STYLE)  # it normalizes
    assert PromptEncoder(tokenizer, STYLE).encoder == "tokenizers"


@pytest.mark.slow
def test_a_text_that_is_too_much_for_tiktoken_is_left_to_the_tokenizer() -> None:
    encoder = PromptEncoder(plain_tokenizer(), STYLE)
    text = " " * 1_000_000 + "x"
    input_ids, prompt_lengths = encoder.examples([text], [""], ["no"])
    assert input_ids[0].as_py()[: prompt_lengths[0].as_py()] == encoder.prompt(text)


def test_a_text_with_a_byte_that_the_vocabulary_lacks_is_left_to_the_tokenizer() -> None:
    alphabet = [char for char in sorted(pre_tokenizers.ByteLevel.alphabet()) if char != "z"]
    backend = Tokenizer(
        models.BPE(vocab={char: place for place, char in enumerate(alphabet)}, merges=[])
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ranks = RankEncoder.of(backend)
    assert ranks
    assert ranks.encode("lazy") is None
    ids = ranks.encode("day")
    assert ids is not None
    assert ids.tolist() == backend.encode("day").ids
