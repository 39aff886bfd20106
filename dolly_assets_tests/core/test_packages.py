"""Every package opens with a map: a line for each of its modules."""

import ast
import re
from pathlib import Path

import pytest

import dolly_assets

ROOT = Path(dolly_assets.__file__).parent
PACKAGES = sorted(file.parent for file in ROOT.rglob("__init__.py") if file.parent != ROOT)


def parts_of(package: Path) -> list[str]:
    """The modules of a package, private ones too, and the packages in it."""
    modules = [file.stem for file in package.glob("*.py") if not file.stem.startswith("__")]
    return modules + [folder.name for folder in package.iterdir() if folder in PACKAGES]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_package_names_each_of_its_modules(package: Path) -> None:
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    unnamed = [name for name in parts_of(package) if not re.search(rf"\b{name}\b", docstring)]
    assert not unnamed
