"""Take screenshots of how a file in the inbox becomes a promoted or rejected model, unattended.

    python benchmarks/inbox_to_champion.py [--examples 3000] [--messages] [--out DIR]

The model is the demo family's; with `--messages`, the file has dialogues in `messages`, and the
model is the same one under the template `chatml`. `dolly ui` with DOLLY_AUTOMATION=on and Chromium
are real; Chromium only reads pages. Prints when each asset was materialized and writes a screenshot
of each to DIR (default: a new folder). Exit code 1 if no decision is reached.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import yaml

import dolly_assets.defs
from dolly_assets.datasets.demo import generate
from dolly_assets_tests.home import Home
from dolly_assets_tests.ui.browser import browser
from dolly_assets_tests.ui.server import serving

DATASET = "support"
PATIENCE_SECONDS = 1800
# What is waited for of a family, and the text that says on its page that it is there.
STAGES = (
    ("tokenized_dataset", (), "held_out_examples"),
    ("training_plan", (), "Materialized"),
    ("model_checkpoint", ("01",), "weights_sha256"),
    ("model_checkpoint", ("03",), "weights_sha256"),
    ("gpu_profile", ("03",), "verdict"),
    ("evaluation", ("03",), "exact_match"),
    ("epoch_comparison", (), "held-out loss"),
    ("champion_model", (), "verdict"),
)
DEMO = Path(dolly_assets.defs.__path__[0]) / "demo" / "defs.yaml"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=3000)
    parser.add_argument("--messages", action="store_true")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    out = arguments.out or Path(tempfile.mkdtemp(prefix="inbox_to_champion-"))
    os.environ["DOLLY_AUTOMATION"] = "on"
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder), inbox=Path(folder) / "inbox")
        for part in ("defs", "inbox"):
            (home.path / part).mkdir()
        family = _with_template(home.path / "defs") if arguments.messages else "demo"
        with serving(home) as server, browser(server.url, out) as ui:
            examples = generate().slice(0, arguments.examples)
            _put(examples, Path(folder) / "inbox", messages=arguments.messages)
            began = time.monotonic()
            print("| asset | partition | minutes after the file |\n| --- | --- | --- |")
            stages = (
                ("raw_dataset", (), "content_digest"),
                *((f"{family}/{asset}", key, sign) for asset, key, sign in STAGES),
            )
            for number, (asset, epoch, sign) in enumerate(stages, 1):
                key = (DATASET, *epoch)
                ui.wait_for_partition(asset, *key, shows=sign, seconds=PATIENCE_SECONDS)
                ui.picture(f"{number:02d}_{asset.replace('/', '_')}_{'_'.join(key)}")
                print(
                    f"| {asset} | {' '.join(key)} | {(time.monotonic() - began) / 60:.1f} |",
                    flush=True,
                )
            page = ui.page.inner_text("body")
            ui.open("/runs")
            ui.sees("Success")
            ui.picture("runs")
    verdict = next((word for word in ("promoted", "rejected") if word in page), None)
    print(f"\n{DATASET} was {verdict}; pictures: {out}")
    return int(verdict is None)


def _with_template(defs: Path) -> str:
    """Write the demo's family under a chat template, for this dataset, and return its name."""
    family = yaml.safe_load(DEMO.read_text())
    attributes = family["attributes"]
    del attributes["prompt_style"]
    attributes["template"] = "chatml"
    attributes["recipe"]["max_length"] = 256
    attributes["automation"]["datasets"] = [DATASET]
    (defs / "chatty").mkdir()
    (defs / "chatty" / "defs.yaml").write_text(yaml.safe_dump(family, sort_keys=False))
    return "chatty"


def _put(examples: pa.Table, inbox: Path, *, messages: bool) -> None:
    """Write a dataset with its card, as a user would."""
    (inbox / f"{DATASET}.yaml").write_text("license: apache-2.0\nanswers: exact\n")
    records = examples.to_pylist()
    if messages:
        records = [
            {"messages": [*_turn(first), *_turn(second)]}
            for first, second in zip(records[::2], records[1::2], strict=False)
        ]
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    (inbox / f"{DATASET}.jsonl").write_text(lines)


def _turn(record: dict[str, str]) -> list[dict[str, str]]:
    question = "\n\n".join(filter(None, (record["instruction"], record["context"])))
    return [
        {"role": "user", "content": question},
        {"role": "assistant", "content": record["response"]},
    ]


if __name__ == "__main__":
    sys.exit(main())
