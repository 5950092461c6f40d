"""Whether a model was seen to do what is claimed: its probes against the trivial answer to the same probes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from quipu import capabilities
from quipu.capabilities.base import Answering, Capability
from quipu.evidence.claims import Claim, Evidence, Judgement, shown
from quipu.evidence.config import Config
from quipu.evidence.intervals import Interval, interval
from quipu.evidence.measuring import measuring
from quipu.evidence.snapshot import Cell, Outcome, Snapshot
from quipu.evidence.standing import THIN

NAMED = 5
"""Observations that evidence names; the log has the others."""


class Tried:
    """What the configs of one model did. A claim holds if one of them shows it, and fails if all that tell deny it."""

    def __init__(self, subject: str, configs: Sequence[Config], snapshot: Snapshot) -> None:
        self._subject = subject
        self._configs = configs
        self._snapshot = snapshot
        self._found: dict[tuple[str, str, tuple[int, ...]], tuple[Interval, Cell, list[Outcome]]] = {}

    def judge(self, claim: Claim) -> Judgement:
        """``can``: a capability. ``learns_from_examples``: the probes of few_shot with so many examples."""
        examples = tuple(claim.value) if claim.predicate == "learns_from_examples" else ()
        name = "few_shot" if examples else str(claim.value)
        if name not in capabilities.names():
            return _unmeasured(claim, f"quipu has no probes of {name} yet", f"probes of {name}")
        capability = capabilities.find(name)
        command = measuring(self._subject, name)
        if not isinstance(capability, Answering):
            return self._service(claim, capability, command)
        tried = [self._cell(config, capability.uri, examples) for config in self._configs]
        results = [each for each in tried if each is not None]
        told = [each for each in results if each[0].n >= THIN and each[1].baseline is not None]
        for found, cell, outcomes in told:
            if found.low > (cell.baseline or 0):
                return _decided(claim, "verified", found, cell, outcomes)
        worse = [each for each in told if each[0].high < (each[1].baseline or 0)]
        if worse and len(worse) == len(told):
            return _decided(claim, "contradicted", *worse[0])
        if told:
            found, cell, outcomes = told[0]
            why = f"{_score(found)} cannot be told from {_trivial(cell)}"
            return Judgement(
                claim, "unmeasured", found.mean, why, (_evidence(cell, found, outcomes),), f"more probes: {command}"
            )
        if results:
            n = max(each[0].n for each in results)
            return _unmeasured(claim, f"{n} probes were asked; from {THIN} on they count", command)
        return _unmeasured(claim, "no probe of it was asked", command)

    def _service(self, claim: Claim, capability: Capability, command: str) -> Judgement:
        """A service has no right answers: what it was seen to do says whether it does what it promises."""
        keys = [(config.id, capability.uri) for config in self._configs]
        seen = [self._snapshot.services[key] for key in keys if key in self._snapshot.services]
        if not seen:
            why = f"{capability.id} has no right answers: it is the service that is measured"
            return _unmeasured(claim, why, command)
        showing = [(capability.shows(each.found), each) for each in seen]
        holds, last = max(showing, key=lambda each: (each[0] is True, each[1].entry))
        why = "; ".join(f"{key.replace('_', ' ')} {shown(value)}" for key, value in last.found.items())
        evidence = (Evidence(f"entry {last.entry:,} of the log: the service as {capability.uri} saw it"),)
        if holds is None:
            return Judgement(claim, "unmeasured", None, why, evidence, f"what {capability.id} makes of these")
        return Judgement(claim, "verified" if holds else "contradicted", None, why, evidence, "")

    def _cell(self, config: Config, uri: str, examples: tuple[int, ...]) -> tuple[Interval, Cell, list[Outcome]] | None:
        cell = self._snapshot.cells.get((config.id, uri))
        outcomes = [] if cell is None else list(_chosen(cell.outcomes.values(), examples))
        if cell is None or not outcomes:
            return None
        key = (config.id, uri, examples)
        if key not in self._found:
            values, groups = [each.value for each in outcomes], [each.group for each in outcomes]
            self._found[key] = interval(values, groups, binary=cell.binary), cell, outcomes
        return self._found[key]


def above_trivial(cell: Cell) -> bool:
    """Whether the 95 % interval lies above the score of the trivial answer."""
    outcomes = cell.outcomes.values()
    found = interval([each.value for each in outcomes], [each.group for each in outcomes], binary=cell.binary)
    return cell.baseline is not None and found.low > cell.baseline


def _chosen(outcomes: Iterable[Outcome], examples: tuple[int, ...]) -> Iterable[Outcome]:
    """All of them, or those whose part is so many examples: ``2 examples``."""
    if not examples:
        return outcomes
    shots = [(each, re.match(r"(\d+) example", each.part)) for each in outcomes]
    return [each for each, found in shots if found and int(found[1]) in examples]


def _decided(claim: Claim, status: str, found: Interval, cell: Cell, outcomes: Sequence[Outcome]) -> Judgement:
    better = status == "verified"
    why = f"{_score(found)}, {'above' if better else 'below'} {_trivial(cell)}"
    evidence = (_evidence(cell, found, outcomes),)
    return Judgement(claim, "verified" if better else "contradicted", found.mean, why, evidence, "")


def _unmeasured(claim: Claim, why: str, needs: str) -> Judgement:
    return Judgement(claim, "unmeasured", None, why, (), needs)


def _score(found: Interval) -> str:
    return f"{100 * found.mean:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f}, n {found.n})"


def _trivial(cell: Cell) -> str:
    return f"the {100 * (cell.baseline or 0):.1f} % of the trivial answer ({cell.baseline_name})"


def _evidence(cell: Cell, found: Interval, outcomes: Sequence[Outcome]) -> Evidence:
    numbers = tuple(sorted(each.observation for each in outcomes))
    title = f"{found.n} observations of {cell.capability} by config {cell.config[:12]}, first and last entries named"
    return Evidence(title, "", numbers if len(numbers) <= NAMED else (numbers[0], numbers[-1]))
