"""Preferences: prompts with two answers, of which one was chosen.

They are read from files of others, and collected vote by vote in the store. Knows records and
objects; it knows neither models nor who votes.

- `records`: preferences in the forms in which programs write them, as a table.
- `votes`: a dataset in the store that grows by one preference at a time.
"""
