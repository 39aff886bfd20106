"""YAML read without Dagster means what Dagster's components make of it."""

from pathlib import Path

import pytest

from dolly_assets.core.environment import Environment
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.pipeline import declared
from dolly_assets_tests.in_process import new_variables

SETS = """\
type: dolly_assets.components.DatasetsComponent
attributes:
  datasets:
  - {name: mine, source: 'builtin:demo', answers: exact}
"""


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    environment = Environment.read(new_variables(tmp_path))
    (tmp_path / "defs" / "nested" / "sets").mkdir(parents=True)
    (tmp_path / "defs" / "nested" / "sets" / "defs.yaml").write_text(f"{SETS}---\n{SETS}")
    return environment


def test_both_readings_find_the_same_families_and_datasets(environment: Environment) -> None:
    plain = declared._read_plain(environment)
    assert plain
    assert plain == declared._read_with_dagster(environment)
    assert set(plain.families) == {"demo", "gpt_j_6b", "pythia_12b", "tiny"}
    assert [dataset.name for dataset in plain.datasets].count("mine") == 2


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("other/defs.yaml", SETS.replace("DatasetsComponent", "datasets.DatasetsComponent")),
        ("other/defs.yaml", f"{SETS}post_processing: {{}}\n"),
        ("other/assets.py", "import dagster as dg\n"),
        ("other/component.yaml", SETS),
        ("other/defs.yaml", ""),
        ("other/defs.yaml", SETS.replace("exact", "several")),
    ],
)
def test_anything_else_in_a_folder_is_left_to_dagster(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, file: str, content: str
) -> None:
    assert environment.more_defs
    (environment.more_defs / file).parent.mkdir()
    (environment.more_defs / file).write_text(content)
    by_dagster = declared.Declared({}, [])
    monkeypatch.setattr(declared, "_read_with_dagster", lambda _: by_dagster)
    assert declared.read_declared(environment) is by_dagster


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("!!bool maybe", "line 4, column 51: a value cannot be read"),
        ("!!int ''", "line 4, column 51: a value cannot be read"),
        ("9" * 5000, "line 4, column 51: a value cannot be read"),
        ("\x01", ".*special characters are not allowed"),
    ],
)
def test_yaml_that_dagsters_parser_fails_on_is_named_with_its_line(
    environment: Environment, value: str, place: str
) -> None:
    assert environment.more_defs
    file = environment.more_defs / "other" / "defs.yaml"
    file.parent.mkdir()
    file.write_text(SETS.replace("exact", value))
    with pytest.raises(ConfigurationError, match=rf"other/defs.yaml: not YAML: {place}"):
        declared.read_declared(environment)
