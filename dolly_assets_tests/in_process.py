"""`dolly` in this process: what a subprocess would print and return, without starting one."""

from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner, Result

from dolly_assets.cli.main import main
from dolly_assets_tests.home import TINY_FAMILY


def new_variables(home: Path, family: str = TINY_FAMILY, name: str = "tiny") -> dict[str, str]:
    """The environment of a new home with one family more than the bundled ones."""
    folder = home / "defs" / name
    folder.mkdir(parents=True)
    (folder / "defs.yaml").write_text(family)
    return {
        "DOLLY_HOME": str(home),
        "DOLLY_DEFS": str(home / "defs"),
        "DOLLY_STORE": "",
        "DAGSTER_HOME": "",
    }


def dolly(variables: Mapping[str, str], *arguments: str) -> Result:
    """Run a command to its end."""
    return CliRunner().invoke(main, arguments, env=variables)


def refusal(variables: Mapping[str, str], *arguments: str) -> str:
    """Return the one line on stderr that refuses a command; exit code 2, stdout empty."""
    result = dolly(variables, *arguments)
    assert isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("dolly: ")
    assert result.stderr.endswith("\n")
    assert result.stderr.count("\n") == 1
    return result.stderr
