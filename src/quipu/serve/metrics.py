"""What the server tells Prometheus: how requests fare, and what the engines count themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quipu.engine.engine import EngineStats
from quipu.engine.local import LocalModel

REQUEST_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600)
FIRST_TOKEN_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)
INTER_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 1, 2.5)
LEFT = 499
"""Status counted for a request whose client left before the answer was complete (nginx's number for it)."""

_GAUGES: Mapping[str, tuple[str, Callable[[EngineStats], float]]] = {
    "quipu_running_requests": ("Answers being generated now.", lambda stats: stats.running),
    "quipu_waiting_requests": ("Answers waiting to be started.", lambda stats: stats.waiting),
    "quipu_kv_cache_usage_ratio": (
        "Part of the KV cache's blocks that requests hold now.",
        lambda stats: stats.blocks_used / stats.blocks,
    ),
}
_COUNTERS: Mapping[str, tuple[str, Callable[[EngineStats], float]]] = {
    "quipu_prompt_tokens_total": ("Prompt tokens read.", lambda stats: stats.prompt_tokens),
    "quipu_cached_tokens_total": ("Prompt tokens found in the prefix cache.", lambda stats: stats.cached_tokens),
    "quipu_generated_tokens_total": ("Tokens generated.", lambda stats: stats.generated_tokens),
    "quipu_finished_total": ("Answers that ended by themselves.", lambda stats: stats.finished),
    "quipu_aborted_total": ("Answers given up, because the client left.", lambda stats: stats.aborted),
    "quipu_failed_total": ("Answers that ended with an error.", lambda stats: stats.failed),
    "quipu_preempted_total": ("Times an answer gave its blocks back.", lambda stats: stats.preempted),
    "quipu_speculative_drafted_tokens_total": ("Tokens guessed ahead.", lambda stats: stats.drafted_tokens),
    "quipu_speculative_accepted_tokens_total": (
        "Guessed tokens that came true: steps that answers did not need.",
        lambda stats: stats.accepted_tokens,
    ),
    "quipu_speculative_verifications_total": (
        "Times guesses at an answer were verified.",
        lambda stats: stats.verifications,
    ),
    "quipu_steps_total": ("Steps of the engine.", lambda stats: stats.steps),
    "quipu_step_seconds_total": ("Time spent in steps.", lambda stats: stats.step_seconds),
}


class Metrics:
    """One server's metrics, in a registry of their own."""

    def __init__(self, models: Mapping[str, LocalModel]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Engines(models))
        self.requests = Counter(
            "quipu_requests_total",
            "HTTP requests answered.",
            ["model", "route", "status"],
            registry=self._registry,
        )
        self.request_seconds = self._histogram(
            "quipu_request_seconds", "From a request to the end of its answer.", ["model", "route"], REQUEST_SECONDS
        )
        self.first_token_seconds = self._histogram(
            "quipu_time_to_first_token_seconds", "From a request to its first token.", ["model"], FIRST_TOKEN_SECONDS
        )
        self.inter_token_seconds = self._histogram(
            "quipu_inter_token_seconds", "Between the tokens of an answer.", ["model"], INTER_TOKEN_SECONDS
        )

    def render(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self._registry)

    def _histogram(self, name: str, text: str, labels: list[str], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, labels, registry=self._registry, buckets=buckets)


class Clock:
    """Times the tokens of one request; a token counts when the event loop hears of it, which is when it is sent."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._first = metrics.first_token_seconds.labels(model)
        self._between = metrics.inter_token_seconds.labels(model)
        self._start = time.perf_counter()
        self._last: dict[Hashable, float] = {}

    def heard(self, answer: Hashable, tokens: int) -> None:
        """``tokens`` more of ``answer`` came, together if a character or a possible stop string held them back."""
        if not tokens:
            return
        now = time.perf_counter()
        if not self._last:
            self._first.observe(now - self._start)
        if answer in self._last:
            self._between.observe((now - self._last[answer]) / tokens)
        self._last[answer] = now


class CountRequests:
    """ASGI middleware: counts and times every request by route, status, and the model that a route noted."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and note what became of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        start = time.perf_counter()

        async def note_status(message: Message) -> None:
            if message["type"] == "http.response.start":
                state.setdefault("status", message["status"])
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            # The path of the route, not of the request: a label must have few values.
            route = scope["route"].path if "route" in scope else "unknown"
            model = state.get("model", "")
            self._metrics.requests.labels(model, route, state.get("status", 500)).inc()
            self._metrics.request_seconds.labels(model, route).observe(time.perf_counter() - start)


class _Engines(Collector):
    """Reads the engines' own counts when Prometheus asks."""

    def __init__(self, models: Mapping[str, LocalModel]) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        stats = {name: model.engine.stats() for name, model in self._models.items()}
        for name, (text, read) in _GAUGES.items():
            gauge = GaugeMetricFamily(name, text, labels=["model"])
            for model, of_model in stats.items():
                gauge.add_metric([model], read(of_model))
            yield gauge
        for name, (text, read) in _COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=["model"])
            for model, of_model in stats.items():
                counter.add_metric([model], read(of_model))
            yield counter
