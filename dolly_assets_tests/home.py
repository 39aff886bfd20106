"""The family `tiny`, which trains in seconds, and a home in which `dolly` runs as users run it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TINY_FAMILY = """
type: dolly_assets.components.ModelFamilyComponent
attributes:
  dataset: animals
  base_model:
    untrained:
      config:
        model_type: gpt_neox
        hidden_size: 32
        num_hidden_layers: 2
        num_attention_heads: 2
        intermediate_size: 64
        max_position_embeddings: 128
        hidden_dropout: 0.1
      vocabulary_size: 384
      seed: 1
    license: apache-2.0
  prompt_style: {intro: ""}
  recipe:
    epochs: 4
    max_length: 96
    packing: false
    held_out_examples: 8
    global_batch_size: 8
    micro_batch_size: 2
    learning_rate: 1.0e-3
    warmup_steps: 2
    precision: fp32
    zero_stage: 1
    seed: 7
  compute: {cpu_ranks: 2}
  evaluation: {examples: 8, max_new_tokens: 4, batch_size: 8, prompts: [{instruction: Name an
      animal.}]}
"""


@dataclass(frozen=True)
class Home:
    """A DOLLY_HOME with the family `tiny`, and `dolly` run in it as a user would."""

    path: Path
    inbox: Path | None = None

    @property
    def variables(self) -> dict[str, str]:
        """What `dolly` is told by its environment."""
        inbox = {"DOLLY_INBOX": str(self.inbox)} if self.inbox else {}
        return {
            "DOLLY_HOME": str(self.path),
            "DOLLY_DEFS": str(self.path / "defs"),
            "DAGSTER_HOME": "",
            **inbox,
        }

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Starts `dolly` in a session of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", "from dolly_assets.cli.main import main; main()", *arguments],
            env={**os.environ, **self.variables},
            text=True,
            start_new_session=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )

    def dolly(self, *arguments: str, code: int = 0, stdin: str = "") -> str:
        """Runs `dolly` to its end and returns what it wrote; both streams when it should fail."""
        process = self.start(*arguments, stdin=subprocess.PIPE)
        out, err = process.communicate(stdin, timeout=540)
        assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
        return out if code == 0 else out + err

    def status(self) -> dict[int, dict[str, Any]]:
        """Epoch -> row of `dolly status --json`, of the family tiny on animals."""
        rows = json.loads(self.dolly("status", "--json"))
        return {
            row["epoch"]: row
            for row in rows
            if (row["family"], row["dataset"]) == ("tiny", "animals")
        }
