"""Generation: answers from a model, to score it, to sample it, and to chat with it.

It knows folders of weights and encoded prompts; it knows nothing of the store, or of how a model
was trained.

- `model.py`: loading a model from a folder of weights.
- `prompt.py`: what a model is asked.
- `answer.py`: from encoded prompts to answers; all other modules call it.
- `batches.py`: rows of similar length in batches; `continuous.py`: batches that are refilled.
- `rolling.py`: a batch whose rows come and go; `answer_text.py`: text while tokens arrive.
- `sampling.py`: sampled tokens that depend on a prompt's own seed alone.
- `evaluate.py`: loss, perplexity and exact match on held-out examples.
- `memorization.py`: whether a model continues records of its training data verbatim.
- `sample.py`: sample responses; `comparison.py`: epochs side by side.
- `comparison_page.py`: the page on which they are compared; `line_chart.py`: its charts.
- `dialogue.py`: a conversation with a model, as long as its context allows.
- `terminal.py`: asking and chatting on a terminal.
"""

from dolly_assets.generation.prompt import DEFAULT_PROMPTS, Prompt

__all__ = ["DEFAULT_PROMPTS", "Prompt"]
