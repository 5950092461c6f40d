"""What a terminal shows: faint text, text made safe, progress, numbers for people, and JSON for machines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from quipu.errors import InvalidRequest

Progress = Callable[[int, int, str], None]
"""(done, total, what is being done); done and total in the same unit."""

_CONTROLS = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"}
_CONTROLS |= {0x7F: "\u2421"} | dict.fromkeys(range(0x80, 0xA0), "\ufffd")


def printable(text: str) -> str:
    """``text`` with control characters made visible: a model must not be able to steer the terminal."""
    return text.translate(_CONTROLS)


def one_line(text: str) -> str:
    """``text`` on one line, with control characters made visible."""
    return " ".join(printable(text).splitlines())


def faint(text: str, stream: TextIO) -> str:
    """``text`` in faint print, where ``stream`` is a terminal that can and the user has not said NO_COLOR."""
    plain = not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[2m{text}\x1b[0m"


def print_json(value: Any) -> None:
    """``value`` as one JSON document on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def bytes_text(count: int) -> str:
    """``count`` bytes for people, in binary units: 101.1 MiB."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def piped_text() -> str | None:
    """All of standard input if it is a pipe or a file, None if a person sits there. Raises InvalidRequest."""
    if sys.stdin is None or sys.stdin.isatty():
        return None
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"standard input is not UTF-8 text ({error}); convert it, e.g. with iconv") from None


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """A progress bar on standard error while the block runs; nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total, what: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def show(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=f"{title}: {what}" if what else title)

        yield show


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """``rows`` in aligned columns, whole: a narrow terminal wraps a line, a pipe gets one line a row."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(f"  {line}".rstrip())
