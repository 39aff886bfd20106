import random
from collections.abc import Sequence

import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from dolly_assets.tokenization.encode import PromptEncoder
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.rank_bpe import RankEncoder
from dolly_assets.tokenization.word_patterns import SPLITS
from dolly_assets_tests.tokenization.tiny import (
    CORPUS,
    byte_level_tokenizer,
    sentencepiece_tokenizer,
    with_style,
)

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


def split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


PRE_TOKENIZERS = {
    "GPT-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "SmolLM": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    ),
    **{name: split(pattern) for name, pattern in SPLITS.items()},
}
MIXED = "It's 1999, I'LL say 12345! ThisIsCamelCase\r\n\r\n  x/y//\n"
LONGER_CORPUS = [*CORPUS, MIXED * 3, *PIECES]


def trained(pre_tokenizer: pre_tokenizers.PreTokenizer) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizer
    backend.train_from_iterator(
        LONGER_CORPUS,
        trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=["<|endoftext|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    backend.encode_special_tokens = True
    return backend


def assert_equal(backend: Tokenizer, texts: Sequence[str]) -> None:
    ranks = RankEncoder.of(backend)
    assert ranks
    encoded = ranks.encode(texts)
    assert encoded
    ids, offsets = encoded
    expected = backend.encode_batch_fast(texts, add_special_tokens=False)
    for text, begin, end, encoding in zip(texts, offsets[:-1], offsets[1:], expected, strict=True):
        assert ids[begin:end].tolist() == encoding.ids, ascii(text)
    assert offsets[-1] == len(ids)


def made_of_pieces(count: int, most: int = 12) -> list[str]:
    dice = random.Random(7)
    return ["".join(dice.choices(PIECES, k=dice.randint(0, most))) for _ in range(count)]


@pytest.mark.parametrize("words", PRE_TOKENIZERS)
@pytest.mark.parametrize("normalizer", [None, normalizers.NFC()], ids=["as it is", "NFC"])
def test_both_encoders_give_the_same_ids_for_thousands_of_texts(words, normalizer) -> None:
    backend = trained(PRE_TOKENIZERS[words])
    if normalizer:
        backend.normalizer = normalizer
    assert_equal(backend, made_of_pieces(3000))


EVERY_CHARACTER = [*range(0xD800), *range(0xE000, 0x33000), *range(0xE0000, 0xE0200), 0x10FFFF]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("words", PRE_TOKENIZERS)
def test_so_they_do_for_every_character(words) -> None:
    """Each beside letters, numbers, spaces, line breaks and an apostrophe, and doubled."""
    backend = trained(PRE_TOKENIZERS[words])
    backend.normalizer = normalizers.NFC() if words.startswith("Qwen") else None
    for at in range(0, len(EVERY_CHARACTER), 20_000):
        characters = map(chr, EVERY_CHARACTER[at : at + 20_000])
        contexts = [f"a{each}A1{each} {each}  {each}\n{each}.'{each}l{each}" for each in characters]
        assert_equal(backend, ["".join(contexts[at : at + 50]) for at in range(0, 20_000, 50)])


@pytest.mark.parametrize("unit", [" ", "a", "ab", "\n", "日", "."])
@pytest.mark.parametrize("words", PRE_TOKENIZERS)
def test_so_they_do_for_a_long_run(words, unit) -> None:
    assert_equal(trained(PRE_TOKENIZERS[words]), [unit * 5_000 + "x"])


def listed(merges: Sequence[tuple[str, str]], **settings) -> Tokenizer:
    """Return BPE with all bytes, these pairs, and what they form."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = dict.fromkeys([*alphabet, *(left + right for left, right in merges)])
    tokens |= dict.fromkeys(settings.pop("looked_up", []))
    vocab = {token: place for place, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=list(merges), **settings))
    backend.pre_tokenizer = PRE_TOKENIZERS["GPT-2"]
    return backend


@pytest.mark.parametrize(
    "merges",
    [
        # abc is joined from ab and c, but bc comes first: it is never formed.
        [("b", "c"), ("a", "b"), ("ab", "c")],
        # aa is joined from the left: of a, a, a, a never remain a and aaa.
        [("a", "a"), ("aa", "a"), ("a", "aaa")],
        # aaa in two ways, of which one never happens.
        [("a", "a"), ("a", "aa"), ("aa", "a")],
        # bc comes after abc, whose pair has a part that is formed later than it.
        [("a", "bc"), ("b", "c")],
        # A pair that is listed twice counts where it is listed last.
        [("a", "b"), ("b", "c"), ("a", "b")],
    ],
)
def test_any_list_of_pairs_has_ranks(merges) -> None:
    dice = random.Random(5)
    assert_equal(listed(merges), ["".join(dice.choices("abc", k=9)) for _ in range(300)])


def test_many_lists_of_pairs_give_the_same_ids_as_their_ranks() -> None:
    """Lists in any order, with several pairs for a token and pairs that never meet."""
    dice = random.Random(11)
    proven = 0
    for _ in range(150):
        tokens, merges = ["a", "b", "c"], []
        for _ in range(dice.randint(1, 14)):
            pair = (dice.choice(tokens), dice.choice(tokens))
            merges.append(pair)
            tokens.append("".join(pair))
        dice.shuffle(merges)
        looked_up = ["".join(dice.choices("abc", k=dice.randint(2, 5))) for _ in range(2)]
        backend = listed(merges, ignore_merges=dice.random() < 0.5, looked_up=looked_up)
        if RankEncoder.of(backend):
            proven += 1
            texts = ["".join(dice.choices("abc", k=dice.randint(1, 12))) for _ in range(60)]
            assert_equal(backend, texts)
    assert proven > 75


def test_a_token_that_only_tiktoken_would_form_is_left_to_the_tokenizer() -> None:
    """In "ab" both find the token, in "abc" tiktoken alone would."""
    assert RankEncoder.of(listed([], ignore_merges=True, looked_up=["ab"])) is None
    assert_equal(listed([], ignore_merges=True, looked_up=["abc"]), ["abc", "abcd", "xabc", "ab"])
    assert_equal(listed([], looked_up=["ab"]), ["ab", "abc"])


@pytest.mark.parametrize("specials_are_text", [True, False])
def test_added_tokens_are_found_where_the_tokenizer_finds_them(specials_are_text) -> None:
    backend = trained(PRE_TOKENIZERS["GPT-2"])
    backend.encode_special_tokens = specials_are_text
    backend.normalizer = normalizers.NFC()
    runs = [AddedToken(" " * size, normalized=True, special=False) for size in range(2, 6)]
    backend.add_tokens(
        [
            *(AddedToken(text, normalized=False) for text in ("<a>", "<a><b>", "End", "é", "#")),
            *(AddedToken(text, normalized=True) for text in ("e\u0301t", "sky", "y  x")),
            *runs,
        ]
    )
    backend.add_special_tokens([AddedToken("### End", special=True, normalized=False)])
    dice = random.Random(3)
    pieces = ["<a>", "<b>", "End", "### ", "é", "e\u0301", "t", "sk", "y", " ", "  ", "x", "\u0338"]
    assert_equal(backend, ["".join(dice.choices(pieces, k=8)) for _ in range(3000)])


def test_an_encoder_serves_a_tokenizer_with_other_added_tokens() -> None:
    backend = trained(PRE_TOKENIZERS["Llama 3"])
    ranks = RankEncoder.of(backend)
    assert ranks
    backend.add_tokens([AddedToken("sky", normalized=False)])
    others = ranks.with_tokens_of(backend)
    assert others
    encoded = others.encode(["a blue sky"])
    assert encoded
    assert encoded[0].tolist() == backend.encode("a blue sky").ids


def test_many_texts_are_encoded_as_one_by_one() -> None:
    texts = made_of_pieces(40_000, most=30)
    assert sum(map(len, texts)) > 1_000_000
    assert_equal(trained(PRE_TOKENIZERS["Llama 3"]), texts)
    assert_equal(trained(PRE_TOKENIZERS["Llama 3"]), [])
    assert_equal(trained(PRE_TOKENIZERS["Llama 3"]), ["", "", "a", ""])


def plain_tokenizer():
    """Byte-level BPE without a normalizer, as GPT-2's."""
    tokenizer = byte_level_tokenizer()
    rebuilt = Tokenizer(tokenizer.backend_tokenizer.model)
    rebuilt.pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
    rebuilt.decoder = tokenizer.backend_tokenizer.decoder
    tokenizer._tokenizer = rebuilt
    tokenizer.add_special_tokens({"eos_token": "<|endoftext|>"})
    return with_style(tokenizer, STYLE)


def tokenizer_with_bos():
    """Byte-level BPE that begins every text with a token, as Llama 3's."""
    tokenizer = byte_level_tokenizer(bos_token="<s>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.convert_tokens_to_ids("<s>"))]
    )
    return with_style(tokenizer, STYLE)


@pytest.mark.parametrize("made", [plain_tokenizer, tokenizer_with_bos])
def test_examples_are_the_same_whichever_library_encodes_them(made) -> None:
    dice = random.Random(8)
    fields = [["".join(dice.choices(PIECES, k=6)) for _ in range(300)] for _ in range(3)]
    tokenizer = made()
    encoder = PromptEncoder(tokenizer, STYLE)
    assert encoder.encoder == "tiktoken"
    input_ids, prompt_lengths = encoder.examples(*fields)
    one_by_one = [
        encoder.prompt(instruction, context)
        for instruction, context, _ in zip(*fields, strict=True)
    ]
    found = zip(input_ids.to_pylist(), prompt_lengths.to_pylist(), strict=True)
    assert [ids[:length] for ids, length in found] == one_by_one


def test_examples_of_a_tokenizer_with_a_bos_begin_with_it() -> None:
    tokenizer = tokenizer_with_bos()
    encoder = PromptEncoder(tokenizer, STYLE)
    input_ids, _ = encoder.examples(["Name a colour."] * 2, ["", "Blue."], ["Blue", "Red"])
    assert input_ids.to_pylist() == [
        tokenizer(STYLE.prompt("Name a colour.", context) + STYLE.completion(response)).input_ids
        for context, response in (("", "Blue"), ("Blue.", "Red"))
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda backend: setattr(backend, "normalizer", normalizers.NFKC()),
        lambda backend: setattr(backend, "pre_tokenizer", pre_tokenizers.ByteLevel(True)),
        lambda backend: setattr(backend, "pre_tokenizer", split(r"\p{L}+|.")),
        lambda backend: setattr(backend, "pre_tokenizer", pre_tokenizers.Whitespace()),
        lambda backend: setattr(backend.model, "dropout", 0.1),
        lambda backend: backend.add_tokens([AddedToken("<x>", lstrip=True)]),
    ],
)
def test_what_is_not_known_is_left_to_the_tokenizer(change) -> None:
    backend = trained(PRE_TOKENIZERS["GPT-2"])
    assert RankEncoder.of(backend)
    change(backend)
    assert RankEncoder.of(backend) is None


def test_sentencepiece_is_left_to_the_tokenizer() -> None:
    tokenizer = with_style(sentencepiece_tokenizer("first"), STYLE)
    assert PromptEncoder(tokenizer, STYLE).encoder == "tokenizers"


@pytest.mark.slow
@pytest.mark.long
def test_a_text_that_is_too_much_for_tiktoken_is_left_to_the_tokenizer() -> None:
    encoder = PromptEncoder(plain_tokenizer(), STYLE)
    text = " " * 1_000_000 + "x"
    input_ids, prompt_lengths = encoder.examples([text], [""], ["no"])
    assert input_ids[0].as_py()[: prompt_lengths[0].as_py()] == encoder.prompt(text)


def test_a_text_with_the_characters_that_stand_for_tokens_is_left_to_the_tokenizer() -> None:
    ranks = RankEncoder.of(trained(PRE_TOKENIZERS["GPT-2"]))
    assert ranks
    assert ranks.encode(["a\U000f0000"]) is None
    encoder = PromptEncoder(plain_tokenizer(), STYLE)
    input_ids, prompt_lengths = encoder.examples(["a\U000f0001\U000f0000"], [""], ["no"])
    expected = encoder.prompt("a\U000f0001\U000f0000")
    assert input_ids[0].as_py()[: prompt_lengths[0].as_py()] == expected


def test_a_text_with_a_byte_that_the_vocabulary_lacks_is_left_to_the_tokenizer() -> None:
    alphabet = [char for char in sorted(pre_tokenizers.ByteLevel.alphabet()) if char != "z"]
    backend = Tokenizer(
        models.BPE(vocab={char: place for place, char in enumerate(alphabet)}, merges=[])
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ranks = RankEncoder.of(backend)
    assert ranks
    assert ranks.encode(["lazy"]) is None
    assert_equal(backend, ["day"])
