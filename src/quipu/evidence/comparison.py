"""Everything that a comparison of two models shows, as one object that JSON can carry.

A pure function of cards, snapshot, workload and margin: what is printed, written as a file or served as a page is this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from quipu.evidence import claims, compare, differences
from quipu.evidence.alignment import Aligned, aligned
from quipu.evidence.cards import Card
from quipu.evidence.change import Change, change
from quipu.evidence.columns import Column, columns
from quipu.evidence.compare import MARGIN
from quipu.evidence.differences import Difference, Record
from quipu.evidence.flip import flip
from quipu.evidence.headline import Headline, headline, verdict_sentence
from quipu.evidence.judging import judge
from quipu.evidence.rank import Scored, scored
from quipu.evidence.seed_rows import Row, seed_rows
from quipu.evidence.side import Side
from quipu.evidence.snapshot import Snapshot
from quipu.evidence.workload import Workload

VERSION = 1
"""Of the object's form."""
UNMEASURED = ""
"""The id of what no config has; the statistics take it for one that was never measured."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is shown. ``only_a`` and ``only_b``: some probes that only one passed, from several capabilities."""

    a: Side
    b: Side
    snapshot: Snapshot
    judgement: compare.Judgement
    headline: Headline
    scores: tuple[Scored, Scored]
    rows: tuple[tuple[Row, Row], ...]
    """The seed page's ten, of A and of B."""
    capabilities: tuple[Aligned, ...]
    columns: tuple[Column, ...]
    only_a: tuple[Difference, ...]
    only_b: tuple[Difference, ...]
    claims: tuple[tuple[claims.Judgement, ...], tuple[claims.Judgement, ...]]
    """All that is said of A, and of B."""
    verdict: str
    """One sentence."""
    change: Change

    @property
    def decided(self) -> bool:
        """Whether there is a verdict for the workload."""
        return self.judgement.decided

    @property
    def as_of(self) -> str:
        """Of which moment the numbers are, and how they were made."""
        judgement = self.judgement
        log = f"entry {judgement.snapshot:,} of the log ({judgement.snapshot_hash[:12]}, {judgement.at})"
        return (
            f"As of {log if judgement.snapshot else 'an empty log'}; {judgement.workload.told}; equal means within "
            f"±{100 * judgement.margin:g} points; intervals at 95 %; formulas {judgement.formula}; laboratory evidence "
            "only."
        )

    @property
    def hardware_differs(self) -> bool:
        """Whether the two were measured on different hardware, so that their times do not compare."""
        return (
            self.a.config is not None and self.b.config is not None and self.a.config.hardware != self.b.config.hardware
        )

    def told(self, record: Record) -> Comparison:
        """The same with the questions and answers of its probes, looked up in the log."""
        return replace(
            self,
            only_a=tuple(differences.told(each, record) for each in self.only_a),
            only_b=tuple(differences.told(each, record) for each in self.only_b),
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        judgement = self.judgement
        return {
            "comparison": VERSION,
            "a": self.a.as_dict(),
            "b": self.b.as_dict(),
            "as_of": {"snapshot": judgement.snapshot, "hash": judgement.snapshot_hash, "at": judgement.at},
            "formula": judgement.formula,
            "workload": judgement.workload.as_dict(),
            "margin": judgement.margin,
            "alpha": judgement.alpha,
            "headline": self.headline.as_dict(),
            "verdict": {**judgement.overall.as_dict(), "decided": self.decided, "sentence": self.verdict},
            "scores": {"a": self.scores[0].as_dict(), "b": self.scores[1].as_dict()},
            "rows": [{"name": a.name, "a": a.as_dict(), "b": b.as_dict()} for a, b in self.rows],
            "compared": judgement.compared,
            "capabilities": [each.as_dict() for each in self.capabilities],
            "columns": [each.as_dict() for each in self.columns],
            "only_a": [each.as_dict() for each in self.only_a],
            "only_b": [each.as_dict() for each in self.only_b],
            "claims": {
                "a": [each.as_dict() for each in self.claims[0]],
                "b": [each.as_dict() for each in self.claims[1]],
            },
            "change": asdict(self.change),
        }


def comparison(
    a: Side,
    b: Side,
    cards: Mapping[str, Card],
    snapshot: Snapshot,
    workload: Workload,
    *,
    margin: float = MARGIN,
    probes: Mapping[str, int] | None = None,
) -> Comparison:
    """Compare ``a`` with ``b``.

    ``margin``: within which scores count as equal, as a share of 1. ``probes``: how many each capability (uri) has,
    see gaps.probe_counts; without it, what evidence costs is not told. Raises InvalidRequest for a margin that is none.
    """
    ids = tuple(side.config.id if side.config else UNMEASURED for side in (a, b))
    judgement = compare.compare(snapshot, ids[0], ids[1], workload, margin=margin)
    said = tuple(judge(claims.claims_about(side.card), cards, snapshot, side.header) for side in (a, b))
    scores = tuple(scored(snapshot, each, workload) for each in ids)
    beside = columns(a, b, snapshot)
    turned = flip(snapshot, judgement, probes) if probes is not None and UNMEASURED not in ids else None
    return Comparison(
        a=a,
        b=b,
        snapshot=snapshot,
        judgement=judgement,
        headline=headline(a, b, snapshot, judgement, beside, said),
        scores=(scores[0], scores[1]),
        rows=_rows((a, b), snapshot, scores),
        capabilities=aligned(a, b, judgement, said),
        columns=beside,
        only_a=differences.some(judgement.capabilities, lambda each: each.only_a),
        only_b=differences.some(judgement.capabilities, lambda each: each.only_b),
        claims=(said[0], said[1]),
        verdict=verdict_sentence(a, b, judgement),
        change=change(a, b, judgement, turned),
    )


def _rows(sides: Iterable[Side], snapshot: Snapshot, scores: Iterable[Scored]) -> tuple[tuple[Row, Row], ...]:
    a, b = (
        seed_rows(side.card, snapshot, its.told if its.score is not None else None, its.config or None)
        for side, its in zip(sides, scores, strict=True)
    )
    return tuple(zip(a, b, strict=True))
