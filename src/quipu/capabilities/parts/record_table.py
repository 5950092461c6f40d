"""Records as text: JSON, JSONL, CSV, or a table in Markdown."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from quipu.capabilities.parts.cells import guarded

Format = Literal["json", "jsonl", "csv", "markdown"]
Record = Mapping[str, Any]


def as_text(records: Sequence[Record], names: Sequence[str], form: Format, *, many: bool) -> str:
    """``records``, whose columns in a table are ``names`` and then what else there is. JSON of one is not a list."""
    match form:
        case "json":
            return json.dumps(list(records) if many else records[0], ensure_ascii=False, indent=2)
        case "jsonl":
            return "\n".join(json.dumps(record, ensure_ascii=False) for record in records)
        case "csv":
            return _csv(records, columns(records, names))
        case "markdown":
            return _markdown(records, columns(records, names))


def columns(records: Sequence[Record], names: Sequence[str]) -> list[str]:
    """``names``, and what any of ``records`` has beside."""
    return list(dict.fromkeys([*names, *(name for record in records for name in record)]))


def cell(value: Any) -> str:
    """A value as people read it in a table: nothing for null, texts of a list with semicolons, JSON for the rest."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str | int | float) for each in value):
        return "; ".join(map(cell, value))
    return json.dumps(value, ensure_ascii=False)


def _csv(records: Sequence[Record], names: Sequence[str]) -> str:
    """Texts that a spreadsheet would compute begin with an apostrophe."""
    buffer = io.StringIO()
    write = csv.writer(buffer, lineterminator="\n").writerow
    write([guarded(name) for name in names])
    for record in records:
        values = (record.get(name) for name in names)
        write([guarded(cell(value)) if isinstance(value, str | list) else cell(value) for value in values])
    return buffer.getvalue().removesuffix("\n")


def _markdown(records: Sequence[Record], names: Sequence[str]) -> str:
    lines = [_line(names), _line(["---"] * len(names))]
    return "\n".join(lines + [_line([cell(record.get(name)) for name in names]) for record in records])


def _line(cells: Sequence[str]) -> str:
    """A row; bars and line ends within a cell do not end it."""
    escaped = (re.sub(r"\s+", " ", each.replace("\\", "\\\\").replace("|", "\\|")).strip() for each in cells)
    return f"| {' | '.join(escaped)} |"
