"""One probe asked once, and what a sentence rests on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from quipu.errors import InvalidRequest
from quipu.evidence.headline import Span
from quipu.serve.evidence import Evidence, answering
from quipu.serve.views.view import Asked, View, by_config, only

LINES = 500
"""Observations that one page lists."""
SPANS = 1000
"""Runs of numbers that an address may name."""


def observation(evidence: Evidence, asked: Asked, number: int) -> View:
    """One probe asked once: question, what was expected, answer."""
    only(asked)
    moment = evidence.now()
    seen = evidence.store.observation(number)
    found = next((each for each in answering() if each.uri == seen["capability"]), None)
    probes = found.probes if found is not None and found.probe_set == seen["probe_set"] else ()
    probe = next((each for each in probes if each.id == seen["probe"]), None)
    config = moment.snapshot.configs.get(seen["config"])
    side = config and by_config(moment)[config.id]
    told = {
        "seen": seen,
        "title": found.title if found else seen["capability"],
        "facts": [
            ("capability", seen["capability"]),
            ("model", f"{side.title} ({moment.address(side)})" if side else seen["config"]),
            ("score", f"{100 * seen['value']:.1f} %"),
            ("state", seen["state"]),
            ("tokens", f"{seen['prompt_tokens']:,} in, {seen['completion_tokens']:,} out"),
            ("time", f"{seen['seconds']:.2f} s, among other questions at the same time"),
            ("ended", seen["finish_reason"]),
        ],
        "given": _shown(probe.given) if probe else [],
        "expected": _shown(probe.expected) if probe else [],
    }
    return View("observation", f"Observation {number}", told, f"api/v1/observations/{number}", moment.snapshot)


def observations(evidence: Evidence, asked: Asked) -> View:
    """What a sentence rests on: the observations with the numbers asked for, as far as they are the last of a probe."""
    only(asked, "numbers")
    moment = evidence.now()
    spans = _spans(asked.get("numbers", ""))
    sides = by_config(moment)
    found: list[dict[str, Any]] = [
        {"outcome": outcome, "capability": cell.capability, "side": sides[cell.config]}
        for cell in moment.snapshot.cells.values()
        for outcome in cell.outcomes.values()
        if any(first <= outcome.observation <= last for first, last in spans)
    ]
    found.sort(key=lambda row: row["outcome"].observation)
    told = {
        "rows": found[:LINES],
        "total": len(found),
        "passed": sum(row["outcome"].passed for row in found),
    }
    return View("observations", "Observations", told, snapshot=moment.snapshot)


def _spans(text: str) -> list[Span]:
    """``12-331,400`` as runs of numbers. Raises InvalidRequest."""
    parts = text.split(",")
    if len(parts) > SPANS or not all(re.fullmatch(r"\d{1,18}(-\d{1,18})?", part, re.ASCII) for part in parts):
        raise InvalidRequest(
            "numbers must be those of observations, as in 12-331,400; /compare links to those of a comparison",
            param="numbers",
        )
    ends = [part.partition("-") for part in parts]
    return [(int(first), int(last or first)) for first, _, last in ends]


def _shown(fields: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in fields.items() if value not in (None, "", [], {})]
