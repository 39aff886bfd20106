"""Imports run one way, and each image needs only its own packages.

Every part of the package has its place in LAYERS, and imports only parts below it. The orchestrator
has no torch, the worker has no Dagster: what is blocked here is not installed there.
"""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dolly_assets

PACKAGE = Path(dolly_assets.__file__).parent
LAYERS = (
    {"core", "defs"},
    {"hardware", "storage", "conversations"},
    {"datasets", "tokenization", "profiling", "scoring"},
    {"training"},
    {"generation", "planning"},
    {"suites", "judging", "exporting"},
    {"family"},
    {"registry", "scaffolding"},
    {"papers"},
    {"worker", "serving"},
    {"report_server", "playground"},
    {"launchers"},
    {"dagster_support", "doctor"},
    {"assets", "automation"},
    {"components"},
    {"definitions"},
    {"pipeline"},
    {"cli", "notebook"},
)
"""From the bottom to the top. Parts of one layer do not import each other."""
STANDS_ALONE = {"profiling": {"core", "hardware"}}
"""Parts that could be packages of their own, with all that they may import."""
LIBRARIES = {part for layer in LAYERS[:6] for part in layer}
MAY_IMPORT_DAGSTER = {
    "assets",
    "automation",
    "components",
    "dagster_support",
    "definitions",
    "pipeline",
    "cli",
}
WITH_DAGSTER_IN_A_LIBRARY = {
    "dolly_assets.storage.io_manager",
    "dolly_assets.storage.asset_metadata",
}
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


def imported(tree: ast.AST, *, at_once: bool = False) -> set[str]:
    """Return what a module imports, wherever in it; `at_once` leaves out what functions import."""
    names: set[str] = set()
    for node in _nodes(tree, into_functions=not at_once):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _nodes(tree: ast.AST, *, into_functions: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        yield node
        if into_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _nodes(node, into_functions=into_functions)


def part_of(name: str) -> str:
    """Return the part that a name belongs to: `dolly_assets.storage.cache` is of storage."""
    package, _, rest = name.partition(".")
    part = rest.partition(".")[0]
    return part if package == "dolly_assets" and part not in TOP_NAMES else ""


TOP_NAMES = {"__version__"}  # of the package itself


@pytest.mark.parametrize("module", sorted(modules()))
def test_only_the_dagster_side_imports_dagster(module: str) -> None:
    roots = {name.partition(".")[0] for name in imported(modules()[module])}
    is_allowed = part_of(module) in MAY_IMPORT_DAGSTER or module in WITH_DAGSTER_IN_A_LIBRARY
    if not is_allowed:
        of_dagster = {
            root for root in roots if root.startswith("dagster") and root != "dagster_pipes"
        }
        assert of_dagster == ({"dagster_k8s"} if module == BUILDS_WITH_DAGSTER_K8S else set())
    if part_of(module) in LIBRARIES:
        assert "dagster_pipes" not in roots


def test_every_part_has_its_place_in_the_layers() -> None:
    listed = [part for layer in LAYERS for part in layer]
    assert len(listed) == len(set(listed))
    assert {part_of(module) for module in modules()} - {""} == set(listed)


def test_parts_import_only_what_is_below_them() -> None:
    height = {part: at for at, layer in enumerate(LAYERS) for part in layer}
    wrong = [
        f"{module} imports {name}"
        for module, tree in modules().items()
        for name in imported(tree)
        if (part := part_of(module))
        and (other := part_of(name))
        and part != other
        and height[other] >= height[part]
    ]
    assert not wrong


@pytest.mark.parametrize("part", STANDS_ALONE)
def test_a_part_that_stands_alone_imports_nothing_else_of_ours(part: str) -> None:
    others = {
        part_of(name)
        for module, tree in modules().items()
        if part_of(module) == part
        for name in imported(tree)
    }
    assert others - {"", part} <= STANDS_ALONE[part]


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    """What functions import does not count; what is imported for type checks alone does."""
    everything = modules()
    graph = {
        module: {
            name if name in everything else name.rpartition(".")[0]
            for name in imported(tree, at_once=True)
        }
        & everything.keys() - {module}
        for module, tree in everything.items()
    }
    while free := {module for module, others in graph.items() if not others}:
        graph = {module: others - free for module, others in graph.items() if module not in free}
    assert not graph, f"a circle is among: {sorted(graph)}"


def test_the_storage_package_does_not_pull_in_its_io_manager() -> None:
    everything = modules()
    for module, tree in everything.items():
        if part_of(module) == "storage" and module not in WITH_DAGSTER_IN_A_LIBRARY:
            assert not WITH_DAGSTER_IN_A_LIBRARY & set(imported(tree)), module


@pytest.mark.slow
def test_the_code_location_loads_without_torch(tmp_path: Path) -> None:
    """All definitions, their jobs included, and the command line's view of them."""
    run_without(
        {"torch", "transformers", "deepspeed", "accelerate", "tokenizers", "safetensors"},
        f"""
from pathlib import Path
from dolly_assets.components.code_location import build
from dolly_assets.definitions import definitions
from dolly_assets.core.environment import Environment
environment = Environment.read({{"DOLLY_HOME": {str(tmp_path)!r}}})
assert build(environment).resolve_asset_graph().get_all_asset_keys()
assert definitions().resolve_implicit_global_asset_job_def()
from dolly_assets.pipeline.session import Session
from dolly_assets.registry.status import status_rows
from dolly_assets.pipeline import pipeline
session = Session(environment)
assert status_rows(session.store, session.families.values(), ["demo"])
""",
    )


@pytest.mark.slow
def test_the_worker_and_all_its_tasks_load_without_dagster() -> None:
    """dagster_pipes is all of Dagster that a worker has."""
    run_without(
        {"dagster", "dagster_shared", "dagster_aws", "dagster_k8s", "dagster_dg_cli"},
        f"""
import pkgutil
import dolly_assets.storage, dolly_assets.worker
for package in (dolly_assets.worker, dolly_assets.storage):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if module.name not in {WITH_DAGSTER_IN_A_LIBRARY!r}:
            __import__(module.name)
from dolly_assets.worker.__main__ import run_task
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
