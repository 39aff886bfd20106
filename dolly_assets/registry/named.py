"""What users call an artifact: its name, or `MODEL/DATASET` with an epoch or a stage.

It knows names and stages, and nothing of what is done with the artifact.
"""

from collections.abc import Sequence

from dolly_assets.core.errors import ArtifactError
from dolly_assets.registry.kinds import KINDS, MODEL_CHECKPOINT
from dolly_assets.registry.queries import required
from dolly_assets.registry.stages import STAGES, Stage, model_in
from dolly_assets.storage.artifact import Artifact, ArtifactStore

CHAMPION = "champion"
_STAGES: dict[str, Stage] = {CHAMPION: "production", **{stage: stage for stage in STAGES}}


def find(store: ArtifactStore, name: str, digest: str | None = None) -> Artifact:
    """Return the artifact that a user means.

    Args:
        store: Where it is.
        name: The name of an artifact; or `MODEL/DATASET/EPOCH`, `MODEL/DATASET` or
            `MODEL/DATASET/champion` for the model in production, another stage in its place.
        digest: An older publication: its digest, or the beginning of it.

    Raises:
        ArtifactError: There is none.
    """
    model, dataset, *which = (*name.split("/"), "", "")[:4]
    which = "".join(which)
    history = store.history(name)
    if history or digest or not model or not dataset or {model, dataset} & {*KINDS}:
        return _with_digest(store, name, history, digest)
    if which.isascii() and which.isdecimal():
        return required(store, MODEL_CHECKPOINT.address(model, dataset, int(which)))
    if which not in ("", *_STAGES):
        raise ArtifactError(
            f"{name!r}: expected MODEL/DATASET, MODEL/DATASET/EPOCH, MODEL/DATASET/champion or the "
            "name of an artifact, such as demo/demo/3; see: dolly artifacts list"
        )
    stage = _STAGES[which or CHAMPION]
    if found := model_in(store, model, dataset, stage):
        return found
    raise ArtifactError(
        f"{model}/{dataset} has no model in {stage}: name an epoch, as {model}/{dataset}/3; see: "
        "dolly status"
    )


def _with_digest(
    store: ArtifactStore, name: str, history: Sequence[Artifact], digest: str | None
) -> Artifact:
    if not history:
        raise ArtifactError(f"{store.url} has no artifact {name}; see: dolly artifacts list")
    found = [each for each in history if each.digest.startswith(digest or "")]
    if not found:
        raise ArtifactError(f"{name} has no digest {digest}…; see: dolly artifacts show {name}")
    return found[0]
