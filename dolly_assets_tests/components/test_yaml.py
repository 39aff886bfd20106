"""A wrong YAML file is refused in one line that names file, line and key, by every command."""

from pathlib import Path

import pytest

from dolly_assets_tests.home import TINY_FAMILY
from dolly_assets_tests.in_process import dolly, new_variables, refusal

COMPONENT = "type: dolly_assets.components.ModelFamilyComponent\n"


def changed(old: str, new: str) -> str:
    assert TINY_FAMILY.count(old) == 1
    return TINY_FAMILY.replace(old, new)


def line_of(family: str, text: str) -> int:
    return next(number for number, line in enumerate(family.splitlines(), 1) if text in line)


@pytest.mark.parametrize(
    ("old", "new", "key", "what"),
    [
        (
            "learning_rate: 1.0e-3",
            "lerning_rate: 1.0e-3",
            "attributes.recipe.lerning_rate",
            "Extra inputs are not permitted, found 0.001",
        ),
        ("    epochs: 4", "    epochs: four", "attributes.recipe.epochs", "valid integer"),
        (
            "precision: fp32",
            "precision: fp12",
            "attributes.recipe.precision",
            "'fp32', 'bf16' or 'fp16', found 'fp12'",
        ),
        ("zero_stage: 1", "zero_stage: 4", "attributes.recipe.zero_stage", "found 4"),
        (
            "zero_stage: 1",
            "deepspeed: {zero_optimization: {overlap_com: true}}",
            "attributes.recipe.deepspeed.zero_optimization.overlap_com",
            "Extra inputs are not permitted, found True",
        ),
        (
            "zero_stage: 1",
            "deepspeed: {train_batch_size: 64}",
            "attributes.recipe.deepspeed.train_batch_size",
            "follows from the recipe: leave it out and set recipe.global_batch_size",
        ),
        (
            "zero_stage: 1",
            "deepspeed: zero_4",
            "attributes.recipe.deepspeed",
            "no preset is called 'zero_4': expected ",
        ),
        (
            "epochs: 4",
            "epochs: 100",
            "attributes.recipe.epochs",
            "less than or equal to 99, found 100",
        ),
        (
            "cpu_ranks: 2",
            "cpu_ranks: 0",
            "attributes.compute.cpu_ranks",
            "greater than or equal to 1, found 0",
        ),
        (
            "prompt_style:",
            "promptstyle:",
            "attributes.promptstyle",
            "Extra inputs are not permitted",
        ),
        (
            "license: apache-2.0",
            "license: apache-2.0 or so",
            "attributes.base_model.license",
            "found 'apache-2.0 or so'",
        ),
    ],
)
def test_a_wrong_value_is_named_with_file_line_and_key(
    tmp_path: Path, old: str, new: str, key: str, what: str
) -> None:
    family = changed(old, new)
    message = refusal(new_variables(tmp_path, family), "status")
    assert f"{tmp_path}/defs/tiny/defs.yaml:{line_of(family, new.strip())}: {key}: " in message
    assert what in message


def test_a_micro_batch_that_does_not_divide_is_named_with_both_numbers(tmp_path: Path) -> None:
    family = changed("micro_batch_size: 2", "micro_batch_size: 3")
    message = refusal(
        new_variables(tmp_path, family), "train", "--model=tiny", "--dataset=demo", "--epochs=1"
    )
    assert (
        f"{tmp_path}/defs/tiny/defs.yaml:{line_of(family, '  recipe:')}: attributes.recipe: "
        in message
    )
    assert "global_batch_size 8 must be a multiple of micro_batch_size 3" in message


def test_a_base_model_that_is_neither_path_nor_hub_id_is_named_with_its_key(tmp_path: Path) -> None:
    before, after = TINY_FAMILY.split("    untrained:")[0], TINY_FAMILY.split("      seed: 1\n")[1]
    message = refusal(new_variables(tmp_path, f"{before}    source: nope\n{after}"), "status")
    assert "defs.yaml:6: attributes.base_model.source: 'nope' is neither a Hub id" in message


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "No components found"),
        (b"\xff\xfe\x00", "'utf-8' codec can't decode byte 0xff in position 0"),
        (
            COMPONENT.encode(),
            "attributes are missing: expected at least dataset, base_model and recipe",
        ),
        (COMPONENT.replace("Family", "Famly").encode(), "has no attribute `ModelFamlyComponent`"),
        (COMPONENT.encode() + b"attributes: [\nx: y\n", "expected ',"),
        (COMPONENT.encode() + b"attributes:\n\tdataset: x\n", "line 3, column "),
        (b"- a list\n", "Input should be an object"),
        (b"attributes: {}\n", "type: Field required"),
        (
            b"type: dolly_assets.components.DatasetsComponent\n",
            "attributes are missing: expected datasets",
        ),
    ],
)
def test_a_file_that_is_no_component_is_named(tmp_path: Path, content: bytes, what: str) -> None:
    variables = new_variables(tmp_path)
    file = tmp_path / "defs" / "other" / "defs.yaml"
    file.parent.mkdir()
    file.write_bytes(content)
    message = refusal(variables, "train", "--model=tiny", "--dataset=demo", "--epochs=0")
    assert str(file) in message
    assert what in message


@pytest.mark.parametrize(
    "command", [["datasets", "list"], ["verify"], ["datasets", "add", "x", "builtin:demo"]]
)
def test_no_command_ends_in_a_traceback_over_a_broken_file(
    tmp_path: Path, command: list[str]
) -> None:
    variables = new_variables(tmp_path, "")
    result = dolly(variables, *command)
    assert result.exception is None or isinstance(result.exception, SystemExit)


@pytest.mark.parametrize("name", ["tiny-2b", "Tiny", "ti ny", "_tiny", "raw_dataset"])
def test_a_folder_whose_name_cannot_be_an_asset_key_is_refused(tmp_path: Path, name: str) -> None:
    message = refusal(new_variables(tmp_path, name=name), "status")
    assert (
        f"{tmp_path}/defs/{name}/defs.yaml: the folder's name '{name}' cannot name a model family"
        in message
    )


def test_two_families_of_one_name_are_refused(tmp_path: Path) -> None:
    message = refusal(new_variables(tmp_path, name="demo"), "status")
    assert "two model families are called 'demo': rename the folder in DOLLY_DEFS" in message


@pytest.mark.slow
def test_datasets_can_be_declared_beside_ones_own_families(tmp_path: Path) -> None:
    """Known to the command line and to the raw_dataset asset alike."""
    import dagster as dg

    from dolly_assets.components.code_location import build
    from dolly_assets.core.environment import Environment
    from dolly_assets.storage.artifact import ArtifactStore

    variables = new_variables(tmp_path)
    (tmp_path / "defs" / "sets").mkdir()
    (tmp_path / "defs" / "sets" / "defs.yaml").write_text(
        "type: dolly_assets.components.DatasetsComponent\n"
        "attributes: {datasets: [{name: mine, source: 'builtin:demo', answers: exact}]}\n"
    )
    assert "mine" in dolly(variables, "datasets", "list").stdout
    job = build(Environment.read(variables)).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("dataset", ["mine"])
        job.execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey("raw_dataset")], partition_key="mine"
        )
    assert ArtifactStore(str(tmp_path / "store"), tmp_path / "cache").latest("raw_dataset/mine")


@pytest.mark.slow
def test_a_family_that_declares_every_optional_asset_runs_in_one_job(tmp_path: Path) -> None:
    """The names of all steps differ, which Dagster finds out when a job is built."""
    from dolly_assets.components.code_location import build
    from dolly_assets.core.environment import Environment

    judge = "judge: {url: 'http://127.0.0.1:1/v1', model: m}"
    family = changed("{examples: 8,", f"{{{judge}, suites: {{general: {{}}}}, examples: 8,")
    family += "  automation: {training: after_approval, epochs: 2}\n  export: {formats: [hf]}\n"
    variables = new_variables(tmp_path, family)
    job = build(Environment.read(variables)).resolve_implicit_global_asset_job_def()
    steps = {node.name for node in job.nodes}
    assert steps >= {
        f"tiny__{asset}"
        for asset in ("training_approval", "suite_scores", "judgement", "champion_export")
    }
