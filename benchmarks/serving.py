"""Whether a server answers as `dolly chat` does: a published folder behind `transformers serve`.

    python benchmarks/serving.py FOLDER [--template base]

FOLDER is the `weights/` of an epoch. It is asked in two dialogues of two turns, greedily: by
OpenAI's client over HTTP, and as `dolly chat --temperature 0` asks. Prompts must have as many
tokens, and answers must be the same. Needs `pip install "transformers[serving]" openai`.
"""

import argparse
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dolly_assets.conversations import Conversation, Message
from dolly_assets.generation.dialogue import Dialogue, Settings
from dolly_assets.generation.model import load_with_template
from dolly_assets.tokenization.prompt_style import PromptStyle

DIALOGUES = (
    ("", ("What is the capital of France?", "And that of Italy?")),
    ("Answer in one short sentence.", ("Why is the sky blue?", "Say it in other words.")),
)
TOKENS = 40
PATIENCE_SECONDS = 600
START = "import sys; from transformers.cli.transformers import main; sys.exit(main())"


@contextmanager
def served() -> Iterator[str]:
    """Run `transformers serve` on a free port; yields its address."""
    import httpx

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", START, "serve", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen([*command, "--device", "cpu"])
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("transformers serve did not start")
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait()


def answers_of_server(
    client: Any, folder: Path, system: str, turns: tuple[str, ...]
) -> list[tuple[int, str]]:
    """Return the tokens of each prompt, and the answer."""
    messages = [{"role": "system", "content": system}] if system else []
    found = []
    for turn in turns:
        messages.append({"role": "user", "content": turn})
        reply = client.chat.completions.create(
            model=str(folder), messages=messages, temperature=0, max_tokens=TOKENS
        )
        text = reply.choices[0].message.content.strip()
        messages.append({"role": "assistant", "content": text})
        found.append((reply.usage.prompt_tokens, text))
    return found


def answers_of_chat(loaded: Any, system: str, turns: tuple[str, ...]) -> list[tuple[int, str]]:
    """Return the same of our own dialogue."""
    dialogue = Dialogue(loaded, Settings(max_new_tokens=TOKENS, temperature=0), system)
    told = [Message("system", system)] if system else []
    found = []
    for turn in turns:
        asked = Conversation((*told, *dialogue.messages, Message("user", turn)))
        found.append((len(loaded.encoder.prompt(asked)), dialogue.ask(turn).text))
    return found


def main() -> int:
    """Compare, and print every turn."""
    from openai import OpenAI  # pyright: ignore[reportMissingImports]

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--template", default="base", help="The checkpoint's template.")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    loaded = load_with_template(folder, PromptStyle(), template=arguments.template)
    differing = 0
    with served() as address:
        client = OpenAI(base_url=address, api_key="none", timeout=PATIENCE_SECONDS)
        for system, turns in DIALOGUES:
            of_server = answers_of_server(client, folder, system, turns)
            of_chat = answers_of_chat(loaded, system, turns)
            for turn, theirs, ours in zip(turns, of_server, of_chat, strict=True):
                is_equal = theirs == ours
                differing += not is_equal
                print(f"{'equal' if is_equal else 'DIFFERS'}: {turn!r}: {ours}", flush=True)
                if not is_equal:
                    print(f"  the server: {theirs}")
    print(f"{differing} of {sum(len(turns) for _, turns in DIALOGUES)} turns differ")
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())
