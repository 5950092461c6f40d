"""A folder of documents as a table: a row for each file, with its name and its text."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quipu.cli.fields import Field, file_field
from quipu.cli.tables import Row, Table
from quipu.errors import InvalidRequest

if TYPE_CHECKING:
    from quipu.capabilities.base import Capability

FILE = "file"


class Folder(Table):
    """Every file in it and in the folders in it, by name; hidden ones are left out. Each is read when its turn comes.

    ``text`` is the field that has a file's text, or the picture. What is written has the names of the files, not what
    is in them.
    """

    def __init__(self, path: Path, text: str, output: Path) -> None:
        self._text = text
        self._output = output
        self._files: list[Path] = []
        super().__init__(path)

    @classmethod
    def of(cls, path: Path, output: Path, capability: Capability) -> Folder:
        """The files that ``capability`` is called on. Raises InvalidRequest."""
        field = file_field(capability)
        if field is None:
            raise InvalidRequest(f"{capability.id} reads no files; name a .csv or a .jsonl file", param="batch")
        return cls(path, field.name, output)

    @property
    def suffixes(self) -> Sequence[str]:
        """Either."""
        return (".csv", ".jsonl", ".ndjson")

    def _check(self) -> None:
        if self._output.resolve().is_relative_to(self.path.resolve()):
            raise InvalidRequest(f"{self._output} is in the folder that is read; name a file elsewhere", param="output")
        for folder, folders, files in os.walk(self.path):
            folders[:] = [name for name in folders if not name.startswith(".")]
            self._files += [Path(folder) / name for name in files if not name.startswith(".")]
        self._files.sort()
        self.rows = len(self._files)
        self.columns = [FILE, self._text]

    def _wrong(self, why: str, line: int | None = None) -> InvalidRequest:
        return InvalidRequest(f"{self.path} {why.replace('rows', 'files')}", param="batch")

    def hash(self) -> str:
        """SHA-256, in hex, of the names of all files and of what is in them."""
        whole = hashlib.sha256()
        for file in self._files:
            try:
                with file.open("rb") as opened:
                    content = hashlib.file_digest(opened, "sha256").hexdigest()
            except OSError:  # its row says why
                content = "unreadable"
            whole.update(f"{self._name(file)}\0{content}\n".encode(errors="surrogateescape"))
        return whole.hexdigest()

    def read(self) -> Iterator[Row]:
        """The names; texts are read by ``value``."""
        return ({FILE: self._name(file), self._text: file} for file in self._files)

    def value(self, row: Row, column: str, field: Field) -> Any:
        """The name, the path of a picture, or the text of the file. Raises UnreadableDocument."""
        if column == FILE:
            return row[FILE]
        if field.kind == "pictures":
            return str(row[column])
        from quipu import documents

        return documents.read(row[column]).text

    def merged(self, names: Sequence[str], results: Iterable[Sequence[Row]]) -> Iterator[bytes]:
        """A table of the names of files and ``results``, in the format of the output's name."""
        as_csv = self._output.suffix.lower() == ".csv"
        if as_csv:
            yield self._line([FILE, *names])
        for file, rows in zip(self._files, results, strict=True):
            for result in rows or [{}]:
                row = {FILE: self._name(file), **{name: result[name] for name in names if name in result}}
                if as_csv:
                    yield self._line([self._cell(row.get(name)) for name in (FILE, *names)])
                else:
                    yield f"{json.dumps(row, ensure_ascii=False)}\n".encode(errors="backslashreplace")

    def _name(self, file: Path) -> str:
        return file.relative_to(self.path).as_posix()

    def _line(self, cells: Sequence[str]) -> bytes:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerow(cells)
        return buffer.getvalue().encode(errors="backslashreplace")
