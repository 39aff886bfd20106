"""Clients that stream answers until SIGTERM, and then print as JSON what came of each request.

    python -m benchmarks.kubernetes_serving.clients URL MODEL CLIENTS

Every second client opens a connection for each request; the others keep theirs. Nobody asks again:
a request that fails is lost. The token is in `DOLLY_SERVE_TOKEN`.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

PATIENCE_SECONDS = 300
QUESTIONS = ("Name the last word. brush grape", "Say something about the sea.", "Count to ten.")


@dataclass
class Seen:
    """What the clients saw.

    Attributes:
        whole: Answers by the digest of the model.
        lost: Requests that failed, each with its reason and its client's kind.
        longest: Seconds of the slowest answer.
    """

    whole: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    longest: float = 0.0


async def ask(client: httpx.AsyncClient, model: str, question: str) -> str:
    """Stream one answer to its end; the digest of the model that gave it.

    Raises:
        httpx.HTTPError: It is not whole.
    """
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 1.0,
        "max_tokens": 200,
        "stream": True,
    }
    digest, is_done = "", False
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
                digest = chunk.get("system_fingerprint") or digest
    if not is_done:
        raise httpx.HTTPError("the stream ended before the answer")
    return digest


async def client(number: int, url: str, model: str, seen: Seen, is_over: asyncio.Event) -> None:
    """Ask one question after the other."""
    keeps = number % 2 == 0
    options: dict[str, Any] = {
        "base_url": url,
        "timeout": PATIENCE_SECONDS,
        "headers": {"Authorization": f"Bearer {os.environ['DOLLY_SERVE_TOKEN']}"},
        "limits": httpx.Limits(max_keepalive_connections=None if keeps else 0),
    }
    async with httpx.AsyncClient(**options) as http:
        while not is_over.is_set():
            began, asked = time.monotonic(), time.strftime("%H:%M:%S")
            try:
                digest = await ask(http, model, QUESTIONS[number % len(QUESTIONS)])
            except httpx.HTTPError as error:
                kind = "kept connection" if keeps else "new connection"
                seen.lost.append(f"{asked} {kind}: {type(error).__name__}: {error}")
                await asyncio.sleep(0.2)
                continue
            seen.whole[digest] += 1
            seen.longest = max(seen.longest, time.monotonic() - began)


async def run(url: str, model: str, clients: int) -> Seen:
    """Have all clients ask until SIGTERM."""
    seen, is_over = Seen(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, is_over.set)
    print("asking", flush=True)
    await asyncio.gather(*(client(each, url, model, seen, is_over) for each in range(clients)))
    return seen


if __name__ == "__main__":
    result = asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    print(json.dumps(vars(result)), flush=True)
