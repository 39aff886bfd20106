"""DeepSpeed's configuration: what a recipe may set of it, and what follows from the recipe.

It knows no device, and imports DeepSpeed nowhere.

- `settings.py`: the settings that a recipe may pass on, validated.
- `config.py`: the whole configuration for a recipe and a number of ranks.
"""
