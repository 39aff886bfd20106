"""Chat templates: how a conversation becomes text, token ids, and labels that are proven.

It knows conversations, Jinja templates and tokenizers; it knows nothing of families, files or the
store. What a template does is found by rendering it, never assumed.

- `settings.py`: which template a family uses, and which turns it trains.
- `template.py`: a template's text, bundled ones and those that models carry.
- `choice.py`: the template that a base model is to carry, with its date and thinking fixed.
- `render.py`: rendering by transformers, with limits.
- `messages.py`: a conversation as templates read it.
- `control.py`: control tokens, which only the template can write.
- `probe.py`: what a template does, found once by rendering it.
- `turns.py`: a conversation's turns: where labels begin and end, proven by rendering.
- `presence.py`: whether a rendering shows every message.
- `proof.py`: token ids and labels, proven by decoding.
- `encoder.py`: conversations as token ids and labels; the class to use.
- `tables.py`: the same as the columns of a tokenized dataset.
"""

from dolly_assets.tokenization.templates.settings import Labels, TemplateFile

__all__ = ["Labels", "TemplateFile"]
