"""`dolly preview` as a user runs it, on what the worker's own tasks published."""

import re

from dolly_assets_tests.in_process import dolly, new_variables, refusal
from dolly_assets_tests.tiny_training import DATASET, Workbench


def test_a_row_is_shown_as_the_model_gets_it(workbench: Workbench, tmp_path) -> None:
    variables = {**new_variables(tmp_path), "DOLLY_STORE": str(workbench.folder / "store")}
    command = ("preview", "--model", "tiny", "--dataset", DATASET)
    tokenized = workbench.latest("tokenized_dataset", DATASET)
    rows = tokenized.read_table("train.arrow")["row"].to_pylist()

    shown = dolly(variables, *command, "--row", str(rows[-1])).stdout
    assert shown.startswith(f"**Row {rows[-1]}**")
    assert len(re.findall("^  ### Instruction:", shown, re.MULTILINE)) == rows.count(rows[-1])
    assert len(re.findall("^\\+ ### End", shown, re.MULTILINE)) == rows.count(rows[-1])

    assert (
        dolly(variables, *command).stdout.strip()
        == tokenized.manifest.attributes["preview_markdown"]
    )
    assert f"the rows of this dataset are 0 to {rows[-1]}" in refusal(
        variables, *command, "--row", "99999"
    )
