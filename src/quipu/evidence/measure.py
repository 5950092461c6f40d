"""Ask a model the probes of capabilities and score its answers: the numbers that everything else is derived from."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Generator as Steps
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, Literal

from quipu.capabilities.base import Answering, Probe, Score
from quipu.errors import ContextLengthExceeded, Unparsed
from quipu.evidence.intervals import Interval, interval
from quipu.evidence.journal import Journal
from quipu.types import Chunk, Chunks, Generator, Prompt, Sampling, Usage

State = Literal["scored", "unparsed", "beyond context"]
"""``unparsed``: the answer could not be read; it scores 0 and is counted apart. ``beyond context``: never asked."""

TOGETHER = 16
"""Probes that are at the model at once, unless told otherwise."""
ROUND = 32
"""Probes after which a measurement with a time limit looks at the clock and turns to the next capability."""
KEPT = 20_000
"""Characters of an answer that are kept."""

Report = Callable[[int, int, str], None]
"""(probes answered, of how many, identifier of the capability)."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One probe asked once. ``seconds`` are from the question on, among other questions at the same time."""

    capability: str
    probe: str
    state: State
    value: float
    passed: bool
    why: str
    measured: Mapping[str, float]
    text: str
    prompt_tokens: int
    completion_tokens: int
    first_token_seconds: float | None
    seconds: float
    finish_reason: str


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


def about(model: Generator, file_hash: str, sampling: Mapping[str, Any]) -> dict[str, Any]:
    """What a measurement is of, so that only its own journal continues it."""
    import quipu

    return {
        "journal": 1,
        "quipu": quipu.__version__,
        "model": model.facts.as_dict(),
        "file_hash": file_hash,
        "context_length": model.context_length,
        "sampling": dict(sampling),
    }


def measure(
    model: Generator,
    capabilities: Sequence[Answering],
    journal: Journal,
    *,
    seconds: float | None = None,
    together: int = TOGETHER,
    sampling: Mapping[str, Any] | None = None,
    report: Report = lambda done, total, name: None,
) -> list[Measurement]:
    """Ask what ``journal`` does not hold yet, and return what is known of each capability then.

    Each probe is asked with the capability's own sampling, ``sampling`` over it, and a seed made from the probe, so
    that a measurement repeats. ``seconds``: begin no probe after that time; capabilities take turns, so that each gets
    its share. What the model raises ends it; everything up to there is in the journal.
    """
    work = [_Work(capability, journal) for capability in capabilities]
    until = None if seconds is None else time.monotonic() + seconds
    total = sum(len(capability.probes) for capability in capabilities)
    asker = _Asker(model, journal, together, sampling or {}, until)
    with ThreadPoolExecutor(together) as pool:
        for each in _turns(work):
            if asker.late:
                break
            report(total - sum(len(other.left) for other in work), total, each.capability.id)
            for _ in asker.ask(pool, each):
                report(total - sum(len(other.left) for other in work), total, each.capability.id)
    return [summary(capability, journal) for capability in capabilities]


def summary(capability: Answering, journal: Journal) -> Measurement:
    """What ``journal`` says of a capability."""
    observed = {line["probe"]: line for line in journal.lines if line.get("capability") == capability.uri}
    asked = [probe for probe in capability.probes if probe.id in observed]
    scored = [(probe, observed[probe.id]) for probe in asked if observed[probe.id]["state"] != "beyond context"]
    scores = [(probe, Score(line["value"], line["passed"], line["why"], line["measured"])) for probe, line in scored]
    times = [line for line in journal.lines if line.get("round") == capability.uri]
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
        seconds=sum(line["seconds"] for line in times),
        timed_tokens=sum(line["tokens"] for line in times),
        parts=_parts(scores),
        findings=capability.findings(scores) if scores else {},
    )


def observe(
    model: Generator, capability: Answering, probe: Probe, sampling: Mapping[str, Any] | None = None
) -> Observation:
    """Ask one probe and score the answer. Raises what the model raises, unless the probe does not fit its context."""
    watched = _Watched(model)
    options = {"seed": int(probe.id[:8], 16), **(sampling or {})}
    text, reason = "", "stop"
    state: State = "scored"
    try:
        result = capability.run(watched, capability.input.of(probe.given), options)
    except ContextLengthExceeded as error:
        state, score = "beyond context", Score.right(False, str(error))
    except Unparsed as error:
        state, score, text = "unparsed", Score.right(False, str(error)), error.text
    else:
        score, text, reason = capability.score(result.output, probe), result.text, result.finish_reason
    return Observation(
        capability=capability.uri,
        probe=probe.id,
        state=state,
        value=score.value,
        passed=score.passed,
        why=score.why,
        measured=score.measured,
        text=text[:KEPT],
        prompt_tokens=watched.usage.prompt_tokens,
        completion_tokens=watched.usage.completion_tokens,
        first_token_seconds=watched.first_token_seconds,
        seconds=time.monotonic() - watched.start,
        finish_reason=reason,
    )


class _Watched:
    """A Generator that counts what is asked of another, whatever becomes of the answers."""

    def __init__(self, model: Generator) -> None:
        self.facts = model.facts
        self.context_length = model.context_length
        self.count = model.count
        self.start = time.monotonic()
        self.usage = Usage()
        self.first_token_seconds: float | None = None
        self._model = model
        self._lock = threading.Lock()

    def stream(self, prompt: Prompt, sampling: Sampling | None = None, **options: Any) -> Chunks:
        """The other's chunks."""
        return self._watch(self._model.stream(prompt, sampling, **options))

    def _watch(self, chunks: Chunks) -> Steps[Chunk, None, None]:
        with closing(chunks):
            for chunk in chunks:
                with self._lock:
                    if self.first_token_seconds is None and chunk.text:
                        self.first_token_seconds = time.monotonic() - self.start
                    if chunk.usage is not None:
                        self.usage += chunk.usage
                yield chunk


class _Work:
    """The probes of one capability that are not in the journal yet."""

    def __init__(self, capability: Answering, journal: Journal) -> None:
        done = {line["probe"] for line in journal.lines if line.get("capability") == capability.uri}
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
    """Asks probes side by side and writes down what comes of it."""

    def __init__(
        self, model: Generator, journal: Journal, together: int, sampling: Mapping[str, Any], until: float | None
    ) -> None:
        self._model = model
        self._journal = journal
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
                    self._journal.append(asdict(observation))
                    del work.left[observation.probe]
                    tokens += observation.completion_tokens
                    yield observation
        finally:
            for each in running:
                each.cancel()
            self._journal.append({"round": work.capability.uri, "seconds": time.monotonic() - start, "tokens": tokens})


def _parts(scores: Sequence[tuple[Probe, Score]]) -> tuple[Part, ...]:
    names = sorted({probe.part for probe, _ in scores} - {""})
    by_name = {name: [score.value for probe, score in scores if probe.part == name] for name in names}
    return tuple(Part(name, len(values), sum(values) / len(values)) for name, values in by_name.items())
