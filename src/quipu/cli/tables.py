"""Tables with a row for each call: CSV and JSONL, read row by row and written again with columns added.

Both are checked to their end before the first call is made. What was in a row stays as it is, in JSONL to the byte.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from quipu.capabilities.parts.cells import guarded
from quipu.cli.fields import Field
from quipu.errors import InvalidRequest
from quipu.types import no_constant

MOST_BYTES = 64 << 20
"""Of one row."""
MOST_COLUMNS = 10_000
MARK = "\ufeff"
DELIMITERS = ",;\t"
Row = dict[str, Any]


class Table(ABC):
    """A file of rows. ``columns`` are the names in it and ``rows`` their number, known once it was made.

    Raises InvalidRequest with the file, the line and what is wrong there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []
        self.rows = 0
        self.marked = 0
        """Texts written with an apostrophe in front."""
        self._check()
        if not self.rows:
            raise self._wrong("has no rows")

    @property
    def suffixes(self) -> Sequence[str]:
        """How the name of what is written may end."""
        return (self.path.suffix.lower(),)

    @abstractmethod
    def _check(self) -> None:
        """Read all of it, for ``columns`` and ``rows``."""

    @abstractmethod
    def read(self) -> Iterator[Row]:
        """The rows, in order."""

    @abstractmethod
    def value(self, row: Row, column: str, field: Field) -> Any:
        """What the row has for ``field``. Raises KeyError where that is nothing, ValueError for no such value."""

    @abstractmethod
    def merged(self, names: Sequence[str], results: Iterable[Sequence[Row]]) -> Iterator[bytes]:
        """The file again, with ``results`` added under ``names``; in CSV, so that none is computed.

        A row with several results is there once for each of them; one without any is there.
        """

    def hash(self) -> str:
        """SHA-256, in hex, of what is in it."""
        with self.path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()

    def _cell(self, value: Any) -> str:
        """A value as the cell of a CSV file."""
        if value is None:
            return ""
        if not isinstance(value, str):
            return json.dumps(value, ensure_ascii=False)
        safe = guarded(value)
        self.marked += safe != value
        return safe

    def _wrong(self, why: str, line: int | None = None) -> InvalidRequest:
        where = str(self.path) if line is None else f"{self.path}, line {line}:"
        return InvalidRequest(f"{where} {why}", param="batch")

    def _open(self) -> IO[bytes]:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise self._wrong(f"cannot be read: {error.strerror}") from None

    def _decoded(self, line: bytes, number: int) -> str:
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            raise self._wrong(f"is not UTF-8 ({error.reason}); convert the file, e.g. with iconv", number) from None


def table(path: Path) -> Table:
    """The table in a file, by its name's ending. Raises InvalidRequest."""
    match path.suffix.lower():
        case ".csv":
            return Csv(path)
        case ".jsonl" | ".ndjson":
            return JsonLines(path)
    raise InvalidRequest(f"{path} is no table that is read; name a .csv or a .jsonl file", param="batch")


class JsonLines(Table):
    """An object a line."""

    def _check(self) -> None:
        known: dict[str, None] = {}
        for row, _ in self._lines():
            self.rows += 1
            known |= dict.fromkeys(row)
            if len(known) > MOST_COLUMNS:
                raise self._wrong(f"has objects with more than {MOST_COLUMNS} names in all; rows have the same names")
        self.columns = list(known)

    def read(self) -> Iterator[Row]:
        """The rows, in order."""
        return (row for row, _ in self._lines())

    def value(self, row: Row, column: str, field: Field) -> Any:
        """What JSON says; null is a value."""
        return row[column]

    def merged(self, names: Sequence[str], results: Iterable[Sequence[Row]]) -> Iterator[bytes]:
        """The file again, with ``results`` added."""
        for (row, line), rows in zip(self._lines(), results, strict=True):
            for result in rows or [{}]:
                added = json.dumps({name: result[name] for name in names if name in result}, ensure_ascii=False)
                both = added != "{}" and bool(row)
                yield f"{line[:-1].rstrip()}{', ' if both else ''}{added[1:]}\n".encode(errors="backslashreplace")

    def _lines(self) -> Iterator[tuple[Row, str]]:
        with self._open() as opened:
            number = 0
            while line := opened.readline(MOST_BYTES + 1):
                number += 1
                if len(line) > MOST_BYTES:
                    raise self._wrong(f"has more than {MOST_BYTES >> 20} MiB", number)
                text = self._decoded(line.removeprefix(MARK.encode()) if number == 1 else line, number).strip()
                if text:
                    yield self._object(text, number), text

    def _object(self, text: str, number: int) -> Row:
        try:
            row = json.loads(text, parse_constant=no_constant)
        except (ValueError, RecursionError) as error:
            raise self._wrong(f"is not JSON: {error}", number) from None
        if not isinstance(row, dict):
            raise self._wrong(f'is {text[:40]}, not an object such as {{"text": "..."}}', number)
        return row


class Csv(Table):
    """A header and rows of cells; commas, semicolons or tabs between them, as the header has them."""

    def __init__(self, path: Path) -> None:
        self._mark = False
        self._delimiter = ","
        self._ending = "\n"
        super().__init__(path)

    def _check(self) -> None:
        with self._open() as opened:
            first = opened.readline(MOST_BYTES)
        if first[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise self._wrong("is UTF-16; save it as CSV in UTF-8, or convert it, e.g. with iconv")
        header = self._decoded(first, 1)
        self._mark = header.startswith(MARK)
        self._ending = "\r\n" if header.endswith("\r\n") else "\n"
        self._delimiter = max(DELIMITERS, key=header.count) if any(map(header.count, DELIMITERS)) else ","
        lines = self._cells()
        number, names = next(lines, (1, []))
        if not names:
            raise self._wrong("is empty; its first line must name the columns")
        self._check_header(names, number)
        self.columns = names
        for number, cells in lines:
            self.rows += 1
            if len(cells) != len(names):
                raise self._wrong(f"row {self.rows} has {len(cells)} cells, the header {len(names)}", number)

    def _check_header(self, names: list[str], number: int) -> None:
        for place, name in enumerate(names):
            if not name.strip():
                raise self._wrong(f"column {place + 1} has no name; give it one", number)
            if name in names[:place]:
                raise self._wrong(f"two columns are called {name!r:.80}; rename one", number)

    def read(self) -> Iterator[Row]:
        """The rows, in order."""
        cells = self._cells()
        next(cells)
        return (dict(zip(self.columns, row, strict=True)) for _, row in cells)

    def value(self, row: Row, column: str, field: Field) -> Any:
        """An empty cell says nothing, but for a text that is required."""
        cell = row[column]
        if not cell and not (field.kind == "text" and field.required):
            raise KeyError(column)
        return field.value(cell)

    def merged(self, names: Sequence[str], results: Iterable[Sequence[Row]]) -> Iterator[bytes]:
        """The file again, with ``results`` added."""
        buffer = io.StringIO()
        write = csv.writer(buffer, delimiter=self._delimiter, lineterminator=self._ending).writerow
        buffer.write(MARK if self._mark else "")
        write([*self.columns, *names])
        cells = self._cells()
        next(cells)
        for (_, row), rows in zip(cells, results, strict=True):
            for result in rows or [{}]:
                write([*row, *(self._cell(result.get(name)) for name in names)])
            yield buffer.getvalue().encode(errors="backslashreplace")
            buffer.seek(0)
            buffer.truncate()

    def _cells(self) -> Iterator[tuple[int, list[str]]]:
        """Each row that is not blank, with the number of its last line."""
        csv.field_size_limit(MOST_BYTES)
        with self._open() as opened:
            reader = csv.reader(self._texts(opened), delimiter=self._delimiter, strict=True)
            try:
                for cells in reader:
                    if cells:
                        yield reader.line_num, cells
            except csv.Error as error:
                raise self._wrong(f"is not CSV: {error}", reader.line_num) from None

    def _texts(self, opened: IO[bytes]) -> Iterator[str]:
        number = 0
        while line := opened.readline(MOST_BYTES + 1):
            number += 1
            if len(line) > MOST_BYTES:
                raise self._wrong(f"has more than {MOST_BYTES >> 20} MiB", number)
            text = self._decoded(line, number)
            yield text.removeprefix(MARK) if number == 1 else text


def added_names(wanted: Iterable[str], columns: Iterable[str], prefix: str) -> Mapping[str, str]:
    """A name for each new column: its own, with ``prefix_`` in front as often as it takes to be free."""
    taken, names = set(columns), {}
    for each in wanted:
        name = each
        while name in taken:
            name = f"{prefix}_{name}"
        taken.add(name)
        names[each] = name
    return names
