"""Build the documentation site: `make docs` runs `python -m docs.build`.

README, CONTRIBUTING, CHANGELOG and the pages under docs/ link to each other as files of the
repository. They are copied to build/docs/pages with these links adjusted, built by Zensical in
strict mode, and checked: every link, image and anchor of the HTML leads somewhere.
"""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from inspect import get_annotations
from pathlib import Path, PurePosixPath
from typing import get_args
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
STAGE = ROOT / "build" / "docs"
MOVED = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "examples/README.md": "examples.md",
    "dolly_assets/profiling/README.md": "profiling.md",
    "docs/decisions/README.md": "decisions/index.md",
}
ATTRIBUTES = re.compile(r"<!-- attributes: .*? -->")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def page_of(path: str) -> str | None:
    """Return where a file of the repository is in the site, if it is part of it."""
    if path in MOVED:
        return MOVED[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else None


def adjusted(text: str, source: str) -> str:
    """Return a page with links to pages of the site; links to any other file become text."""
    here = PurePosixPath(source).parent
    page = PurePosixPath(page_of(source) or source)

    def replace(link: re.Match[str]) -> str:
        bang, label, target = link.groups()
        address = urlsplit(target)
        if address.scheme or not address.path:
            return link.group()
        file = os.path.normpath(here / address.path)
        place = page_of(file)
        if place is None or not (ROOT / file).is_file():
            return label
        relative = os.path.relpath(place, page.parent)
        return f"{bang}[{label}]({relative}{'#' + address.fragment if address.fragment else ''})"

    return LINK.sub(replace, text)


def attribute_tables() -> str:
    """Return one table for each model of attributes, with names, types and descriptions."""
    from dolly_assets.registry import attributes

    models = [
        model
        for model in vars(attributes).values()
        if isinstance(model, type) and model.__module__ == attributes.__name__
    ]
    parts = []
    for model in models:
        summary = (model.__doc__ or "").partition("\n")[0]
        parts += [f"#### {model.__name__}\n", f"{summary}\n", "| attribute | type | |"]
        parts.append("| --- | --- | --- |")
        for name in get_annotations(model):
            field = model.model_fields.get(name)
            if field:
                of = field.annotation
                kind = of.__name__ if isinstance(of, type) and not get_args(of) else str(of)
                shown = kind.replace("typing.", "").replace(" | ", " or ")
                parts.append(f"| `{name}` | `{shown}` | {field.description or ''} |")
        parts.append("")
    return "\n".join(parts)


def stage() -> None:
    """Copy the pages, their images and the settings of the site to build/docs."""
    shutil.rmtree(STAGE, ignore_errors=True)
    pages = STAGE / "pages"
    sources = [name for name in MOVED if (ROOT / name).exists()]
    sources += [str(file.relative_to(ROOT)) for file in sorted((ROOT / "docs").rglob("*.md"))]
    for source in dict.fromkeys(sources):
        page = pages / (page_of(source) or source)
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(adjusted((ROOT / source).read_text(), source))
    api = pages / "api.md"
    api.write_text(ATTRIBUTES.sub(attribute_tables(), api.read_text()))
    shutil.copytree(ROOT / "docs" / "images", pages / "images")
    shutil.copy(ROOT / "docs" / "zensical.toml", STAGE)


class _Page(HTMLParser):
    """The links and anchors of an HTML page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what this element links to, and the anchor that it is."""
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.add(value)
            elif name in ("id", "name") and value:
                self.anchors.add(value)


def broken_links(site: Path) -> list[str]:
    """Return every link of the built pages that leads nowhere within the site."""
    pages = {file: _Page(file.read_text()) for file in sorted(site.rglob("*.html"))}
    broken = []
    for file, page in pages.items():
        for link in sorted(page.links):
            address = urlsplit(link)
            if address.scheme or address.netloc or file.name == "404.html":
                continue
            path = unquote(address.path)
            target = Path(os.path.normpath(file.parent / path)) if path else file
            target = target / "index.html" if target.is_dir() else target
            anchors = pages[target].anchors if target in pages else set()
            is_anchor_known = target not in pages or address.fragment in {"", *anchors}
            if not target.exists() or not is_anchor_known:
                broken.append(f"{file.relative_to(site)}: {link}")
    return broken


def main() -> int:
    """Build the site; return the exit code."""
    stage()
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    if code := subprocess.run(command, cwd=STAGE, check=False).returncode:
        return code
    if broken := broken_links(STAGE / "site"):
        print("links that lead nowhere:", *broken, sep="\n")
        return 1
    print(f"the documentation is built: {STAGE / 'site' / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
