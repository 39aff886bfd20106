"""`dolly promote`, `dolly rollback` and `dolly champion`, on a store of its own."""

import json
from pathlib import Path

import pytest

from dolly_assets.storage import ArtifactStore
from dolly_assets.storage.artifact import Artifact, artifact_name
from dolly_assets_tests.home import TINY_FAMILY
from dolly_assets_tests.in_process import dolly, new_variables, refusal
from dolly_assets_tests.registry.scored import publish_epochs

FAMILY = f"{TINY_FAMILY}  champion: {{gates: [license, interval]}}\n  use: commercial\n"


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A home whose store holds scored epochs."""
    home: Path = tmp_path_factory.mktemp("home")
    store = ArtifactStore(str(home / "store"), home / "cache")

    def publish(key: list[str], *partition: str, **values: object) -> Artifact:
        name = artifact_name(key, *partition)
        (home / "content").write_text(name)
        return store.publish(name, {"content": home / "content"}, kind=key[-1], **values)  # pyright: ignore[reportArgumentType]

    publish_epochs(publish)
    return new_variables(home, FAMILY)


def output(variables: dict[str, str], *arguments: str) -> str:
    result = dolly(variables, *arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_models_move_through_the_stages_and_back(variables: dict[str, str]) -> None:
    why = "no model in a stage: run dolly train --model tiny --dataset animals, or dolly promote"
    assert why in refusal(variables, "champion", "tiny/animals")
    assert "is promoted to staging by" in output(
        variables, "promote", "tiny/animals/3", "--to", "staging"
    )
    output(variables, "promote", "tiny/animals")
    output(variables, "promote", "tiny/animals/4", "--reason", "shorter answers")
    text = output(variables, "rollback", "tiny/animals", "--reason", "too short")
    assert text.startswith("epoch 3 is back in production instead of epoch 4 by ")
    shown = json.loads(output(variables, "champion", "tiny/animals", "--json"))
    history = shown["stages"]["production"]
    assert [(each["epoch"], each["verdict"]) for each in history] == [
        (3, "rolled back"),
        (4, "promoted"),
        (3, "promoted"),
    ]
    assert history[1]["reason"].endswith(": shorter answers")
    first, *_ = output(variables, "champion", "tiny/animals").splitlines()
    assert first.startswith("production  epoch 3 ")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["promote", "tiny"], "'tiny': expected MODEL/DATASET or MODEL/DATASET/EPOCH"),
        (["promote", "tiny/animals/last"], "expected MODEL/DATASET or MODEL/DATASET/EPOCH"),
        (["promote", "tiny/animals/1"], "may not be promoted: raw_dataset[animals] (cc-by-nc-4.0)"),
        (["promote", "tiny/animals/2"], "it has no scores: materialize evaluation"),
        (["promote", "huge/animals"], "unknown model family 'huge'; known:"),
        (["rollback", "tiny/animals/3"], "expected MODEL/DATASET, such as"),
        (["rollback", "tiny/fish"], "tiny/fish has no model in production"),
        (
            ["chat", "--model", "tiny", "--epoch", "1", "--stage", "staging"],
            "leave one of them out",
        ),
    ],
)
def test_a_wrong_model_is_refused_in_one_line(
    variables: dict[str, str], arguments: list[str], why: str
) -> None:
    assert why in refusal(variables, *arguments)
