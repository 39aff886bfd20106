"""A language model as judge: which of two answers to a prompt is better, asked of a server.

It knows texts, and a server that speaks OpenAI's API; it knows neither models, families nor the
store. Nothing here is loaded by a worker but the settings.

- `settings.py`: what a family declares of its judge.
- `prompt.py`: the two messages that it is sent, in which no answer can pass for anything else.
- `verdict.py`: what its reply says, read strictly.
- `client.py`: one request, with time limits and retries, and every failure in one sentence.
- `exchange.py`: what was asked and replied, as rows of a table; names what is not asked twice.
- `pairs.py`: two answers, judged in both orders.
- `outcome.py`: the win rate with its interval, and how far the judge can be trusted.
- `text.py`: all of this in a sentence and in tables.
"""

from dolly_assets.judging.settings import Judge

__all__ = ["Judge"]
