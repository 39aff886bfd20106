"""Commands load only what they need: Dagster alone takes longer than most of them run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dolly_assets_tests.in_process import new_variables

pytestmark = pytest.mark.slow  # each test starts a process

HEAVY = {
    "altair",
    "dagster",
    "datasets",
    "deepspeed",
    "huggingface_hub",
    "kubernetes",
    "sqlalchemy",
    "torch",
    "transformers",
}
FOR_TABLES = {"numpy", "pyarrow"}
FOR_DATA = {*FOR_TABLES, "obstore", "pydantic", "yaml"}
SCRIPT = """
import atexit, json, sys
loaded = lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr)
atexit.register(loaded)
from dolly_assets.cli.main import main
main()
"""


def loaded_by(home: Path, *arguments: str) -> set[str]:
    """The modules that a command in a process of its own has loaded at its end."""
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        env=new_variables(home),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return set(json.loads(process.stderr.splitlines()[-1]))


@pytest.mark.slow
def test_help_loads_neither_dagster_nor_what_reads_data(tmp_path: Path) -> None:
    assert not loaded_by(tmp_path, "--help") & (HEAVY | FOR_DATA)


@pytest.mark.slow
@pytest.mark.parametrize("command", [("datasets", "list"), ("status",), ("verify",)])
def test_commands_that_only_read_the_store_load_neither_dagster_nor_arrow(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    assert not loaded_by(tmp_path, *command) & (HEAVY | FOR_TABLES)
