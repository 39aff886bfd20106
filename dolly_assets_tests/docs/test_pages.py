"""The pages are true without building the site: links, anchors, paths, diagrams and headings."""

import ast
import os
import re
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from docs.build import LINK, MOVED, adjusted, broken_links, page_of
from docs.diagrams import DIAGRAMS, IMAGES
from dolly_assets_tests.test_imports import LAYERS

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in MOVED if (ROOT / name).exists()),
    *sorted((ROOT / "docs").rglob("*.md")),
]
PAGE_OF_FOLDERS = ROOT / "docs" / "architecture.md"
PATH = re.compile(
    r"`((?:dolly_assets|dolly_assets_tests|benchmarks|deploy|docs|examples)/[\w./-]*)`"
)
FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2\s*$", re.DOTALL | re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """What the headings of a page can be linked by."""
    titles = re.findall(r"^#+ +(.+?) *$", prose(page), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", LINK.sub(r"\2", title).lower()) for title in titles]
    return {title.replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_and_image_leads_somewhere(page: Path) -> None:
    broken = []
    for _, _, target in LINK.findall(prose(page)):
        address = urlsplit(target)
        if address.scheme:
            continue
        file = Path(os.path.normpath(page.parent / address.path)) if address.path else page
        is_there = file.is_relative_to(ROOT) and file.exists()
        has_anchor = file.suffix == ".md" and is_there and address.fragment in anchors(file)
        if not is_there or (address.fragment and not has_anchor):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_and_folder_named_on_a_page_exists(page: Path) -> None:
    named = {path for path in PATH.findall(page.read_text()) if "NAME" not in path}
    assert not {path for path in named if not (ROOT / path).exists()}


def test_the_layers_of_the_architecture_page_are_those_that_imports_are_held_to() -> None:
    table = PAGE_OF_FOLDERS.read_text().partition("## Layers")[2].partition("\n## ")[0]
    cells = [row.split("|")[2] for row in table.splitlines() if row.startswith("| ")]
    shown = [part for cell in cells for part in re.findall(r"`(\w+)(?:/|\.py)`", cell)]
    layer_of = {part: number for number, layer in enumerate(LAYERS) for part in layer}
    assert sorted(shown) == sorted(layer_of)
    heights = [layer_of[part] for part in shown]
    assert heights == sorted(heights, reverse=True)


def test_every_name_that_the_architecture_page_places_in_a_file_is_there() -> None:
    placed = re.findall(r"`(\w+)`\s+in\s+`([\w/]+\.py)`", PAGE_OF_FOLDERS.read_text())
    assert placed
    assert not [
        (name, file)
        for name, file in placed
        if not re.search(rf"\b{name}\b", (ROOT / file).read_text())
    ]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_has_one_title_and_comes_first_with_it(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    assert text.startswith("# ")
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1


def test_every_page_is_linked_from_the_readme_or_from_the_decisions() -> None:
    linked: set[Path] = set()
    for index in (ROOT / "README.md", ROOT / "docs" / "decisions" / "README.md"):
        for _, _, target in LINK.findall(prose(index)):
            linked.add(Path(os.path.normpath(index.parent / urlsplit(target).path)))
    assert not {name_of(page) for page in (ROOT / "docs").rglob("*.md") if page not in linked}


def test_the_architecture_page_names_every_folder_of_the_package() -> None:
    tree = re.search(r"^```\n(dolly_assets/.*?)^```", PAGE_OF_FOLDERS.read_text(), re.DOTALL | re.M)
    assert tree
    listed, above = set(), []
    for line in tree[1].splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        above[depth:] = [name]
        listed.add("".join(above).rstrip("/"))
    packages = {file.parent for file in (ROOT / "dolly_assets").rglob("__init__.py")}
    modules = set((ROOT / "dolly_assets").glob("*.py"))
    there = {str(path.relative_to(ROOT)) for path in packages | modules}
    assert not there - listed
    assert not {path for path in listed if not (ROOT / path).exists()}


def test_the_messages_under_troubleshooting_are_those_of_the_code() -> None:
    """Numbers and names differ, so seven in ten pairs of neighbouring words have to be there."""
    texts = " ".join(
        " ".join(node.value.split())
        for file in (ROOT / "dolly_assets").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    rows = (ROOT / "docs" / "troubleshooting.md").read_text().splitlines()
    messages = [
        text
        for row in rows
        if row[:3] == "| `"
        for text in re.findall("`(.+?)`", row[:200].split(" | ")[0])
    ]
    assert len(messages) > 10
    missing = {}
    for message in messages:
        parts = [part.split() for part in re.split(r"…|[(),;:/]|\S*\d\S*", message)]
        pairs = [" ".join(pair) for part in parts for pair in pairwise(part)]
        absent = [pair for pair in pairs if pair not in texts]
        if len(absent) > 0.3 * len(pairs):
            missing[message] = absent
    assert not missing


def test_decisions_are_numbered_in_a_row_and_follow_one_template() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for record in records:
        sections = re.findall(r"^(#+ .*)$", record.read_text(), re.MULTILINE)
        assert sections[0].startswith(f"# {int(record.name[:4])}. "), record.name
        assert sections[1:] == ["## Context", "## Decision", "## Consequences"], record.name
        assert "\n- Cost: " in record.read_text(), record.name


@pytest.mark.parametrize("name", sorted(DIAGRAMS))
def test_diagrams_are_those_that_their_source_draws(name: str) -> None:
    """After a change: `python -m docs.diagrams`."""
    assert (IMAGES / name).read_text() == DIAGRAMS[name]()


def test_links_of_the_repository_become_links_of_the_site() -> None:
    assert page_of("README.md") == "index.md"
    assert page_of("dolly_assets/core/errors.py") is None
    assert adjusted("[a](docs/store.md#layout)", "README.md") == "[a](store.md#layout)"
    assert adjusted("![a](docs/images/epoch.svg)", "README.md") == "![a](images/epoch.svg)"
    assert adjusted("[a](../CHANGELOG.md)", "docs/upgrading.md") == "[a](changelog.md)"
    assert adjusted("[a](README.md)", "docs/decisions/README.md") == "[a](index.md)"
    assert adjusted("[Apache-2.0](LICENSE)", "README.md") == "Apache-2.0"
    assert adjusted("[a](https://dagster.io)", "README.md") == "[a](https://dagster.io)"


def test_a_link_that_leads_nowhere_in_the_site_is_found(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "index.html").write_text('<a href="sub/#here">1</a><img src="picture.png">')
    (tmp_path / "sub" / "index.html").write_text('<h2 id="there"><a href="..">2</a></h2>')
    assert broken_links(tmp_path) == ["index.html: picture.png", "index.html: sub/#here"]
