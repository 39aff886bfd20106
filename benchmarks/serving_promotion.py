"""Promote and roll back while clients stream from `dolly serve`: nothing may be lost or mixed.

    python benchmarks/serving_promotion.py demo/demo --epoch 2 [--clients 16]

The store is that of the environment, and its champion is replaced: run it on a copy. All clients
stream long answers of the champion without a pause. In their midst the epoch is promoted, then the
promotion is rolled back, and at the end the server gets SIGTERM. Exit code 1 if an answer failed,
if one had tokens of two models, if a model did not change, or if the server did not end in time.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil
from serving_load import DOLLY, PATIENCE_SECONDS, dolly_serve, resident_mib

SETTLE_SECONDS = 5.0  # that clients stream from a model before and after it changes
END_SECONDS = 10.0  # what clusters give at least


@dataclass
class Seen:
    """What clients saw: the checkpoints of each answer, and what went wrong."""

    answers: list[tuple[str, ...]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    is_over: bool = False


async def stream(http: httpx.AsyncClient, model: str, number: int, seen: Seen) -> None:
    """Stream answers until it is over."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": f"Write a long story about the number {number}."}],
        "temperature": 2.0,
        "max_tokens": 200,
        "stream": True,
    }
    while not seen.is_over:
        checkpoints: dict[str, None] = {}
        is_whole = False
        try:
            async with http.stream("POST", "chat/completions", json=body) as answer:
                answer.raise_for_status()
                async for line in answer.aiter_lines():
                    if line == "data: [DONE]" or not line.startswith("data: "):
                        continue
                    chunk = json.loads(line.removeprefix("data: "))
                    if "error" in chunk:
                        raise httpx.HTTPError(chunk["error"]["message"])
                    checkpoints[chunk["system_fingerprint"]] = None
                    is_whole |= any(each["finish_reason"] for each in chunk["choices"])
        except httpx.HTTPError as error:
            if not seen.is_over:
                seen.failures.append(f"{type(error).__name__}: {error}")
            continue
        if is_whole:
            seen.answers.append((*checkpoints,))
        else:
            seen.failures.append("the stream ended before the answer")


async def change(*command: str) -> None:
    """Run a command of `dolly`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DOLLY, *command, stdout=subprocess.DEVNULL
    )
    if await process.wait():
        raise SystemExit(f"dolly {' '.join(command)} failed")


async def until_another(seen: Seen, before: set[str]) -> float:
    """Wait for a whole answer of another checkpoint; returns the seconds, NaN if none comes."""
    began, known = time.monotonic(), len(seen.answers)
    while time.monotonic() - began < PATIENCE_SECONDS:
        if any({*each} - before for each in seen.answers[known:]):
            return time.monotonic() - began
        await asyncio.sleep(0.1)
    return float("nan")


async def under_load(url: str, pid: int, arguments: argparse.Namespace) -> tuple[Seen, int]:
    """Change the champion twice while clients stream; returns what they saw, and what failed."""
    seen, name = Seen(), f"{arguments.model}/champion"
    commands = (
        ("promote", f"{arguments.model}/{arguments.epoch}", "--reason", "a benchmark"),
        ("rollback", arguments.model, "--reason", "a benchmark"),
    )
    missing = 0
    limits = httpx.Limits(max_connections=arguments.clients)
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS, limits=limits) as http:
        clients = [
            asyncio.create_task(stream(http, name, number, seen))
            for number in range(arguments.clients)
        ]
        while not seen.answers:
            await asyncio.sleep(0.1)
        for command in commands:
            await asyncio.sleep(SETTLE_SECONDS)
            before = {*seen.answers[-1]}
            await change(*command)
            seconds = await until_another(seen, before)
            missing += seconds != seconds
            print(f"{command[0]}: the first answer of the other model ended {seconds:.1f} s later")
        await asyncio.sleep(SETTLE_SECONDS)
        print(f"resident: {resident_mib(pid):.0f} MiB")
        seen.is_over, began = True, time.monotonic()
        process = psutil.Process(pid)
        process.terminate()
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.05)
        seconds = time.monotonic() - began
        print(f"SIGTERM while {arguments.clients} stream: ended after {seconds:.1f} s")
        await asyncio.gather(*clients)
    return seen, missing + (seconds > END_SECONDS)


def main() -> int:
    """Print what happened."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="FAMILY/DATASET")
    parser.add_argument("--epoch", type=int, required=True, help="that is promoted")
    parser.add_argument("--clients", type=int, default=16)
    arguments = parser.parse_args()
    with dolly_serve(f"{arguments.model}/champion") as (url, pid, _):
        seen, failed = asyncio.run(under_load(url, pid, arguments))
    mixed = sum(len(each) > 1 for each in seen.answers)
    print(f"answers: {len(seen.answers)}, lost: {len(seen.failures)}, of two models: {mixed}")
    for checkpoint, answers in Counter(each[0] for each in seen.answers).items():
        print(f"  {checkpoint[:12]}: {answers}")
    for failure in sorted({*seen.failures})[:3]:
        print(f"  {failure}", file=sys.stderr)
    return int(bool(seen.failures or mixed or failed))


if __name__ == "__main__":
    sys.exit(main())
