"""What stands beside a score and never enters it: speed, memory, price."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from quipu.evidence import figure
from quipu.evidence.figure import Figure
from quipu.evidence.side import Side
from quipu.evidence.snapshot import Cell, Outcome, Snapshot

NOT_MEASURED = "never measured here"
SAME = "the same probes on the same hardware"


@dataclass(frozen=True, slots=True)
class Column:
    """One property of both. ``ratio`` is A's value over B's where the same probes tell of both, else None."""

    name: str
    meaning: str
    a: Figure
    b: Figure
    ratio: Figure | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "meaning": self.meaning,
            "a": self.a.as_dict(),
            "b": self.b.as_dict(),
            "ratio": self.ratio.as_dict() if self.ratio else None,
        }


def columns(a: Side, b: Side, snapshot: Snapshot) -> tuple[Column, ...]:
    """Speed, memory and price of both, over the probes that both answered; over its own where the other has none."""
    ours, theirs = _answers(a, b, snapshot)
    pairs = [(ours[key], theirs[key]) for key in ours if key in theirs]
    if pairs:
        ours, theirs = (
            {key: ours[key] for key in ours if key in theirs},
            {key: theirs[key] for key in ours if key in theirs},
        )
    both = (a, list(ours.values())), (b, list(theirs.values()))
    same = a.config is not None and b.config is not None and a.config.hardware == b.config.hardware
    return (
        _timed("Time per answer", "from the question to the end, among other questions at the same time",
               lambda each: each.seconds, both, pairs, same),
        _timed("Time to first token", "from the question to the first text, among other questions at the same time",
               lambda each: each.first_token_seconds, both, pairs, same),
        Column("Tokens a second", "all answers at the same time, on the clock",
               *(_throughput(each, snapshot) for each in (a, b))),
        Column("Peak memory", "most that the process held while it was measured",
               *(_memory(each, snapshot) for each in (a, b))),
        Column("Price of prompts", "US dollars per million tokens in", *(_price(each, "input") for each in (a, b))),
        Column("Price of answers", "US dollars per million tokens out", *(_price(each, "output") for each in (a, b))),
        Column("Price per success", "US dollars per 1,000 answers that passed, tokens in and out",
               *(_per_success(each, outcomes) for each, outcomes in both)),
    )  # fmt: skip


Key = tuple[str, str]
"""(capability uri, probe)."""


def _answers(a: Side, b: Side, snapshot: Snapshot) -> tuple[dict[Key, Outcome], dict[Key, Outcome]]:
    first, second = ({} if side.config is None else _outcomes(snapshot.of(side.config.id)) for side in (a, b))
    return first, second


def _outcomes(cells: Iterable[Cell]) -> dict[Key, Outcome]:
    return {(cell.capability, probe): each for cell in cells for probe, each in cell.outcomes.items()}


def _timed(
    name: str,
    meaning: str,
    time: Callable[[Outcome], float | None],
    both: Sequence[tuple[Side, Sequence[Outcome]]],
    pairs: Sequence[tuple[Outcome, Outcome]],
    same_hardware: bool,
) -> Column:
    a, b = (_mean_time(side, outcomes, time) for side, outcomes in both)
    known = [
        (x, y, one.group) for one, other in pairs if (x := time(one)) is not None and (y := time(other)) is not None
    ]
    slower = sum(y for _, y, _ in known)
    if not same_hardware or slower == 0:
        return Column(name, meaning, a, b)
    value, low, high = figure.ratio([x for x, _, _ in known], [y for _, y, _ in known], [group for *_, group in known])
    return Column(name, meaning, a, b, Figure.of(value, figure.factor, low=low, high=high, n=len(known), why=SAME))


def _mean_time(side: Side, outcomes: Sequence[Outcome], time: Callable[[Outcome], float | None]) -> Figure:
    known = [(value, each.group) for each in outcomes if (value := time(each)) is not None]
    if not known:
        return Figure.unknown(NOT_MEASURED if side.config is None else "no answer was timed")
    value, low, high = figure.ratio([value for value, _ in known], [1.0] * len(known), [group for _, group in known])
    hardware = side.config.hardware if side.config else ""
    return Figure.of(
        value, figure.seconds, low=low, high=high, n=len(known), why=f"mean; on {hardware}{_no_interval(low)}"
    )


def _throughput(side: Side, snapshot: Snapshot) -> Figure:
    cells = list(snapshot.of(side.config.id)) if side.config else []
    clock, tokens = sum(cell.seconds for cell in cells), sum(cell.timed_tokens for cell in cells)
    if not clock:
        return Figure.unknown(NOT_MEASURED if side.config is None else "no round was timed")
    return Figure.of(tokens / clock, "{:,.0f}".format, n=tokens, why="of whole rounds; one clock has no interval")


def _memory(side: Side, snapshot: Snapshot) -> Figure:
    if side.config is None:
        return Figure.unknown(NOT_MEASURED)
    known = [
        (cell.peak_memory, len(cell.outcomes)) for cell in snapshot.of(side.config.id) if cell.peak_memory is not None
    ]
    if not known:
        return Figure.unknown(
            "a remote endpoint does not tell" if side.config.hardware == "unknown" else "not recorded"
        )
    peak = max(bytes_held for bytes_held, _ in known)
    return Figure.of(peak, figure.gibibytes, n=sum(n for _, n in known), why="a maximum has no interval")


def _price(side: Side, direction: str) -> Figure:
    price = side.card.price
    amount = None if price is None else getattr(price, direction)
    if price is None or amount is None:
        return Figure.unknown("no price is published in its card")
    return Figure.of(amount, figure.dollars, why=", ".join(filter(None, (price.source, price.as_of))))


def _per_success(side: Side, outcomes: Sequence[Outcome]) -> Figure:
    price = side.card.price
    if price is None or price.input is None or price.output is None:
        return Figure.unknown("no price is published in its card")
    if not outcomes:
        return Figure.unknown(NOT_MEASURED)
    if not any(each.passed for each in outcomes):
        return Figure.unknown(f"none of {figure.plural(len(outcomes), 'answer')} passed")
    costs = [
        each.prompt_tokens * price.input / 1000 + each.completion_tokens * price.output / 1000 for each in outcomes
    ]
    value, low, high = figure.ratio(costs, [float(each.passed) for each in outcomes], [each.group for each in outcomes])
    why = "what all answers cost, over those that passed" + _no_interval(low)
    return Figure.of(value, figure.dollars, low=low, high=high, n=len(outcomes), why=why)


def _no_interval(low: float | None) -> str:
    return "" if low is not None else f"; no interval from fewer than {figure.FEWEST_GROUPS} independent groups"
