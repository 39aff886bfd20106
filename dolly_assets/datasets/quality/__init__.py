"""Quality checks of instruction data: defects are found here, and judged against limits.

Knows texts and record numbers, and of a family only what it is given: markers, prompts, and which
records are held out. It knows neither artifacts nor Dagster.

- `suite`: all checks of a dataset, and those that a family adds.
- `checks`: the checks by name, with their default limits.
- `finding`: the result of one check.
- `report`: findings judged against limits, and as text.
- `content`: columns, empty texts, lengths.
- `dialogue`: turns that do not fit together, and empty ones.
- `duplicates`, `minhash`: records that repeat others exactly or nearly.
- `overlap`: texts that share a sequence of words with a dataset's records.
- `encoding`: wrongly decoded or damaged text.
- `language`: responses in an unexpected language.
- `patterns`: markers of prompt formats, and responses that are known to be bad.
- `preferences`: answers that are equal, contradict each other, or are one-sided.
- `personal_data`: e-mail addresses, phone and account numbers, and the like.
- `split`: leakage between training and held-out examples.
- `records`, `turns`, `arrow`: the texts as the checks read them, with Arrow.
"""
