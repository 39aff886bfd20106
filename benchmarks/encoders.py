"""Compare tiktoken with the tokenizer's own encoder on conversations, for today's pre-tokenizers.

    python benchmarks/encoders.py [--conversations 52000] [--repeats 3]

The conversations have three turns of made-up words, laid out as ChatML. For each pre-tokenizer a
byte-level BPE is trained on some of them. `encode_batch` is what most programs call;
`encode_batch_fast` leaves out offsets and was the encoder of these models before; `tiktoken`
includes the proof of equality and the ranks. The ids are compared. They take turns; the best time
of each counts, of CPU seconds, which other programs disturb less.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from tokenizing import generated

from dolly_assets.tokenization.rank_bpe import RankEncoder
from dolly_assets.tokenization.word_patterns import SPLITS

VOCABULARY_SIZE = 32_000


def conversations(count: int) -> list[str]:
    """Return dialogues as text."""
    columns = (
        generated(count)[name].to_pylist() for name in ("instruction", "context", "response")
    )
    return [
        f"<|im_start|>user\n{first}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"
        f"<|im_start|>user\n{second} 1999?<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"
        for first, second, answer in zip(*columns, strict=True)
    ]


def trained(words: str, texts: list[str]) -> Tokenizer:
    """Return byte-level BPE with one of the known patterns."""
    backend = Tokenizer(models.BPE(ignore_merges=words == "Llama 3"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLITS[words]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    if words.startswith("Qwen"):
        backend.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def ranked(backend: Tokenizer, texts: list[str]) -> np.ndarray:
    """Encode in batches, as tokenizing does."""
    ranks = RankEncoder.of(backend)
    batches = [ranks and ranks.encode(texts[at : at + 2000]) for at in range(0, len(texts), 2000)]
    return np.concatenate([batch[0] for batch in batches if batch])


def compare(words: str, texts: list[str], repeats: int) -> None:
    """Print megabytes per CPU second of each encoder."""
    backend = trained(words, texts[:5000])
    contenders: dict[str, Callable[[], Any]] = {
        "encode_batch": lambda: backend.encode_batch(texts, add_special_tokens=False),
        "encode_batch_fast": lambda: backend.encode_batch_fast(texts, add_special_tokens=False),
        "tiktoken": lambda: ranked(backend, texts),
    }
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    seconds, ids = dict.fromkeys(contenders, float("inf")), {}
    for _ in range(repeats):
        for name, contender in contenders.items():
            began_at = time.process_time()
            ids[name] = contender()
            seconds[name] = min(seconds[name], time.process_time() - began_at)
    expected = np.concatenate([encoding.ids for encoding in ids["encode_batch_fast"]])
    if not np.array_equal(ids["tiktoken"], expected):
        raise SystemExit(f"{words}: the ids differ")
    for name, took in seconds.items():
        print(f"{words:<8} {name:<18} {megabytes / took:6.2f} MB per CPU second", flush=True)
    for name in ("encode_batch", "encode_batch_fast"):
        print(f"ratio {words}: tiktoken.vs_{name} {seconds[name] / seconds['tiktoken']:.2f}")


def main() -> None:
    """Compare the encoders for the pre-tokenizers of the most used models."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--conversations", type=int, default=52_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    texts = conversations(arguments.conversations)
    for words in ("Llama 3", "Qwen 2"):
        compare(words, texts, arguments.repeats)


if __name__ == "__main__":
    main()
