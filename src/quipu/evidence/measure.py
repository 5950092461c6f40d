"""Ask a model the probes of capabilities and score its answers: the numbers that everything else is derived from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from typing import Any

from quipu.capabilities.base import Answering, Probe
from quipu.evidence.config import Config
from quipu.evidence.observe import Observation, observe
from quipu.evidence.store import Store
from quipu.evidence.summary import Measurement, summary
from quipu.types import Generator

TOGETHER = 16
"""Probes that are at the model at once, unless told otherwise."""
ROUND = 32
"""Probes after which a measurement with a time limit looks at the clock and turns to the next capability."""

Report = Callable[[int, int, str], None]
"""(probes answered, of how many, identifier of the capability)."""


def measure(
    model: Generator,
    capabilities: Sequence[Answering],
    store: Store,
    *,
    config: Config | None = None,
    seconds: float | None = None,
    together: int = TOGETHER,
    sampling: Mapping[str, Any] | None = None,
    fresh: bool = False,
    report: Report = lambda done, total, name: None,
) -> list[Measurement]:
    """Ask what ``store`` does not hold yet of this config, and return what is known of each capability then.

    Each probe is asked with the capability's own sampling, ``sampling`` over it, and a seed made from the probe, so
    that a measurement repeats. ``config`` None is found out, which reads the model's files. ``seconds``: begin no
    probe after that time; capabilities take turns, so that each gets its share. ``fresh`` asks all again; of each
    probe the last observation counts. What the model raises ends it; everything up to there is in the store.
    """
    config = config or Config.of(model, sampling or {})
    run = _begin(store, config, capabilities, fresh, together)
    work = [_Work(capability, store, config) for capability in capabilities]
    until = None if seconds is None else time.monotonic() + seconds
    total = sum(len(capability.probes) for capability in capabilities)
    asker = _Asker(model, store, {"run": run, "config": config.id}, together, sampling or {}, until)
    with ThreadPoolExecutor(together) as pool:
        for each in _turns(work):
            if asker.late:
                break
            report(total - sum(len(other.left) for other in work), total, each.capability.id)
            for _ in asker.ask(pool, each):
                report(total - sum(len(other.left) for other in work), total, each.capability.id)
    return [summary(capability, config, store) for capability in capabilities]


def _begin(store: Store, config: Config, capabilities: Sequence[Answering], fresh: bool, together: int) -> int:
    """Write down what will be asked of what; the number of the run."""
    store.append_once("config", {"id": config.id, **asdict(config)})
    for each in capabilities:
        store.append_once(
            "probe_set",
            {
                "capability": each.uri,
                "probe_set": each.probe_set,
                "title": each.title,
                "metric": each.metric,
                "binary": each.binary,
                "baseline": each.baseline,
                "baseline_name": each.baseline_name,
                "probes": [[probe.id, probe.group, probe.difficulty, probe.part] for probe in each.probes],
            },
        )
    probe_sets = {each.uri: each.probe_set for each in capabilities}
    run = {"config": config.id, "probe_sets": probe_sets, "fresh": fresh, "together": together}
    return store.append("run", run).number


class _Work:
    """The probes of one capability that are still to be asked."""

    def __init__(self, capability: Answering, store: Store, config: Config) -> None:
        done = store.asked(config.id, capability.uri, capability.probe_set)
        self.capability = capability
        self.left = {probe.id: probe for probe in capability.probes if probe.id not in done}

    def take(self, count: int | None) -> list[Probe]:
        """The next probes, in the capability's order: probes of one document stand apart, so that it is read once."""
        return list(self.left.values())[:count]


def _turns(work: Sequence[_Work]) -> Iterator[_Work]:
    """Each capability in turn, until nothing is left."""
    while any(each.left for each in work):
        yield from (each for each in work if each.left)


class _Asker:
    """Asks probes side by side and writes down what comes of it. ``of``: the run and the config, for each entry."""

    def __init__(
        self,
        model: Generator,
        store: Store,
        of: Mapping[str, Any],
        together: int,
        sampling: Mapping[str, Any],
        until: float | None,
    ) -> None:
        self._model = model
        self._store = store
        self._of = of
        self._together = together
        self._sampling = sampling
        self._until = until

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return self._until is not None and time.monotonic() >= self._until

    def ask(self, pool: ThreadPoolExecutor, work: _Work) -> Iterator[Observation]:
        """Observe the next probes of ``work``, in the order in which they end."""
        start, tokens = time.monotonic(), 0
        of = {**self._of, "probe_set": work.capability.probe_set}
        probes = iter(work.take(None if self._until is None else ROUND))
        running: set[Future[Observation]] = set()
        try:
            while True:
                while len(running) < self._together and not self.late and (probe := next(probes, None)) is not None:
                    running.add(pool.submit(observe, self._model, work.capability, probe, self._sampling))
                if not running:
                    break
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for each in done:
                    observation = each.result()
                    self._store.append("observation", {**of, **asdict(observation)})
                    del work.left[observation.probe]
                    tokens += observation.completion_tokens
                    yield observation
        finally:
            for each in running:
                each.cancel()
            spent = {"capability": work.capability.uri, "seconds": time.monotonic() - start, "tokens": tokens}
            self._store.append("round", {**of, **spent})
