"""YAML that users write, read with one limit and one error.

PyYAML raises its own errors for wrong syntax, and whatever Python raises for a value: ValueError
for the date 2026-99-99, KeyError for `!!bool maybe`, RecursionError for a thousand brackets. Here
all are a ConfigurationError that names file, line and column.
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import BaseModel, ValidationError
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.error import Mark

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.text import one_line

MAX_YAML_BYTES = 64 * 1024
MAX_DEPTH = 50

Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """Adds the place to the errors of values, and stops at a depth that no document needs."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            mark = cast(Mark, self.peek_event().start_mark)  # pyright: ignore[reportUnknownMemberType]
            problem = f"more than {MAX_DEPTH} levels of nesting"
            raise ComposerError(None, None, problem, mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        try:
            return super().construct_object(node, deep)  # pyright: ignore[reportUnknownMemberType]
        except yaml.YAMLError:
            raise
        except Exception as error:
            problem = f"a value cannot be read: {one_line(error, 100)}"
            raise ConstructorError(None, None, problem, node.start_mark) from error


def parse_yaml(content: bytes, where: str, most_bytes: int = MAX_YAML_BYTES) -> dict[str, Any]:
    """Return the keys and values of a YAML document, which may be empty.

    Args:
        content: The document; more than `most_bytes` are refused, so no more need be read.
        where: What it is, such as the path of its file, to begin messages with.
        most_bytes: The limit of its length.

    Raises:
        ConfigurationError: It is too long, not YAML, or holds no keys.
    """
    if len(content) > most_bytes:
        raise ConfigurationError(
            f"{where}: more than {most_bytes:,} bytes: expected a short YAML file"
        )
    with _explaining(where):
        value: object = yaml.load(content, _Loader)  # noqa: S506 a SafeLoader
    if value is not None and not isinstance(value, dict):
        raise ConfigurationError(
            f"{where}: expected keys with values, found a {type(value).__name__}"
        )
    return cast(dict[str, Any], value or {})


def read_yaml(model: type[Model], content: bytes, where: str) -> Model:
    """Return what a YAML document describes.

    Args:
        model: What it describes; its fields are the known keys.
        content: The document.
        where: What it is, to begin messages with.

    Raises:
        ConfigurationError: It is not YAML, or a key or value in it is wrong.
    """
    try:
        return model.model_validate(parse_yaml(content, where))
    except ValidationError as error:
        is_unknown = any(
            problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1
            for problem in error.errors()
        )
        known = f"; known keys: {', '.join(model.model_fields)}" if is_unknown else ""
        raise ConfigurationError(f"{where}: {one_line(error, 300)}{known}") from error


def check_documents(content: bytes, where: str) -> None:
    """Check the documents of a file of any length, which another parser could not read.

    Raises:
        ConfigurationError: It is not UTF-8, or one of them is not YAML.
    """
    with _explaining(where):
        for _ in yaml.load_all(content.decode(), _Loader):
            pass


def read_start(path: Path, where: str) -> bytes:
    """Return what `parse_yaml` accepts of a file, and one byte more if there is more.

    Raises:
        ConfigurationError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_YAML_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{where}: cannot be read: {error.strerror}") from error


@contextmanager
def _explaining(where: str) -> Generator[None]:
    try:
        yield
    except Exception as error:  # the scanner, too, passes on whatever Python raises
        raise ConfigurationError(f"{where}: not YAML: {_explained(error)}") from error


def _explained(error: Exception) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or not error.problem_mark:
        return one_line(error, 200)
    mark = error.problem_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
