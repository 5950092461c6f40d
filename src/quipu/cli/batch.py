"""A capability called on every row of a table, or file of a folder: many at once, in any order, none of them twice.

Finished rows go to a journal beside the output. When all are finished the output is put together in the order of the
input and renamed into its place. Ended at any moment, the same call goes on from the journal. Where rows failed the
journal stays, and the same call asks those again.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quipu.cli.fields import Field, fields
from quipu.cli.folder import Folder
from quipu.cli.journal import Journal
from quipu.cli.tables import Row, added_names, table
from quipu.cli.terminal import progress
from quipu.errors import InvalidRequest, QuipuError, StorageFailed, Unparsed, did_you_mean

if TYPE_CHECKING:
    from quipu.capabilities.base import Capability
    from quipu.types import Generator

TOGETHER = 16
"""Rows that are at the model at once; its engine makes batches of them."""
AHEAD = 2 * TOGETHER
"""Rows that were read and are not finished."""
SHOWN = 300
"""Characters shown of an answer that could not be read."""
OURS = 500
"""An error with this HTTP status or above, or that of a full queue, is not the row's fault: the batch stops."""
QUEUE_FULL = 429


class Batch:
    """``given`` are fields with the same value for every row, ``columns`` FIELD=COLUMN for fields that rows have.

    A column with the name of a field is taken for it where neither says otherwise. Raises InvalidRequest for what is
    wrong with the call or the input, before a model is needed.
    """

    def __init__(
        self,
        capability: Capability,
        source: str,
        output: str,
        columns: Sequence[str],
        given: Mapping[str, Any],
        sampling: Mapping[str, Any],
    ) -> None:
        self.capability = capability
        self.output = Path(output)
        self._given: Mapping[str, Any] = dict(given)
        self._sampling = dict(sampling)
        self._table = Folder.of(Path(source), self.output, capability) if Path(source).is_dir() else table(Path(source))
        self._journal = self.output.with_name(self.output.name + ".journal")
        self._check_output()
        self._columns = dict(self._mapped(columns))
        self._stopped = threading.Event()

    def run(self, model: Generator) -> str:
        """Do what is not done yet, and say how it went. Raises InvalidRequest if rows failed, and StorageFailed."""
        # A file's place says nothing; what is in it does.
        about = {name: value for name, value in model.facts.as_dict().items() if name != "file"}
        # It is in the header: rows that are asked when the batch is taken up again are asked for the same.
        self._settle(model)
        header = {"journal": 1, "input": self._table.hash(), **self._header(), "model": about}
        with Journal(self._journal, header, self._table.rows) as journal:
            try:
                self._ask(model, journal)
            except KeyboardInterrupt:
                kept = f"{journal.finished} of {self._table.rows} rows are finished and kept; the same call goes on"
                print(f"\nquipu: interrupted; {kept}", file=sys.stderr)
                raise
            if self._table.hash() != header["input"]:
                raise InvalidRequest(
                    f"{self._table.path} was changed meanwhile; begin again with {self._journal} deleted"
                )
            names, failed, cut = self._write(journal)
            journal.ask_again() if failed else journal.delete()
        marked = f"; {self._table.marked} cells begin with ' so that no spreadsheet computes them"
        marked = marked if self._table.marked else ""
        if failed:
            raise InvalidRequest(
                f"{failed} of {self._table.rows} rows failed; "
                f"the column {names['error']} of {self.output} says why; the same call asks them again{marked}"
            )
        return f"{self._table.rows} rows in {self.output}" + (f", {cut} of them cut off" if cut else "") + marked

    def _header(self) -> dict[str, Any]:
        return {
            "capability": self.capability.uri,
            "option": {"given": self._given, "columns": self._columns, "sampling": self._sampling},
        }

    def _check_output(self) -> None:
        if self.output.suffix.lower() not in self._table.suffixes:
            ends = " or ".join(self._table.suffixes)
            raise InvalidRequest(f"{self.output} must end in {ends}, as the rows that are read do", param="output")
        if self.output.exists() and not self._journal.exists():
            raise InvalidRequest(f"{self.output} is there already; remove it or name another file", param="output")
        if self.output.exists() and self.output.samefile(self._table.path):
            raise InvalidRequest(f"{self.output} is the input; name another file", param="output")

    def _mapped(self, columns: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Field -> column. Raises InvalidRequest for names that are none, and for a required field without a column."""
        known = {field.name: field for field in fields(self.capability)}
        named = dict(each.partition("=")[::2] for each in columns)
        for name, column in named.items():
            _check_name("field", name, list(known))
            _check_name(f"column of {self._table.path}", column, self._table.columns)
            if name in self._given:
                raise InvalidRequest(f"{name} is given twice: as an option and as the column {column}", param="column")
        for name, field in known.items():
            column = named.get(name, name)
            if name in self._given:
                continue
            if column in self._table.columns:
                yield name, column
            elif field.required:
                have = ", ".join(self._table.columns[:20])
                raise InvalidRequest(
                    f"no column of {self._table.path} is called {name}; "
                    f"name it with --column {name}=COLUMN (there are {have})",
                    param="column",
                )

    def _ask(self, model: Generator, journal: Journal) -> None:
        rows = self._table.rows
        with progress(self.capability.id) as show, ThreadPoolExecutor(TOGETHER) as pool:
            waiting: dict[Future[Row], int] = {}
            show(journal.finished, rows, "")

            def finish(most: int) -> None:
                while len(waiting) > most:
                    for done in wait(waiting, return_when=FIRST_COMPLETED).done:
                        journal.add(waiting.pop(done), done.result())
                        show(journal.finished, rows, f"{journal.finished} of {rows} rows")

            try:
                for number, row in enumerate(self._table.read()):
                    if not journal.has(number):
                        waiting[pool.submit(self._one, model, row)] = number
                        finish(AHEAD - 1)
                finish(0)
            except BaseException:
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _one(self, model: Generator, row: Row) -> Row:
        """What the journal keeps of a row: its output, or why there is none. Raises what is not the row's fault."""
        from quipu.capabilities.base import Result

        try:
            given = self.capability.input.of({**self._given, **self._values(row)})
            for event in self.capability.events(model, given, self._sampling):
                if self._stopped.is_set():
                    break
                if isinstance(event, Result):
                    output = event.output.model_dump(mode="json")
                    return {"output": output} | ({"cut": True} if event.finish_reason == "length" else {})
        except Unparsed as error:
            return {"error": f"{error}; the model said: {error.text[:SHOWN]}"}
        except QuipuError as error:
            if error.status >= OURS or error.status == QUEUE_FULL:
                raise
            return {"error": str(error)}
        raise InterruptedError

    def _values(self, row: Row) -> Row:
        values = {}
        for field in _having(self.capability, self._columns):
            try:
                values[field.name] = field.opened(self._table.value(row, self._columns[field.name], field))
            except KeyError:
                continue
            except ValueError as error:
                raise InvalidRequest(f"{self._columns[field.name]}: {error}", param=field.name) from None
        return values

    def _settle(self, model: Generator) -> None:
        """Find out what is the same for all rows, and tell it."""
        settled = self.capability.settled(model, self._given, self._sampling)
        for name, value in settled.items():
            if value != self._given.get(name):
                print(f"note: {name} is {value}", file=sys.stderr)
        self._given = settled

    def _rows(self, found: Row) -> list[Row]:
        """What comes of one row, as the journal has it."""
        return self.capability.rows(found["output"]) if "output" in found else [{"error": found["error"]}]

    def _new_columns(self, journal: Journal) -> Mapping[str, str]:
        """What each column that is added is called: those of outputs as they come, then ``error``."""
        found: dict[str, None] = {}
        for number in range(self._table.rows):
            for row in self._rows(journal.result(number)):
                found |= dict.fromkeys(row)
        found.pop("error", None)
        wanted = list(found) or list(self.capability.output.model_fields)
        return added_names([*wanted, "error"], self._table.columns, self.capability.id)

    def _write(self, journal: Journal) -> tuple[Mapping[str, str], int, int]:
        """The output in its place, all at once. Returns what new columns are called, and how many rows failed and were
        cut off.
        """
        names = self._new_columns(journal)
        failed = cut = 0

        def results() -> Iterator[list[Row]]:
            nonlocal failed, cut
            for number in range(self._table.rows):
                found = journal.result(number)
                failed += "error" in found
                cut += "cut" in found
                yield [{names[name]: value for name, value in row.items()} for row in self._rows(found)]

        part = self.output.with_name(self.output.name + ".part")
        try:
            with part.open("wb") as opened:
                for piece in self._table.merged(list(names.values()), results()):
                    opened.write(piece)
                opened.flush()
                os.fsync(opened.fileno())
            part.replace(self.output)
            folder = os.open(self.output.parent, os.O_RDONLY)
            os.fsync(folder)  # the output must have its name before the journal goes
            os.close(folder)
        except OSError as error:
            raise StorageFailed(
                f"{self.output} cannot be written: {error.strerror}; make room and call it again: every row is kept"
            ) from None
        return names, failed, cut


def _having(capability: Capability, columns: Mapping[str, str]) -> list[Field]:
    return [field for field in fields(capability) if field.name in columns]


def _check_name(what: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        hint = did_you_mean(name, known, f"there are {', '.join(known[:20])}")
        raise InvalidRequest(f"--column: no {what} is called {name!r:.80}; {hint}", param="column")
