"""Take screenshots of how a file in the inbox becomes a promoted or rejected model, unattended.

    python benchmarks/inbox_to_champion.py [--examples 3000] [--out DIR]

The model is the demo family's. `dolly ui` with DOLLY_AUTOMATION=on and Chromium are real; Chromium
only reads pages. Prints when each asset was materialized and writes a screenshot of each to DIR
(default: a new folder). Exit code 1 if no decision is reached.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from dolly_assets.datasets.demo import generate
from dolly_assets_tests.home import Home
from dolly_assets_tests.ui.browser import browser
from dolly_assets_tests.ui.server import serving

DATASET = "support"
PATIENCE_SECONDS = 1800
# What is waited for, and the text that says on its page that it is there.
STAGES = (
    ("raw_dataset", (DATASET,), "content_digest"),
    ("demo/tokenized_dataset", (DATASET,), "held_out_examples"),
    ("demo/training_plan", (DATASET,), "Materialized"),
    ("demo/model_checkpoint", (DATASET, "01"), "weights_sha256"),
    ("demo/model_checkpoint", (DATASET, "03"), "weights_sha256"),
    ("demo/gpu_profile", (DATASET, "03"), "verdict"),
    ("demo/evaluation", (DATASET, "03"), "exact_match"),
    ("demo/epoch_comparison", (DATASET,), "held-out loss"),
    ("demo/champion_model", (DATASET,), "verdict"),
)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    out = arguments.out or Path(tempfile.mkdtemp(prefix="inbox_to_champion-"))
    os.environ["DOLLY_AUTOMATION"] = "on"
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder), inbox=Path(folder) / "inbox")
        for part in ("defs", "inbox"):
            (home.path / part).mkdir()
        with serving(home) as server, browser(server.url, out) as ui:
            _put(generate().slice(0, arguments.examples), Path(folder) / "inbox")
            began = time.monotonic()
            print("| asset | partition | minutes after the file |\n| --- | --- | --- |")
            for number, (asset, key, sign) in enumerate(STAGES, 1):
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


def _put(examples: pa.Table, inbox: Path) -> None:
    """Write a dataset with its card, as a user would."""
    (inbox / f"{DATASET}.yaml").write_text("license: apache-2.0\nanswers: exact\n")
    lines = examples.to_pandas().to_json(orient="records", lines=True, force_ascii=False)
    (inbox / f"{DATASET}.jsonl").write_text(str(lines))


if __name__ == "__main__":
    sys.exit(main())
