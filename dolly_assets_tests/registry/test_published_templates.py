"""Models that servers would prompt otherwise than they were trained are found."""

import json
from pathlib import Path
from typing import Any

import pytest

from dolly_assets.core.hashing import json_digest
from dolly_assets.registry.inputs import as_inputs
from dolly_assets.registry.published_templates import template_attributes, template_problems
from dolly_assets.storage import Artifact, ArtifactStore

TEMPLATE = "{{- messages[0].content -}}"
STATED = {"template": "base", "template_digest": json_digest(TEMPLATE)}


class Published:
    """Publishes a base model, a tokenized dataset, and a checkpoint of them."""

    def __init__(self, store: ArtifactStore, folder: Path, attributes: dict[str, Any]) -> None:
        self._store, self._folder = store, folder
        self.base = self._publish("tiny/base_model", {"attributes": attributes})
        self._tokenized = self._publish(
            "tiny/tokenized_dataset/animals", {"inputs": as_inputs(self.base)}
        )

    def checkpoint(self, **changed: Any) -> Artifact:
        """A checkpoint, whole or with other files or attributes."""
        attributes = changed.pop("attributes", template_attributes(self.base))
        fields = {"inputs": as_inputs(self._tokenized, self.base), "attributes": attributes}
        return self._publish("tiny/model_checkpoint/animals/01", fields, **changed)

    def _publish(
        self, name: str, fields: dict, template: str | None = TEMPLATE, ends: Any = (7, 8)
    ) -> Artifact:
        weights = self._folder / str(len(list(self._folder.iterdir()))) / "weights"
        weights.mkdir(parents=True)
        (weights / "config.json").write_text("{}")
        if template is not None:
            (weights / "chat_template.jinja").write_text(template)
        (weights / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
        return self._store.publish(name, weights.parent, kind=name.split("/")[1], **fields)


@pytest.fixture
def published(store: ArtifactStore, tmp_path: Path) -> Published:
    folder = tmp_path / "folders"
    folder.mkdir()
    return Published(store, folder, STATED)


def test_a_model_that_carries_what_it_was_trained_with_has_no_problem(
    store: ArtifactStore, published: Published
) -> None:
    assert template_problems(store, published.base) == []
    assert template_problems(store, published.checkpoint()) == []
    assert template_problems(store, published.checkpoint(ends=[8, 7, 9])) == []


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"template": TEMPLATE + " "}, "is another template than that of tiny/base_model"),
        ({"template": None}, "weights/chat_template.jinja is missing"),
        ({"ends": 7}, "weights/generation_config.json lacks the stop tokens [8]"),
        ({"attributes": {}}, "its manifest states another template than tiny/base_model"),
    ],
)
def test_what_differs_is_named(
    store: ArtifactStore, published: Published, changed: dict[str, Any], problem: str
) -> None:
    [found] = template_problems(store, published.checkpoint(**changed))
    assert problem in found


def test_models_from_before_there_was_a_choice_have_nothing_to_compare(
    store: ArtifactStore, tmp_path: Path
) -> None:
    folder = tmp_path / "folders"
    folder.mkdir()
    earlier = Published(store, folder, {})
    assert template_problems(store, earlier.checkpoint(template=None)) == []
