"""What the log says of one capability of one config, as a measurement reports it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from quipu.capabilities.base import Answering, Probe, Score
from quipu.engine.local import LocalModel
from quipu.evidence.config import Config
from quipu.evidence.intervals import Interval, interval
from quipu.evidence.store import Store
from quipu.types import Generator


@dataclass(frozen=True, slots=True)
class Part:
    """The same for the probes of one part: a language, a length, a number of examples."""

    name: str
    n: int
    score: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a model can do, for one capability. Scores are from 0 to 1; ``interval`` is None when nothing was asked."""

    capability: str
    title: str
    metric: str
    interval: Interval | None
    baseline: float
    baseline_name: str
    probes: int
    probe_set: str
    unparsed: int
    beyond_context: int
    passed: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    timed_tokens: int
    """Generated in these seconds; what was asked in a round that was cut off is in neither."""
    parts: tuple[Part, ...]
    findings: Mapping[str, Any]

    @property
    def tokens_per_second(self) -> float | None:
        """Generated tokens a second, of all answers at the same time; None if no time was taken."""
        return self.timed_tokens / self.seconds if self.seconds else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "tokens_per_second": self.tokens_per_second}


def about(model: Generator, sampling: Mapping[str, Any]) -> dict[str, Any]:
    """What a measurement is of, for a report. ``file_hash`` is empty for a model that runs elsewhere."""
    import quipu

    return {
        "quipu": quipu.__version__,
        "model": model.facts.as_dict(),
        "file_hash": model.file_hash if isinstance(model, LocalModel) else "",
        "context_length": model.context_length,
        "sampling": dict(sampling),
    }


def summary(capability: Answering, config: Config, store: Store) -> Measurement:
    """What ``store`` says of a capability, as its probes are now, of ``config``."""
    cell = (config.id, capability.uri, capability.probe_set)
    observed = {record["probe"]: record for record in store.records(*cell)}
    asked = [probe for probe in capability.probes if probe.id in observed]
    scored = [(probe, observed[probe.id]) for probe in asked if observed[probe.id]["state"] != "beyond context"]
    scores = [(probe, Score(line["value"], line["passed"], line["why"], line["measured"])) for probe, line in scored]
    seconds, timed_tokens = store.timing(*cell)
    return Measurement(
        capability=capability.uri,
        title=capability.title,
        metric=capability.metric,
        interval=interval(
            [score.value for _, score in scores], [probe.group for probe, _ in scores], binary=capability.binary
        )
        if scores
        else None,
        baseline=capability.baseline,
        baseline_name=capability.baseline_name,
        probes=len(capability.probes),
        probe_set=capability.probe_set,
        unparsed=sum(line["state"] == "unparsed" for _, line in scored),
        beyond_context=len(asked) - len(scored),
        passed=sum(score.passed for _, score in scores),
        prompt_tokens=sum(line["prompt_tokens"] for _, line in scored),
        completion_tokens=sum(line["completion_tokens"] for _, line in scored),
        seconds=seconds,
        timed_tokens=timed_tokens,
        parts=_parts(scores),
        findings=capability.findings(scores) if scores else {},
    )


def _parts(scores: Sequence[tuple[Probe, Score]]) -> tuple[Part, ...]:
    names = sorted({probe.part for probe, _ in scores} - {""})
    by_name = {name: [score.value for probe, score in scores if probe.part == name] for name in names}
    return tuple(Part(name, len(values), sum(values) / len(values)) for name, values in by_name.items())
