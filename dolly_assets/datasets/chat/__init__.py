"""Chat data: conversations as other programs write them, read into the canonical form.

Knows the keys and roles of the forms, and no files. A record that cannot be read exactly is
refused; what is changed or left out of one is counted and stated.

- `forms`: the forms by the names of their columns.
- `table`: records of a form as a table of conversations.
- `dialogues`: what a record has beside a single exchange, as `alpaca` reads it.
- `openai`, `sharegpt`: a message in either of the two layouts, which may be mixed.
- `alpaca`: a system prompt and earlier turns.
- `chatml`: a conversation as one text with markers.
- `turns`: the messages of a conversation together.
- `roles`, `content`, `tools`: the speaker, the text and the calls of a turn.
- `losses`: what reading changed or left out.
"""
