"""`dolly push` through the Hub's real client, to a stand-in that answers its requests."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets_tests.in_process import dolly, new_variables, refusal
from dolly_assets_tests.papers.stand_in_hub import TOKEN, Hub, Repository, running
from dolly_assets_tests.tokenization.tiny import byte_level_tokenizer, with_style

NAME, MODEL = "team/pets", "tiny/animals/1"
CONFIG = json.dumps({"model_type": "gpt_neox"})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running() as hub:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield hub


@pytest.fixture
def variables(tmp_path: Path, hub: Hub) -> dict[str, str]:
    return {
        **new_variables(tmp_path / "home"),
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(tmp_path / "hf"),
    }


class Shelf:
    """A store in which a model of a few bytes is published with its lineage."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = ArtifactStore(str(folder / "home" / "store"), folder / "home" / "cache")

    def publish(self, license_id: str = "apache-2.0", text: str = "weights") -> Artifact:
        raw = self._put("raw_dataset/animals", {"data.parquet": "data"}, license=license_id, rows=1)
        stated = {"source": "untrained", "license": "mit", "parameters": 1, "embedding_rows": 1}
        base = self._put(
            "tiny/base_model", {"weights/config.json": "{}"}, **stated, tied_embeddings=True
        )
        tokenized = self._put("tiny/tokenized_dataset/animals", {"t": "t"}, (raw, base))
        files = {"weights/config.json": CONFIG, "weights/model.safetensors": text}
        with_style(byte_level_tokenizer(), PromptStyle()).save_pretrained(
            self.folder / "tree/tiny/model_checkpoint/animals/01/weights"
        )
        return self._put("tiny/model_checkpoint/animals/01", files, (base, tokenized), epoch=1)

    def _put(
        self, name: str, files: dict[str, str], inputs: tuple[Artifact, ...] = (), **stated: object
    ) -> Artifact:
        for path, text in files.items():
            (self.folder / "tree" / name / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / "tree" / name / path).write_text(text)
        kind = name.split("/")[0 if name.startswith("raw") else 1]
        return self.store.publish(
            name,
            self.folder / "tree" / name,
            kind=kind,
            inputs={each.name: each.digest for each in inputs},
            attributes=json.loads(json.dumps(stated)),
        )


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_a_model_is_pushed_with_its_papers_once(
    variables: dict[str, str], hub: Hub, shelf: Shelf
) -> None:
    model = shelf.publish()
    result = dolly(variables, "push", MODEL, "--to", NAME)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(f"sent\n{hub.url}/{NAME}\n")
    held = hub.repositories[NAME]
    assert held.private
    assert held.commits[0][1] == f"dolly_assets: {model.name} {model.digest}"
    assert held.files["model.safetensors"] == b"weights"
    assert {"config.json", "README.md", "LICENSES.md", "ml-bom.cdx.json"} <= held.files.keys()
    assert {"tokenizer.json", "chat_template.jinja", "generation_config.json"} <= held.files.keys()
    card = yaml.safe_load(held.files["README.md"].decode().split("---\n")[1])
    assert card["dolly_assets"]["digest"] == model.digest
    hub.requests.clear()
    again = dolly(variables, "push", MODEL, "--to", NAME)
    assert "is there already, nothing was sent" in again.stdout
    assert {request.split()[0] for request in hub.requests} == {"GET"}
    assert TOKEN not in result.output + again.output


def test_another_model_takes_its_place_and_what_is_gone_is_deleted(
    variables: dict[str, str], hub: Hub, shelf: Shelf
) -> None:
    shelf.publish()
    assert dolly(variables, "push", MODEL, "--to", NAME).exit_code == 0
    hub.repositories[NAME].files["old.bin"] = b"of an earlier model"
    shelf.publish(text="better")
    assert dolly(variables, "push", MODEL, "--to", NAME).exit_code == 0
    held = hub.repositories[NAME]
    assert (held.files["model.safetensors"], len(held.commits)) == (b"better", 3)
    assert "old.bin" not in held.files
    assert ".gitattributes" in held.files


@pytest.mark.parametrize("was_ours", [True, False])
def test_what_others_wrote_is_replaced_only_if_told(
    variables: dict[str, str], hub: Hub, shelf: Shelf, *, was_ours: bool
) -> None:
    shelf.publish()
    if was_ours:
        assert dolly(variables, "push", MODEL, "--to", NAME).exit_code == 0
        shelf.publish(text="better")
    held = hub.repositories.setdefault(NAME, Repository(private=True))
    held.files["README.md"] = b"by hand"
    held.commits.insert(0, ("1" * 40, "Update README.md"))
    said = refusal(variables, "push", MODEL, "--to", NAME)
    assert "its last commit is 'Update README.md'" in said
    assert held.files["README.md"] == b"by hand"
    assert dolly(variables, "push", MODEL, "--to", NAME, "--overwrite").exit_code == 0
    assert held.files["README.md"] != b"by hand"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, "the Hub knows no such token"),
        (403, "the repository is gated"),
        (429, "the Hub limits how often it is asked"),
        (418, "the Hub answered 418"),
    ],
)
def test_a_refusal_is_one_sentence_without_the_token(
    variables: dict[str, str], hub: Hub, shelf: Shelf, status: int, expected: str
) -> None:
    shelf.publish()
    hub.status = status
    said = refusal(variables, "push", MODEL, "--to", NAME)
    assert expected in said
    assert f"{hub.url}/{NAME}" in said
    assert TOKEN not in said


def test_a_wrong_token_is_not_shown(variables: dict[str, str], shelf: Shelf) -> None:
    shelf.publish()
    wrong = {**variables, "HF_TOKEN": "hf_wrongwrongwrong"}
    said = refusal(wrong, "push", MODEL, "--to", NAME)
    assert "the Hub knows no such token" in said
    assert "wrongwrong" not in said


def test_a_commit_between_reading_and_writing_is_not_overwritten(
    variables: dict[str, str], hub: Hub, shelf: Shelf
) -> None:
    shelf.publish()
    hub.commit_status = 409
    said = refusal(variables, "push", MODEL, "--to", NAME)
    assert "it was created or changed at the same time: run the same command again" in said


def test_a_hub_that_cannot_be_reached_is_one_sentence(
    variables: dict[str, str], shelf: Shelf
) -> None:
    shelf.publish()
    with running() as gone:
        pass
    said = refusal({**variables, "HF_ENDPOINT": gone.url}, "push", MODEL, "--to", NAME)
    assert f"{gone.url}/{NAME} cannot be reached" in said


@pytest.mark.parametrize(
    ("license_id", "expected"),
    [("CC-BY-ND-4.0", "no adapted version may be shared"), ("mine", "its terms are unknown")],
)
def test_what_must_not_be_public_is_pushed_private_alone(
    variables: dict[str, str], hub: Hub, shelf: Shelf, license_id: str, expected: str
) -> None:
    shelf.publish(license_id)
    said = refusal(variables, "push", MODEL, "--to", NAME, "--public")
    assert f"raw_dataset[animals] is {license_id}, and {expected}" in said
    assert not hub.requests
    assert dolly(variables, "push", MODEL, "--to", NAME).exit_code == 0
    assert hub.repositories[NAME].private


def test_non_commercial_data_is_asked_about_before_it_is_public(
    variables: dict[str, str], hub: Hub, shelf: Shelf
) -> None:
    shelf.publish("CC-BY-NC-4.0")
    asked = dolly(variables, "push", MODEL, "--to", NAME, "--public")
    assert asked.exit_code == 1  # nobody answers
    assert "may not be used commercially" in asked.stderr
    assert not hub.requests
    assert dolly(variables, "push", MODEL, "--to", NAME, "--public", "--yes").exit_code == 0
    held = hub.repositories[NAME]
    assert not held.private
    assert "CC-BY-NC-4.0" in held.files["LICENSES.md"].decode()
    card = yaml.safe_load(held.files["README.md"].decode().split("---\n")[1])
    assert (card["license"], card["license_name"]) == ("other", "cc-by-nc-4.0-and-mit")


@pytest.mark.parametrize("name", ["pets", "a/b/c", "team/pe ts"])
def test_a_repository_is_an_owner_and_a_name(
    variables: dict[str, str], shelf: Shelf, name: str
) -> None:
    shelf.publish()
    assert f"--to '{name}'" in refusal(variables, "push", MODEL, "--to", name)
