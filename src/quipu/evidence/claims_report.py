"""Judged claims for machines and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from quipu.evidence.claims import Evidence, Judgement, counts
from quipu.evidence.judging import Header
from quipu.evidence.snapshot import Snapshot


def report(judged: Sequence[Judgement], snapshot: Snapshot, header: Header | None) -> dict[str, Any]:
    """All of it for JSON, with what it was held against."""
    return {
        "counts": counts(judged),
        "header": None if header is None else {"path": header.path, "card": header.subject},
        "snapshot": {"number": snapshot.number, "hash": snapshot.hash, "at": snapshot.at},
        "claims": [each.as_dict() for each in judged],
    }


def markdown(judged: Sequence[Judgement], snapshot: Snapshot, header: Header | None) -> str:
    """A table of them, after what they were held against."""
    found = counts(judged)
    held = (
        f"Held against the header of `{header.path}`, then published facts"
        if header
        else "Held against published facts"
    )
    log = (
        f"the log up to entry {snapshot.number} ({snapshot.hash[:12]})"
        if snapshot.number
        else "a log with nothing in it"
    )
    parts = [
        "# Claims",
        f"{', '.join(f'{count} {status}' for status, count in found.items())}. {held} and {log}.",
        "\n".join(
            ["| of | words | claim | status | evidence |", "|---|---|---|---|---|", *(_row(each) for each in judged)]
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _row(judged: Judgement) -> str:
    claim = judged.claim
    reasons = [judged.why, claim.note, f"needs: {judged.needs}" if judged.needs else ""]
    proof = "; ".join(filter(None, (*map(cell, reasons), *_links(judged.evidence))))
    return f"| {' | '.join(map(cell, (claim.subject, claim.quote, claim.words, judged.status)))} | {proof} |"


def _links(evidence: Iterable[Evidence]) -> Iterable[str]:
    for each in evidence:
        if each.url.startswith("https://"):
            yield f"[{cell(each.title)}]({each.url})"
        if each.observations:
            yield f"observations {', '.join(map(str, each.observations))}"


def cell(text: str) -> str:
    """``text`` where Markdown would take some of its characters for marks, or a pipe for the next cell."""
    return re.sub(r"([\\`*_{}\[\]<>|#$~])", r"\\\1", " ".join(text.split()))
