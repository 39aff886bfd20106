"""What Prometheus reads of a server: requests, tokens, the queue, latency, loaded models."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from dolly_assets.serving.pool import Pool

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The metrics of one server.

    Attributes:
        requests: Finished requests, by path and status.
        prompt_tokens: Tokens of prompts that were read, by model.
        answer_tokens: Tokens that were generated, by model.
        seconds: Seconds from a request to the end of its answer, by path.
        first_seconds: Seconds from a request to the first text, by path.
    """

    def __init__(self, pool: "Pool") -> None:
        disable_created_metrics()
        self._registry = CollectorRegistry()
        self.requests = self._counter("requests", "Finished requests.", "path", "status")
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts.", "model")
        self.answer_tokens = self._counter("answer_tokens", "Generated tokens.", "model")
        self.seconds = self._histogram("request_seconds", "Time to the end of an answer.")
        self.first_seconds = self._histogram("first_text_seconds", "Time to the first text.")
        self._registry.register(_PoolMetrics(pool))  # pyright: ignore[reportArgumentType] it has `collect`

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"dolly_serve_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(
            f"dolly_serve_{name}", text, ("path",), registry=self._registry, buckets=_SECONDS
        )


class _PoolMetrics:
    """What the pool holds when it is asked."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the number of loaded models, and of the requests that run and wait."""
        bases = self._pool.bases.values()
        values = {
            "loaded_models": ("Loaded base models.", len(bases)),
            "loaded_adapters": ("Adapters beside them.", sum(len(each.adapters) for each in bases)),
            "running_requests": (
                "Requests that are being answered.",
                sum(each.engine.running for each in bases),
            ),
            "waiting_requests": (
                "Requests that wait for room in a batch.",
                sum(each.engine.waiting for each in bases),
            ),
        }
        for name, (text, value) in values.items():
            yield GaugeMetricFamily(f"dolly_serve_{name}", text, value=value)
