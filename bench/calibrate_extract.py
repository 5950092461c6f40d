"""How often values that a model extracts are right, by how probable they were to it: measured on the probes of extract.

    python bench/calibrate_extract.py MODEL

Writes the curves of the model into src/quipu/capabilities/probes/extract_confidence.json, which confidences are read
from, and prints what they are worth: the Brier score of confidences fitted on the other half of the groups, beside that
of the mean alone. Curves are isotonic regressions (scipy) of right or wrong on probability, one for values that are
quotations and one for the others.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from scipy.optimize import isotonic_regression

import quipu
from quipu import capabilities
from quipu.capabilities.base import Probe, Score

DATA = Path(__file__).parents[1] / "src" / "quipu" / "capabilities" / "probes" / "extract_confidence.json"
POINTS = 8
"""Most steps of a curve: more would be noise."""
TOGETHER = 16

Row = tuple[float, bool, bool, str]
"""Probability, whether it is quoted, whether it is right, group of the probe."""


def rows(scored: Iterable[tuple[Probe, Score]]) -> list[Row]:
    """Each value of each answer."""
    found = []
    for probe, score in scored:
        measured = score.measured
        for name, right in measured.items():
            kind, _, place = name.partition(" ")
            if kind == "right" and f"probability {place}" in measured:
                quoted = bool(measured[f"quoted {place}"])
                found.append((measured[f"probability {place}"], quoted, bool(right), probe.group))
    return found


def curve(points: Sequence[tuple[float, bool]]) -> list[list[float]]:
    """[[probability, share right]], rising: the mean of each of ``POINTS`` equal parts, made monotonic."""
    ordered = sorted(points)
    parts = [part for part in np.array_split(np.array(ordered, dtype=float), POINTS) if len(part)]
    shares = isotonic_regression([part[:, 1].mean() for part in parts], weights=[len(part) for part in parts]).x
    return [
        [float(f"{part[:, 0].mean():.4g}"), round(float(share), 4)] for part, share in zip(parts, shares, strict=True)
    ]


def curves(found: Sequence[Row]) -> dict[str, list[list[float]]]:
    """One for quotations, one for the others."""
    return {
        kind: curve([(probability, right) for probability, quoted, right, _ in found if quoted == (kind == "quoted")])
        for kind in ("quoted", "not quoted")
    }


def brier(fitted: dict[str, list[list[float]]], found: Sequence[Row]) -> float:
    """The mean squared difference between confidence and right (1) or wrong (0)."""
    squares = []
    for probability, quoted, right, _ in found:
        xs, ys = np.array(fitted["quoted" if quoted else "not quoted"]).T
        squares.append((np.interp(probability, xs, ys) - right) ** 2)
    return float(np.mean(squares))


def report(found: Sequence[Row]) -> str:
    """What the curves are worth on groups that they were not fitted on."""
    groups = sorted({group for *_, group in found})
    halves = [[row for row in found if (groups.index(row[3]) % 2 == 0) == even] for even in (True, False)]
    crossed = [brier(curves(one), other) for one, other in (halves, halves[::-1])]
    mean = float(np.mean([right for _, _, right, _ in found]))
    alone = mean * (1 - mean)
    return f"{len(found)} values, {mean:.3f} right; Brier {np.mean(crossed):.4f} fitted, {alone:.4f} the mean alone"


def main(name: str) -> None:
    """Measure, print, write."""
    extract = capabilities.find("extract")
    with quipu.load(name, context=4096, concurrency=TOGETHER) as model:

        def ask(probe: Probe) -> tuple[Probe, Score]:
            output = extract.run(model, extract.input.of(probe.given), {"seed": 1}).output
            return probe, extract.score(output, probe)

        with ThreadPoolExecutor(TOGETHER) as pool:
            found = rows(pool.map(ask, extract.probes))
        known = model.facts.name
    print(known, report(found))
    data = json.loads(DATA.read_text()) | {known: curves(found)}
    DATA.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
