"""Models that never were, with answers of known quality, as snapshots and as logs, for whatever compares."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import made_log

from quipu import capabilities
from quipu.capabilities.base import Answering, Probe
from quipu.evidence.config import Config
from quipu.evidence.snapshot import Cell, Outcome, Snapshot
from quipu.evidence.store import Store

AT = "2026-11-24T10:00:00+00:00"
HASH = "5f" * 32
HOSTILE = '<script>alert(1)</script> | [x](javascript:alert(1)) `rm` "\x1b[31m\n# heading'
"""A label as its worst user would choose it."""

Skills = Mapping[str, Mapping[str, float]]
"""Rates at which probes pass, by label and capability: ``{"good": {"reason": 0.9}}``."""


def config(label: str = "good", **changes: Any) -> Config:
    """A config of its own for each label."""
    fields = {
        "label": label,
        "model_hash": label.encode().hex().ljust(64, "0")[:64],
        "quantization": "Q4_1",
        "engine": "quipu 0.1.0",
        "chat_template": "0" * 64,
        "decoding": {"context_length": 2048},
        "hardware": "x86-64, 2 cores, bfloat16",
        "facts": {"name": label},
    }
    return Config(**{**fields, **changes})


def answering(name: str) -> Answering:
    capability = capabilities.find(name)
    assert isinstance(capability, Answering)
    return capability


def passes(probe: Probe, label: str, rate: float) -> bool:
    """Probes are hard or easy for everyone, and a little by chance."""
    common, own = random.Random(probe.id).random(), random.Random(f"{probe.id} {label}").random()
    return 0.9 * common + 0.1 * own < rate


def snapshot(skills: Skills, configs: Sequence[Config] = (), *, probes: int | None = None) -> Snapshot:
    """What a log would say. Answers of the first take half a second, of the second one second, and so on.

    ``probes``: no more than so many of each capability. ``configs``: which are not to be those of ``config(label)``.
    """
    known = {each.label: each for each in configs}
    of = {label: known.get(label) or config(label) for label in skills}
    cells, number = {}, 0
    for place, (label, rates) in enumerate(skills.items()):
        for name, rate in rates.items():
            capability = answering(name)
            outcomes = {}
            for probe in capability.probes[:probes]:
                number += 1
                passed = passes(probe, label, rate)
                outcomes[probe.id] = Outcome(
                    probe=probe.id,
                    group=probe.group,
                    part=probe.part,
                    value=float(passed),
                    passed=passed,
                    unparsed=False,
                    observation=number,
                    prompt_tokens=120,
                    completion_tokens=40,
                    seconds=0.5 + place / 2,
                    first_token_seconds=0.1,
                )
            cells[of[label].id, capability.uri] = Cell(
                config=of[label].id,
                capability=capability.uri,
                probe_set=capability.probe_set,
                binary=capability.binary,
                outcomes=outcomes,
                beyond_context=0,
                seconds=60.0,
                timed_tokens=40 * len(outcomes),
                peak_memory=400 << 20,
            )
    every = {each.id: each for each in of.values()}
    return Snapshot(number, HASH if number else "", AT if number else "", every, cells)


def record(number: int) -> dict[str, object]:
    """An observation as the log would tell it, by a model that means ill."""
    return {"text": f"{HOSTILE} answer {number}", "why": "as expected", "number": number}


def write(store: Store, skills: Skills, *, probes: int = 40) -> list[Config]:
    """The same in a log; the answers are hostile."""
    configs = [config(label) for label in skills]
    sets = {name: _probe_set(answering(name)) for rates in skills.values() for name in rates}
    for each in sets.values():
        store.append_once("probe_set", each)
    for of, rates in zip(configs, skills.values(), strict=True):
        store.append_once("config", made_log.config_body(of))
        store.append("run", made_log.run(of, *(sets[name] for name in rates)))
        for name, rate in rates.items():
            for place, probe in enumerate(answering(name).probes[:probes]):
                passed = passes(probe, of.label, rate)
                changes = {"value": float(passed), "passed": passed, "text": HOSTILE.replace("\x00", "")}
                store.append("observation", made_log.observation(of, sets[name], place, **changes))
            store.append("round", made_log.spent(of, sets[name], 20.0, 1000))
    return configs


def _probe_set(capability: Answering) -> dict[str, Any]:
    return {
        "capability": capability.uri,
        "probe_set": capability.probe_set,
        "title": capability.title,
        "metric": capability.metric,
        "binary": capability.binary,
        "baseline": capability.baseline,
        "baseline_name": capability.baseline_name,
        "probes": [[each.id, each.group, each.difficulty, each.part] for each in capability.probes],
    }
