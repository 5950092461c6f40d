"""Snapshots of logs that were never written: configs that passed so many probes."""

import hashlib

from quipu import capabilities
from quipu.evidence.config import Config
from quipu.evidence.snapshot import Cell, Outcome, Snapshot

EMPTY = Snapshot(0, "", "", {}, {})
SMALL = "smollm2-135m-instruct"


def config(label=SMALL, engine="quipu 0.1.0", **facts):
    return Config(
        label, hashlib.sha256(label.encode()).hexdigest(), "Q4_1", engine, "", {}, "cpu", {"name": label, **facts}
    )


def cell(of, name, passed, failed, *, group=None, part="", version=None, baseline=0.191):
    uri = capabilities.find(name).uri if version is None else f"capability://{name}@{version}"
    outcomes = {
        f"{part}{i}": Outcome(
            f"{part}{i}", group or f"{part}{i}", part, float(i < passed), i < passed, False, i + 1, 9, 9, 1.0, 0.1
        )
        for i in range(passed + failed)
    }
    return Cell(of.id, uri, "", True, outcomes, 0, 1.0, 9, baseline, "the first words of the text")


def log(*cells, of):
    return Snapshot(
        9, "f" * 64, "2026-01-01T00:00:00.000Z", {of.id: of}, {(of.id, each.capability): each for each in cells}
    )
