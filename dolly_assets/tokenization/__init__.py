"""Tokenization: how an example is laid out as text, and how text becomes labelled token ids.

It knows texts, tokenizers and tables; it knows nothing of models, training or the store.

- `prompt_style.py`: the layout of prompts and responses, Dolly's by default.
- `tokenize.py`: from a raw dataset to what is trained on and scored with; the function to use.
- `templates`: chat templates, and labels that are proven.
- `encode.py`: from an example to token ids, in the same way for training and generation.
- `rank_bpe.py`: a faster encoder, used where it provably gives the same ids.
- `word_patterns.py`, `merge_ranks.py`, `added_tokens.py`: why they are the same, for words, merges
  and added tokens.
- `labels.py`: which tokens of an example are labelled.
- `split.py`, `pack.py`: which examples are held out, and which share a row.
- `tokenized_dataset.py`: the result, and its form on disk.
- `statistics.py`, `preview.py`: the result in numbers, and as a reader sees it.
"""

from dolly_assets.tokenization.prompt_style import PromptStyle

__all__ = ["PromptStyle"]
