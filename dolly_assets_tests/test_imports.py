"""Imports run one way, and each image needs only its own packages.

The orchestrator has no torch, the worker has no Dagster: what is blocked here is not installed
there.
"""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import dolly_assets

PACKAGE = Path(dolly_assets.__file__).parent
LIBRARIES = {
    "storage",
    "datasets",
    "tokenization",
    "training",
    "profiling",
    "generation",
    "planning",
}
FOUNDATIONS = {"core"}
DAGSTER_SIDE = {
    "assets",
    "automation",
    "components",
    "dagster_support",
    "definitions",
    "pipeline",
    "cli",
    "doctor",
}
MAY_IMPORT_DAGSTER = {
    "assets",
    "automation",
    "components",
    "dagster_support",
    "definitions",
    "pipeline",
    "cli",
}
WITH_DAGSTER_IN_A_LIBRARY = "dolly_assets.storage.io_manager"
BUILDS_WITH_DAGSTER_K8S = (
    "dolly_assets.launchers.kubernetes.job"  # whose model of a Job's configuration is ours
)

BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Blocked())
"""


def run_without(packages: set[str], code: str) -> None:
    script = f"BLOCKED = {packages!r}\n{BLOCK}\n{code}"
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert process.returncode == 0, process.stderr


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package by its dotted name."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = ast.parse(file.read_text())
    return found


def imported(tree: ast.AST) -> set[str]:
    """All that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part_of(module: str) -> str:
    """The part of the package that a module belongs to: `dolly_assets.storage.cache` -> storage."""
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("module", sorted(modules()))
def test_only_the_dagster_side_imports_dagster(module: str) -> None:
    roots = {name.partition(".")[0] for name in imported(modules()[module])}
    is_allowed = part_of(module) in MAY_IMPORT_DAGSTER or module == WITH_DAGSTER_IN_A_LIBRARY
    if not is_allowed:
        of_dagster = {
            root for root in roots if root.startswith("dagster") and root != "dagster_pipes"
        }
        assert of_dagster == ({"dagster_k8s"} if module == BUILDS_WITH_DAGSTER_K8S else set())
    if part_of(module) in LIBRARIES | FOUNDATIONS:
        assert "dagster_pipes" not in roots


def test_imports_between_parts_run_one_way() -> None:
    """definitions -> components -> assets -> launchers, worker -> plain libraries -> core."""
    above = {
        **dict.fromkeys(FOUNDATIONS, LIBRARIES | DAGSTER_SIDE | {"launchers", "worker", "family"}),
        **dict.fromkeys(LIBRARIES, DAGSTER_SIDE | {"launchers", "worker", "family"}),
        "family": DAGSTER_SIDE | {"launchers", "worker"},
        "worker": DAGSTER_SIDE | {"launchers"},
        "launchers": DAGSTER_SIDE,
        "automation": {"components", "definitions", "pipeline", "cli"},
        "components": {"definitions", "pipeline", "cli"},
        "definitions": {"cli"},
    }
    wrong = [
        f"{module} imports {name}"
        for module, tree in modules().items()
        for name in imported(tree)
        if name.startswith("dolly_assets.") and part_of(name) in above.get(part_of(module), set())
    ]
    assert not wrong


def test_the_storage_package_does_not_pull_in_its_io_manager() -> None:
    everything = modules()
    for module, tree in everything.items():
        if part_of(module) == "storage":
            assert WITH_DAGSTER_IN_A_LIBRARY not in imported(tree), module


@pytest.mark.slow
def test_the_code_location_loads_without_torch(tmp_path: Path) -> None:
    """All definitions, their jobs included, and the command line's view of them."""
    run_without(
        {"torch", "transformers", "deepspeed", "accelerate", "tokenizers", "safetensors"},
        f"""
from pathlib import Path
from dolly_assets.definitions import build, definitions
from dolly_assets.core.environment import Environment
environment = Environment.read({{"DOLLY_HOME": {str(tmp_path)!r}}})
assert build(environment).resolve_asset_graph().get_all_asset_keys()
assert definitions().resolve_implicit_global_asset_job_def()
from dolly_assets.pipeline.session import Session
from dolly_assets.registry.status import status_rows
from dolly_assets.pipeline import pipeline
assert status_rows(Session(environment))
""",
    )


@pytest.mark.slow
def test_the_worker_and_all_its_tasks_load_without_dagster() -> None:
    """dagster_pipes is all of Dagster that a worker has."""
    run_without(
        {"dagster", "dagster_shared", "dagster_aws", "dagster_k8s", "dagster_dg_cli"},
        """
import pkgutil
import dolly_assets.storage, dolly_assets.worker
for package in (dolly_assets.worker, dolly_assets.storage):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if module.name != "dolly_assets.storage.io_manager":
            __import__(module.name)
from dolly_assets.worker.__main__ import TASKS
assert set(TASKS) == {"prepare_base_model", "tokenize", "train", "evaluate", "sample"}
""",
    )


@pytest.mark.slow
def test_neither_side_imports_a_heavy_package_before_it_is_used() -> None:
    run_without(
        set(),
        """
import dolly_assets.definitions, dolly_assets.worker.__main__, dolly_assets.cli.main
heavy = {"torch", "transformers", "deepspeed", "accelerate", "datasets", "altair", "kubernetes"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
""",
    )
