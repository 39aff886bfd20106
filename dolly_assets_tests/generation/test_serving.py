"""A published folder behind a real server, asked by a real client."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_a_server_answers_as_the_chat_does(parrot, tokenizer, encoder, tmp_path: Path) -> None:
    from transformers import GenerationConfig

    for package in ("openai", "fastapi", "uvicorn"):
        pytest.importorskip(package)
    ends = [*encoder.end_token_ids, tokenizer.eos_token_id]
    parrot.save_pretrained(tmp_path)
    GenerationConfig(eos_token_id=ends, pad_token_id=ends[0]).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(encoder.template.text)
    script = [sys.executable, "benchmarks/serving.py", str(tmp_path), "--template", "dolly"]
    result = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("0 of 4 turns differ\n")
