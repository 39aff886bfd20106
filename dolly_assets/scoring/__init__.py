"""Scores with their uncertainty, and decisions between models scored on the same examples.

It knows numbers and texts of scored examples; it knows neither models nor the store.

- `examples.py`: the scores of single examples, as a table; the scores of a model from it.
- `texts.py`: what can be measured of an answer: token F1, length, repetition, refusal, copying.
- `memorization.py`: which share of its training records a model reproduces verbatim.
- `calibration.py`: whether a model is right as often as it is sure.
- `intervals.py`: 95 % intervals of means, of shares and of losses per token.
- `paired.py`: two or more models on the same examples: which is better, and is it chance.
- `trends.py`: whether answers grow longer with training.
- `record_losses.py`: the loss of every record over the epochs; `spikes.py`: steps that jump.
- `power.py`: the smallest difference that a held-out split can show.
- `rule.py`: what a family declares of its champion; `contender.py`: models to be compared.
- `regressions.py`: whether a model is worse than another, or a training overfits.
- `champion.py`: the verdict by that rule; `alternatives.py`: the table that it was chosen from.
"""

from dolly_assets.scoring.rule import ChampionRule

__all__ = ["ChampionRule"]
