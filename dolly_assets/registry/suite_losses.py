"""What a model lost on its family's suites, compared with another model, record by record."""

from dolly_assets.family import ModelFamily
from dolly_assets.registry.attributes import CheckpointAttributes
from dolly_assets.registry.kinds import SUITE_SCORES, suite_settings
from dolly_assets.registry.suite_scores import ScoredSuite, scored_before, weights_of
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.suites.results import changes

_TITLES = {"score": "score", "bits_per_byte": "bits per byte"}


def lost_on_suites(
    store: ArtifactStore, family: ModelFamily, dataset: str, new: Artifact, old: Artifact
) -> list[str]:
    """Return a sentence for each suite on which a model may have lost more than its family allows.

    Args:
        store: Where the scores are.
        family: The family, whose `champion.may_not_lose` names the suites.
        dataset: What the models were trained on.
        new: A checkpoint, or a model in a stage.
        old: The one that it would replace.
    """
    suites = family.champion.suites_not_to_lose
    if not suites:
        return []
    scored = [_scores(store, family, dataset, model) for model in (new, old)]
    found = [
        _lost(suite, allowed, *(each.get(suite) for each in scored))
        for suite, allowed in suites.items()
    ]
    return [sentence for sentence in found if sentence]


def _scores(
    store: ArtifactStore, family: ModelFamily, dataset: str, model: Artifact
) -> dict[str, ScoredSuite]:
    """Return what a model's weights scored on the suites as the family declares them now."""
    epoch = CheckpointAttributes.of(model).epoch
    address = SUITE_SCORES.address(family.name, dataset, epoch)
    found = scored_before(store, address, weights_of(model))
    current = {name: suite_settings(family, name) for name in family.champion.suites_not_to_lose}
    return {
        name: found[name, settings]
        for name, settings in current.items()
        if (name, settings) in found
    }


def _lost(
    suite: str, allowed: float, new: ScoredSuite | None, old: ScoredSuite | None
) -> str | None:
    """Return in what a model may have lost too much on a suite; None if it has not."""
    if new is None or old is None:
        return (
            f"{'it has' if new is None else 'the champion has'} no scores on the suite {suite} as "
            "it is now: materialize suite_scores, then champion_model"
        )
    found = changes(new.table(), old.table())
    name = next(iter(found), None)
    change = found[name].value if name else None
    if name is None or change is None:
        return f"its scores on the suite {suite} cannot be compared with the champion's"
    sign = 1 if name == "bits_per_byte" else -1
    interval = found[name].interval or (change, change)
    worst = max(sign * bound for bound in interval)
    if worst <= allowed:
        return None
    return (
        f"its {_TITLES[name]} on the suite {suite} may be worse by up to {worst:.4f} "
        f"({change:+.4f}, 95 % from {interval[0]:+.4f} to {interval[1]:+.4f}); at most "
        f"{allowed:g} is allowed"
    )
