"""Every environment variable of ours is described, in the code as in the documentation."""

import re
from pathlib import Path

import pytest

import dolly_assets
from dolly_assets.core.environment import PROJECT, VARIABLES, WORKER_VARIABLES, Environment
from dolly_assets.core.errors import ConfigurationError

PACKAGE = Path(dolly_assets.__file__).parent


def documented_rows() -> list[tuple[str, ...]]:
    """The rows of the table in docs/settings.md, links being their texts."""
    text = (PROJECT / "docs" / "settings.md").read_text()
    section = text.partition("## Environment variables")[2].partition("\n## ")[0]
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", section)
    rows = [line.strip("|").split("|") for line in plain.splitlines() if line.startswith("| `")]
    return [tuple(cell.strip() for cell in row) for row in rows]


def test_the_documentation_lists_the_variables_that_are_read() -> None:
    rows = documented_rows()
    described = [(f"`{name}`", meaning, default) for name, meaning, default in VARIABLES]
    assert [row for row in rows if row[0].startswith("`DOLLY_")] == described


def test_no_variable_is_read_that_is_not_described() -> None:
    names = {
        name
        for file in PACKAGE.rglob("*.py")
        for name in re.findall(r"DOLLY_[A-Z_]*[A-Z]", file.read_text())
    }
    assert names == {variable.name for variable in VARIABLES} | WORKER_VARIABLES


def test_a_file_behind_a_link_is_the_one_that_the_link_names_now(tmp_path: Path) -> None:
    """As a mounted ConfigMap is: a link to a folder that every change replaces."""
    for version in ("first", "second"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "file.yaml").write_text(version)
    link = tmp_path / "mounted"
    link.symlink_to("first")
    found = Environment.read(
        {
            "DOLLY_KUBERNETES": str(link / "file.yaml"),
            "DOLLY_PRICES": str(link / "file.yaml"),
            "DOLLY_DEFS": str(link),
        }
    )
    link.unlink()
    link.symlink_to("second")
    (tmp_path / "first" / "file.yaml").unlink()
    assert found.kubernetes_file
    assert found.prices_file
    assert found.more_defs
    for file in (found.kubernetes_file, found.prices_file, found.more_defs / "file.yaml"):
        assert file.read_text() == "second"


@pytest.mark.parametrize(
    "url", ["dagster.example.com", "http:///reports", "http://[::1", "ftp://x"]
)
def test_an_address_of_reports_that_no_browser_can_open_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^DOLLY_REPORTS_URL=.*: expected the address"):
        Environment.read({"DOLLY_REPORTS_URL": url})


def test_a_last_slash_of_the_address_of_reports_does_not_matter() -> None:
    found = Environment.read({"DOLLY_REPORTS_URL": "https://a.example/reports/"})
    assert found.reports_url == "https://a.example/reports"
