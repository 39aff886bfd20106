"""One version everywhere, and a lock that installs what pyproject.toml declares from anywhere."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dolly_assets

PROJECT = Path(__file__).parents[1]
DECLARED = tomllib.loads((PROJECT / "pyproject.toml").read_text())
EXTRAS = DECLARED["project"]["optional-dependencies"]
# What a version is part of: tags of images, the chart's value, and what commands print.
NAMES_A_VERSION = re.compile(
    r"(?:/(?:orchestrator|worker|one-machine):|DOLLY_VERSION:-|^    tag: |dolly_assets )"
    r"(\d+\.\d+\.\d+)",
    re.MULTILINE,
)
ELSEWHERE = ("deploy/**/*.yaml", "deploy/**/*.env", "docs/**/*.md", "README.md")


def pins(name: str) -> dict[str, Requirement]:
    """Return the packages of a part of the lock."""
    text = (PROJECT / "requirements" / f"{name}.txt").read_text()
    lines = [line.removesuffix(" \\") for line in text.splitlines() if line[:1].strip()]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def version_of(pin: Requirement) -> str:
    [specifier] = pin.specifier
    assert specifier.operator == "=="
    return specifier.version


def test_every_file_names_the_version_of_the_package() -> None:
    files = [file for pattern in ELSEWHERE for file in sorted(PROJECT.glob(pattern))]
    named = {
        (file.relative_to(PROJECT).as_posix(), version)
        for file in files
        for version in NAMES_A_VERSION.findall(file.read_text())
    }
    assert len({file for file, _ in named}) > 6
    assert {version for _, version in named} == {dolly_assets.__version__}, named


def test_the_newest_section_of_the_changelog_is_this_version() -> None:
    headings = re.findall(r"^## (.*)$", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0].split()[0] == dolly_assets.__version__


@pytest.mark.parametrize(
    "part", ["all", "build", "docs", "orchestrator", "playground", "torch", "torch-cpu", "worker"]
)
def test_every_package_is_pinned_by_hashes_and_by_no_address(part: str) -> None:
    text = (PROJECT / "requirements" / f"{part}.txt").read_text()
    assert "//" not in text
    assert not re.search(r"^-", text, re.MULTILINE)
    packages = re.findall(
        r"^\S.*\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", text, re.MULTILINE
    )
    assert "".join(packages) == text
    assert all(version_of(pin) for pin in pins(part).values())


@pytest.mark.parametrize(
    ("parts", "extras"),
    [
        (["orchestrator"], ["orchestrator"]),
        (["worker", "torch"], ["worker"]),
        (["playground"], ["playground"]),
        (["all", "docs", "playground", "torch"], list(EXTRAS)),
    ],
)
def test_the_lock_satisfies_what_is_declared(parts: list[str], extras: list[str]) -> None:
    pinned = {name: pin for part in parts for name, pin in pins(part).items()}
    declared = [
        Requirement(text)
        for text in (
            *DECLARED["project"]["dependencies"],
            *(each for extra in extras for each in EXTRAS[extra]),
        )
    ]
    missing = [
        str(requirement)
        for requirement in declared
        if canonicalize_name(requirement.name) not in pinned
        or version_of(pinned[canonicalize_name(requirement.name)]) not in requirement.specifier
    ]
    assert missing == [], "run: make lock"


def test_the_parts_of_the_lock_agree_with_each_other() -> None:
    everything = pins("all") | pins("torch")
    for part in ("orchestrator", "worker"):
        versions = {name: version_of(pin) for name, pin in pins(part).items()}
        assert versions == {name: version_of(everything[name]) for name in versions}
    page = {name: version_of(pin) for name, pin in pins("playground").items() if name in everything}
    assert page == {name: version_of(everything[name]) for name in page}
    cpu = version_of(pins("torch-cpu")["torch"])
    assert cpu == version_of(everything["torch"]) + "+cpu"


def test_a_library_is_declared_as_a_range_that_begins_at_the_locked_version() -> None:
    pinned = pins("all") | pins("torch")
    libraries = [
        *DECLARED["project"]["dependencies"],
        *EXTRAS["orchestrator"],
        *EXTRAS["worker"],
        *EXTRAS["notebook"],
    ]
    for requirement in map(Requirement, libraries):
        assert {each.operator for each in requirement.specifier} == {">=", "<"}, requirement
        assert canonicalize_name(requirement.name) in pinned


def test_the_hooks_before_a_commit_use_the_locked_linter() -> None:
    [hooks] = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"]
    used = {package for hook in hooks["hooks"] for package in hook["additional_dependencies"]}
    assert used == {f"ruff=={version_of(pins('all')['ruff'])}"}
