"""A log of measurements that never were: models that pass each capability at a known rate, written as an export."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from quipu import capabilities
from quipu.capabilities.base import Answering, Probe, digest
from quipu.evidence.config import Config
from quipu.evidence.log import Entry, canonical
from quipu.evidence.store import Store

AT = "2026-11-24T10:{minute:02}:00.000+00:00"
WRONG = "I am not sure what you mean."


@dataclass(frozen=True)
class Model:
    """How it is called and run, and which share of each capability's probes it passes; ``asked`` of them."""

    label: str
    rates: Mapping[str, float]
    asked: int = 1000
    seconds: float = 0.5
    says: str = WRONG
    """Where it does not pass."""
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        made = {
            "model_hash": digest([self.label, dict(self.fields)]),
            "quantization": "Q4_1",
            "engine": "quipu 0.1.0",
            "chat_template": digest("template"),
            "decoding": {"context_length": 8192},
            "hardware": "AMD EPYC 7763, 2 cores, bfloat16",
            "facts": {"name": self.label},
        }
        return Config(label=self.label, **{**made, **self.fields})


def write(models: Sequence[Model], folder: Path, *, more: int = 0) -> str:
    """A log in ``folder``: its address. ``more``: that many further observations, of other configs."""
    writer = _Writer()
    for model in models:
        writer.measure(model)
    for number in range(more // 1000):
        writer.measure(Model(f"other-{number}", dict.fromkeys(("chat", "code", "reason", "translate"), 0.5), 250))
    exported = folder / "log.jsonl"
    exported.write_text("".join(f"{entry.line}\n" for entry in writer.entries), "utf-8")
    url = f"sqlite:///{folder / 'evidence.sqlite'}"
    with Store(url) as store:
        store.import_(exported)
    return url


class _Writer:
    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._sets: set[str] = set()

    def measure(self, model: Model) -> None:
        config = model.config
        asked = [capabilities.find(name) for name in model.rates]
        assert all(isinstance(each, Answering) for each in asked)
        for each in asked:
            self._probe_set(each)
        self._add("config", {"id": config.id, **asdict(config)})
        sets = {each.uri: each.probe_set for each in asked}
        run = self._add("run", {"config": config.id, "probe_sets": sets, "fresh": False, "together": 16})
        for each in asked:
            self._capability(model, each, run)

    def _capability(self, model: Model, capability: Answering, run: int) -> None:
        rate, tokens = model.rates[capability.id], 0
        belongs = {
            "run": run,
            "config": model.config.id,
            "capability": capability.uri,
            "probe_set": capability.probe_set,
        }
        for probe in capability.probes[: model.asked]:
            self._add("observation", belongs | _observation(model, capability, probe, rate))
            tokens += 40
        self._add("round", {**belongs, "seconds": tokens * model.seconds / 100, "tokens": tokens})

    def _probe_set(self, capability: Answering) -> None:
        if capability.uri not in self._sets:
            self._sets.add(capability.uri)
            rows = [[probe.id, probe.group, probe.difficulty, probe.part] for probe in capability.probes]
            body = {
                name: getattr(capability, name) for name in ("title", "metric", "binary", "baseline", "baseline_name")
            }
            self._add(
                "probe_set", {"capability": capability.uri, "probe_set": capability.probe_set, "probes": rows, **body}
            )

    def _add(self, kind: str, body: Mapping[str, Any]) -> int:
        at = AT.format(minute=len(self.entries) * 59 // 1_000_000)
        self.entries.append(Entry.following(self.entries[-1] if self.entries else None, at, kind, canonical(body)))
        return self.entries[-1].number


def _observation(model: Model, capability: Answering, probe: Probe, rate: float) -> dict[str, Any]:
    # Each probe is as hard for one model as for another, but for some luck.
    luck = random.Random(f"{model.label} {probe.id}").random()
    passed = 0.7 * random.Random(probe.id).random() + 0.3 * luck < rate
    value = float(passed) if capability.binary else round((0.75 if passed else 0.2) + 0.2 * luck, 3)
    return {
        "probe": probe.id,
        "state": "scored",
        "value": value,
        "passed": passed,
        "why": "as expected" if passed else "another answer was expected",
        "measured": {},
        "text": probe.answer if passed else model.says,
        "prompt_tokens": 120,
        "completion_tokens": 40,
        "first_token_seconds": round(0.1 + 0.1 * luck, 3),
        "seconds": round(model.seconds * (0.8 + 0.4 * luck), 3),
        "finish_reason": "stop",
        "sampling": {"seed": int(probe.id[:8], 16)},
        "token_hash": digest([probe.id, passed]),
        "peak_memory": 400 << 20,
    }
