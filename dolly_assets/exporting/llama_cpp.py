"""llama.cpp's own answers to prompts, where the package xllamacpp is installed.

It runs in a process of its own, `python -m dolly_assets.exporting.llama_cpp`: llama.cpp ends the
process where a file is not as it expects.
"""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from dolly_assets.core.errors import ExportError

PACKAGE = "xllamacpp"
_LAST_LINES = 3


def is_installed() -> bool:
    """Return whether llama.cpp can be asked here."""
    return importlib.util.find_spec(PACKAGE) is not None


def name() -> str:
    """Return what tables call the reader."""
    return f"llama.cpp ({PACKAGE} {version(PACKAGE)})"


def answers(
    file: Path, prompts: Sequence[Sequence[int]], *, max_new_tokens: int
) -> list[list[int]]:
    """Return llama.cpp's greedy answers as token ids, each through what ended it.

    Args:
        file: A GGUF file.
        prompts: Token ids.
        max_new_tokens: Length of the longest answer in tokens.

    Raises:
        ExportError: llama.cpp cannot load the file.
    """
    request = {"file": str(file), "prompts": [*map(list, prompts)], "tokens": max_new_tokens}
    process = subprocess.run(
        [sys.executable, "-m", __spec__.name],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        last = " ".join(process.stderr.strip().splitlines()[-_LAST_LINES:])
        raise ExportError(f"llama.cpp does not load {file.name}: {last[-500:]}")
    return json.loads(process.stdout.splitlines()[-1])


def _answer(request: dict[str, Any]) -> list[list[int]]:
    xllamacpp: Any = importlib.import_module(PACKAGE)
    longest = max(map(len, request["prompts"])) + request["tokens"]
    params = xllamacpp.CommonParams()
    params.model.path = request["file"]
    params.n_ctx = -(-longest // 256) * 256
    params.n_parallel = 1
    params.warmup = False
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    if threads := int(os.environ.get("OMP_NUM_THREADS", "0")):
        params.cpuparams.n_threads = threads
    server = xllamacpp.Server(params)
    return [_completed(server, prompt, request["tokens"]) for prompt in request["prompts"]]


def _completed(server: Any, prompt: list[int], tokens: int) -> list[int]:
    """Return one answer.

    Its own endpoint is asked: that of OpenAI's API leaves out tokens that are parts of characters.
    """
    options = {"temperature": 0, "n_predict": tokens, "repeat_penalty": 1.0, "return_tokens": True}
    body = json.dumps({"prompt": prompt, **options}).encode()
    address, kind = f"{server.listening_address}/completion", {"Content-Type": "application/json"}
    with urlopen(Request(address, body, kind)) as response:  # noqa: S310 this process's own
        return json.load(response)["tokens"]


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(_answer(json.load(sys.stdin))) + "\n")
