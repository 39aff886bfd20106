"""Imports between the rooms of `profiling` run one way, and leave it only for the foundations."""

import ast
from pathlib import Path

import pytest

from dolly_assets import profiling

FOLDER = Path(profiling.__file__).parent
ROOMS = ("record", "series", "analysis", "report")  # each imports only those before it
FOUNDATIONS = ("core", "hardware")


def imports(file: Path) -> set[str]:
    """What a module imports of the package, wherever in it."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name for name in names if name.startswith("dolly_assets.")}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_those_before_it_and_the_foundations(room: str) -> None:
    allowed = {f"profiling.{each}" for each in ROOMS[: ROOMS.index(room) + 1]} | {*FOUNDATIONS}
    wrong = [
        f"{file.name} imports {name}"
        for file in sorted((FOLDER / room).glob("*.py"))
        for name in sorted(imports(file))
        if not any(name.startswith(f"dolly_assets.{each}") for each in allowed)
    ]
    assert not wrong


def test_there_is_no_other_room() -> None:
    assert {folder.parent.name for folder in FOLDER.glob("*/__init__.py")} == {*ROOMS}
