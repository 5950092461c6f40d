"""Snapshots of models that never were, with answers of known quality, for whatever compares."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from quipu import capabilities
from quipu.capabilities.base import Answering
from quipu.evidence.config import Config
from quipu.evidence.snapshot import Cell, Outcome, Snapshot

AT = "2026-11-24T10:00:00+00:00"
HASH = "5f" * 32
HOSTILE = '<script>alert(1)</script> | [x](javascript:alert(1)) `rm` "\x1b[31m\n# heading'
"""A label as its worst user would choose it."""


def config(label: str = "good", **changes: object) -> Config:
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


def snapshot(skills: Mapping[str, Mapping[str, float]], configs: Sequence[Config] = (), *, seed: int = 1) -> Snapshot:
    """What a log says of configs that pass each capability at the given rate: ``{"good": {"reason": 0.9}}``.

    Two that pass at rates p and q pass the same probes as far as that goes: each probe has a difficulty. Answers take
    half a second, a second for every config after the first.
    """
    known = {each.label: each for each in configs}
    of = {label: known.get(label) or config(label) for label in skills}
    cells, number = {}, 0
    for place, (label, rates) in enumerate(skills.items()):
        for name, rate in rates.items():
            capability = capabilities.find(name)
            assert isinstance(capability, Answering)
            outcomes = {}
            for probe in capability.probes:
                number += 1
                common, own = random.Random(f"{probe.id} {seed}").random(), random.Random(number).random()
                passed = 0.8 * common + 0.2 * own < rate
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
    """An observation as the log would tell it."""
    return {"text": f"{HOSTILE} answer {number}", "why": "as expected", "number": number}
