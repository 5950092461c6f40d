"""A snapshot from the derived tables; its pieces are kept as long as nothing was added to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Connection, select

from quipu.evidence import bodies
from quipu.evidence.log import Entry
from quipu.evidence.snapshot import Cell, Outcome, Service, Snapshot
from quipu.evidence.tables import CELL, CONFIG, ENTRY, OUTCOME, PROBE_SET, CellRow

ProbeSets = Mapping[tuple[str, str], bodies.ProbeSetBody]
"""By capability and hash."""


@dataclass(frozen=True, slots=True)
class _Outcomes:
    """Those of a cell as of its observation ``observed``."""

    observed: int
    by_probe: Mapping[str, Outcome]
    beyond_context: int
    peak_memory: int | None


class Lookup:
    """Makes snapshots. Safe from several threads: they replace what they keep only by the same."""

    def __init__(self) -> None:
        self._bodies: dict[int, bodies.Body] = {}
        self._outcomes: dict[int, _Outcomes] = {}

    def snapshot(self, connection: Connection, last: Entry | None, wanted: Set[str] | None) -> Snapshot:
        """See Store.snapshot; ``last`` is the last entry."""
        told = self._told(connection, wanted)
        sets = self._sets(connection)
        cells = _current(connection, told.keys())
        self._read(connection, [cell for cell in cells if not self._knows(cell)], sets)
        return Snapshot(
            number=0 if last is None else last.number,
            hash="" if last is None else last.hash,
            at="" if last is None else last.at,
            configs={identifier: entries[-1].config for identifier, entries in told.items()},
            cells={(cell.config, cell.capability): self._cell(cell, sets) for cell in cells},
            labels={
                identifier: tuple(dict.fromkeys(entry.label for entry in entries))
                for identifier, entries in told.items()
            },
            services=self._services(connection, told.keys()),
        )

    def _told(self, connection: Connection, wanted: Set[str] | None) -> dict[str, list[bodies.ConfigBody]]:
        """What entries say of each config, in the order in which they were first measured."""
        query = select(CONFIG.c.number, CONFIG.c.config).order_by(CONFIG.c.number)
        rows = [row for row in connection.execute(query) if wanted is None or row.config in wanted]
        self._read_bodies(connection, [row.number for row in rows])
        told = defaultdict(list)
        for row in rows:
            told[row.config].append(cast(bodies.ConfigBody, self._bodies[row.number]))
        return dict(told)

    def _sets(self, connection: Connection) -> ProbeSets:
        rows = connection.execute(select(PROBE_SET).order_by(PROBE_SET.c.number)).all()
        self._read_bodies(connection, [row.number for row in rows])
        found = [cast(bodies.ProbeSetBody, self._bodies[row.number]) for row in rows]
        return {(each.capability, each.probe_set): each for each in found}

    def _services(self, connection: Connection, configs: Set[str]) -> dict[tuple[str, str], Service]:
        """There are few, so they are looked up in the log itself."""
        query = select(ENTRY.c.number).where(ENTRY.c.kind == "service").order_by(ENTRY.c.number)
        numbers = list(connection.execute(query).scalars())
        self._read_bodies(connection, numbers)
        every = [(number, cast(bodies.ServiceBody, self._bodies[number])) for number in numbers]
        return {
            (each.config, each.capability): Service(number, each.found)
            for number, each in every
            if each.config in configs
        }

    def _read_bodies(self, connection: Connection, numbers: Sequence[int]) -> None:
        unknown = [number for number in numbers if number not in self._bodies]
        for row in connection.execute(select(ENTRY).where(ENTRY.c.number.in_(unknown))) if unknown else ():
            entry = Entry(*row)
            body = bodies.read(entry.kind, entry.text, f"entry {entry.number}")
            assert body is not None
            self._bodies[entry.number] = body

    def _knows(self, cell: CellRow) -> bool:
        known = self._outcomes.get(cell.cell)
        return known is not None and known.observed == cell.observed

    def _read(self, connection: Connection, cells: Sequence[CellRow], sets: ProbeSets) -> None:
        """Look the outcomes of ``cells`` up."""
        rows: dict[int, list[Any]] = defaultdict(list)
        query = select(OUTCOME).where(OUTCOME.c.cell.in_([cell.cell for cell in cells])).order_by(*OUTCOME.primary_key)
        for row in connection.execute(query) if cells else ():
            rows[row[0]].append(row)
        for cell in cells:
            told = sets.get((cell.capability, cell.probe_set))
            places = {} if told is None else {row[0]: (row[1], row[3]) for row in told.probes}
            self._outcomes[cell.cell] = _outcomes(cell, rows[cell.cell], places)

    def _cell(self, row: CellRow, sets: ProbeSets) -> Cell:
        outcomes, told = self._outcomes[row.cell], sets.get((row.capability, row.probe_set))
        return Cell(
            config=row.config,
            capability=row.capability,
            probe_set=row.probe_set,
            binary=told is not None and told.binary,
            outcomes=outcomes.by_probe,
            beyond_context=outcomes.beyond_context,
            seconds=row.seconds,
            timed_tokens=row.timed_tokens,
            baseline=None if told is None else told.baseline,
            baseline_name="" if told is None else told.baseline_name,
            peak_memory=outcomes.peak_memory,
        )


def find_cell(connection: Connection, config: str, capability: str, probe_set: str) -> CellRow | None:
    """The row of a cell; None where nothing was ever to be asked."""
    same = (CELL.c.config == config, CELL.c.capability == capability, CELL.c.probe_set == probe_set)
    found = connection.execute(select(CELL).where(*same)).first()
    return None if found is None else CellRow(*found)


def _current(connection: Connection, configs: Set[str]) -> list[CellRow]:
    """Of each capability of ``configs``, the cell that was observed last, in the order in which they were begun."""
    cells: dict[tuple[str, str], CellRow] = {}
    for row in connection.execute(select(CELL).where(CELL.c.observed > 0).order_by(CELL.c.cell)):
        cell = CellRow(*row)
        known = cells.get((cell.config, cell.capability))
        if cell.config in configs and (known is None or known.observed < cell.observed):
            cells[cell.config, cell.capability] = cell
    return list(cells.values())


def _outcomes(cell: CellRow, rows: Sequence[Any], places: Mapping[str, tuple[str, str]]) -> _Outcomes:
    asked = [row for row in rows if row.state != "beyond context"]
    by_probe = {
        row.probe: Outcome(
            row.probe,
            *places.get(row.probe, ("", "")),
            value=row.value,
            passed=row.passed,
            unparsed=row.state == "unparsed",
            observation=row.observation,
            prompt_tokens=row.prompt_tokens,
            completion_tokens=row.completion_tokens,
            seconds=row.seconds,
            first_token_seconds=row.first_token_seconds,
        )
        for row in asked
    }
    memory = [row.peak_memory for row in asked if row.peak_memory is not None]
    return _Outcomes(cell.observed, by_probe, len(rows) - len(asked), max(memory, default=None))
