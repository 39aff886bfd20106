"""Many clients ask `dolly serve` at once: tokens per second, latency, memory; none may be lost.

    python benchmarks/serving_load.py demo/demo/champion [--clients 64] [--seconds 60]

The store is that of the environment, as for `dolly serve`. The same clients ask, one server after
the other in one run: `dolly serve`; `dolly serve --batch 1`, which answers one request at a time;
and, after `pip install "transformers[serving]"`, `transformers serve` over the same folder. Every
answer is streamed. Exit code 1 if a request of `dolly serve` failed.
"""

import argparse
import asyncio
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import httpx
import psutil

PATIENCE_SECONDS = 600
QUESTIONS = (
    "Give three tips for staying healthy.",
    "What is the capital of France?",
    "Write a poem about the sea.",
    "Why does the moon always show us the same side?",
    "Give me five ideas for a rainy Sunday with two small children.",
)
DOLLY = "from dolly_assets.cli.main import main; main()"
TRANSFORMERS = "import sys; from transformers.cli.transformers import main; sys.exit(main())"


@dataclass
class Results:
    """What clients saw of a server."""

    seconds: list[float] = field(default_factory=list)
    first_seconds: list[float] = field(default_factory=list)
    tokens: int = 0
    failures: list[str] = field(default_factory=list)


@contextmanager
def dolly_serve(model: str, *options: str) -> Iterator[tuple[str, int, str]]:
    """Run `dolly serve` on a free port; yields its address, its process and the model's name."""
    command = [sys.executable, "-c", DOLLY, "serve", "--port", "0", *options, model]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr
    try:
        found = re.search(r"http://\S+", server.stderr.readline())
        if not found:
            raise SystemExit(server.stderr.read())
        wait_for(found[0].removesuffix("/v1"), server)
        yield found[0], server.pid, model
    finally:
        server.terminate()
        server.communicate()


@contextmanager
def transformers_serve(model: str) -> Iterator[tuple[str, int, str]]:
    """Run `transformers serve` on a free port over the same folder."""
    from dolly_assets.core.environment import Environment
    from dolly_assets.registry.model_folders import fetch
    from dolly_assets.serving.names import find
    from dolly_assets.storage.opening import open_store

    folder = fetch(
        open_store(Environment.read()), find(open_store(Environment.read()), model).artifact
    ).weights
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", TRANSFORMERS, "serve", "--port", str(port), "--device", "cpu"]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}", server)
        yield f"http://127.0.0.1:{port}/v1", server.pid, str(folder)
    finally:
        server.terminate()
        server.wait()


def wait_for(root: str, server: subprocess.Popen[Any]) -> None:
    """Wait until a server is ready."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"{root}/health", timeout=PATIENCE_SECONDS).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise SystemExit("the server did not start")


async def ask(client: httpx.AsyncClient, body: dict[str, Any], results: Results) -> None:
    """Stream one answer, and note what happened."""
    began, first, tokens, is_done = time.monotonic(), 0.0, 0, False
    try:
        async with client.stream("POST", "chat/completions", json=body) as answer:
            if not answer.is_success:
                raise httpx.HTTPError(f"{answer.status_code}: {(await answer.aread()).decode()}")
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    is_done = True
                elif line.startswith("data: "):
                    chunk = json.loads(line.removeprefix("data: "))
                    if "error" in chunk:
                        raise httpx.HTTPError(chunk["error"]["message"])
                    tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
                    is_done |= any(each.get("finish_reason") for each in chunk["choices"])
                    first = first or time.monotonic() - began
    except httpx.HTTPError as error:
        results.failures.append(f"{type(error).__name__}: {error}")
        return
    if not is_done:
        results.failures.append("the stream ended before the answer")
        return
    results.seconds.append(time.monotonic() - began)
    results.first_seconds.append(first)
    results.tokens += tokens


async def load(url: str, model: str, arguments: argparse.Namespace) -> tuple[Results, float]:
    """Have all clients ask until the time is over; returns what they saw, and how long it took."""
    results, began = Results(), time.monotonic()

    async def client(number: int, http: httpx.AsyncClient) -> None:
        asked = number
        while time.monotonic() - began < arguments.seconds:
            question = QUESTIONS[asked % len(QUESTIONS)]
            body = {
                "model": model,
                "messages": [{"role": "user", "content": question}],
                "temperature": arguments.temperature,
                "max_tokens": arguments.tokens,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            await ask(http, body, results)
            asked += 1

    limits = httpx.Limits(max_connections=arguments.clients)
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS, limits=limits) as http:
        await ask(http, body_of_one_token(model), Results())  # it is loaded by now
        began = time.monotonic()
        await asyncio.gather(*(client(number, http) for number in range(arguments.clients)))
    return results, time.monotonic() - began


def body_of_one_token(model: str) -> dict[str, Any]:
    """Return the smallest request."""
    message = {"role": "user", "content": "Hi"}
    return {"model": model, "messages": [message], "max_tokens": 1, "stream": True}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--tokens", type=int, default=64, help="of an answer, at most")
    parser.add_argument("--temperature", type=float, default=1.0)
    arguments = parser.parse_args()
    os.environ.pop("DOLLY_SERVE_TOKEN", None)
    servers = {
        "dolly serve": lambda: dolly_serve(arguments.model),
        "dolly serve --batch 1": lambda: dolly_serve(arguments.model, "--batch", "1"),
    }
    if find_spec("fastapi"):
        servers["transformers serve"] = lambda: transformers_serve(arguments.model)
    print("| server | requests | failed | tokens/s | seconds, median | 95 % | first text | MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    failed = 0
    for name, server in servers.items():
        with server() as (url, pid, model):
            before = resident_mib(pid)
            results, seconds = asyncio.run(load(url, model, arguments))
            after = resident_mib(pid)
        print(line_of(name, results, seconds, f"{before:.0f} to {after:.0f}"), flush=True)
        failed += len(results.failures) if name.startswith("dolly") else 0
        for failure in sorted({*results.failures})[:3]:
            print(f"  {name}: {failure}", file=sys.stderr)
    return int(failed > 0)


def resident_mib(pid: int) -> float:
    """Return the memory of a server and its children."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return sum(each.memory_info().rss for each in family) / 2**20


def line_of(name: str, results: Results, seconds: float, memory: str) -> str:
    """Return a line of the table."""
    taken = sorted(results.seconds) or [float("nan")]
    cells = [
        name,
        f"{len(results.seconds):,}",
        f"{len(results.failures):,}",
        f"{results.tokens / seconds:,.0f}",
        f"{statistics.median(taken):.2f}",
        f"{taken[int(0.95 * (len(taken) - 1))]:.2f}",
        f"{statistics.median(results.first_seconds or [float('nan')]):.2f}",
        memory,
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
