"""A comparison on a terminal: sentences, aligned tables, bars of intervals."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from quipu.cli.terminal import one_line, printable
from quipu.evidence.alignment import Aligned
from quipu.evidence.claims import Judgement, Status, counts
from quipu.evidence.comparison import Comparison
from quipu.evidence.differences import Difference
from quipu.evidence.figure import Figure
from quipu.evidence.side import Side, names

WIDTH = 110
"""Columns of a file or a pipe, and the most that are used of a terminal."""
NARROWEST = 40
BAR = 30
"""Columns of a bar, where there is room."""
POINTS = {"a": "●", "b": "◆"}
PLAIN = str.maketrans({"●": "o", "◆": "x", "━": "=", "·": ".", "─": "-", "—": "-", "±": "+/-", "…": "..."})
"""For terminals whose encoding lacks these."""
STYLES = {"a": "cyan", "b": "yellow"}
STATUSES: Mapping[Status, str] = {"verified": "green", "contradicted": "red", "unmeasured": "dim"}
REST = "What each is said to do, what is unique, and every claim: --html FILE, --markdown or --json."
QUOTED = 240
"""Characters of a question or an answer that a terminal shows."""


def console(stream: TextIO | None = None) -> Console:
    """A console that takes nothing in a text for markup, links or emoji; as wide as is good to read."""
    file = sys.stdout if stream is None else stream
    width = shutil.get_terminal_size((WIDTH, 24)).columns if file.isatty() else WIDTH
    return Console(
        file=file, width=max(NARROWEST, min(width, WIDTH)), markup=False, highlight=False, emoji=False, soft_wrap=False
    )


def show(comparison: Comparison, out: Console) -> None:
    """Print all of it that fits a terminal; the files and JSON have every claim."""
    for block in _blocks(comparison, out):
        with out.capture() as captured:
            out.print(block)
        # Tables fill their lines with spaces, which a pipe or a copied text has no use for.
        out.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()) + "\n")


def plain(text: str, out: Console) -> Text:
    """``text`` as it is, with nothing that steers the terminal, in characters that it has."""
    safe = printable(text)
    if not out.encoding.lower().startswith("utf"):
        safe = safe.translate(PLAIN).encode(out.encoding, "replace").decode(out.encoding)
    return Text(safe)


def _blocks(comparison: Comparison, out: Console) -> Iterator[RenderableType]:
    first, second = names(comparison.a, comparison.b)
    yield _styled(f"{first} vs {second}", "bold", out)
    yield plain(comparison.headline.sentence, out)
    yield _sides(comparison, out)
    yield _features(comparison, out)
    yield _capabilities(comparison, out)
    yield _beside(comparison, out)
    for who, found in (("A", comparison.only_a), ("B", comparison.only_b)):
        if found:
            yield Group(_heading(f"Only {who} passed", out), *(_difference(each, out) for each in found))
    if any(comparison.claims):
        yield _claims(comparison, out)
    yield _verdict(comparison, out)
    yield _styled(comparison.as_of, "dim", out)


def _styled(text: str, style: str, out: Console) -> Text:
    safe = plain(text, out)
    safe.stylize(style)
    return safe


def _heading(text: str, out: Console) -> Text:
    return _styled(text, "bold", out)


def _grid(*columns: str) -> Table:
    """A table without lines; columns named "wide" take what is left."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for name in columns:
        table.add_column(ratio=1 if name == "wide" else None, overflow="fold", no_wrap=name == "whole")
    return table


def _sides(comparison: Comparison, out: Console) -> Table:
    table = _grid("whole", "wide")
    for letter, side, score in zip("ab", (comparison.a, comparison.b), comparison.scores, strict=True):
        said = f"{one_line(side.name)}: {one_line(_config(side))}\nscore {score.told}"
        table.add_row(Text(letter.upper(), f"bold {STYLES[letter]}"), plain(said, out))
    return table


def _config(side: Side) -> str:
    if side.config is None:
        return "never measured here"
    config = side.config
    return f"{config.quantization}, {config.engine}, {config.hardware}, config {config.id[:12]}"


def _features(comparison: Comparison, out: Console) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold", title_justify="left")
    table.add_column("Feature", no_wrap=True)
    for letter in "ab":
        table.add_column(letter.upper(), ratio=1, overflow="fold", header_style=f"bold {STYLES[letter]}")
    for a, b in comparison.rows:
        table.add_row(
            a.name, *(Text.assemble(plain(f"{row.value}  ", out), _styled(row.why, "dim", out)) for row in (a, b))
        )
    return table


def _capabilities(comparison: Comparison, out: Console) -> Group:
    parts: list[RenderableType] = [_heading("Capabilities", out)]
    for (verdict, _), alike in groupby(comparison.capabilities, key=lambda each: (each.verdict, each.has)):
        rows = list(alike)
        if any(each.a.score.known or each.b.score.known for each in rows):
            parts += [_capability(each, comparison, out) for each in rows]
        else:
            ids = ", ".join(each.id for each in rows)
            title = Text.assemble(_styled(ids, "bold", out), "  ", _styled(_has(rows[0], comparison), "dim", out))
            parts.append(Group(title, Padding(plain(verdict, out), (0, 0, 0, 2))))
    return Group(*parts)


def _capability(each: Aligned, comparison: Comparison, out: Console) -> RenderableType:
    lines = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=False)
    lines.add_column(no_wrap=True)
    lines.add_column(no_wrap=True)
    lines.add_column(overflow="fold")
    measured = each.a.score.known or each.b.score.known
    for letter, told in (("a", each.a), ("b", each.b)):
        if told.score.known:
            said = f"{told.score.text}  {told.score.details}"
            lines.add_row(Text(letter.upper(), STYLES[letter]), bar(told.score, letter, out), plain(said, out))
        elif measured:
            lines.add_row(
                Text(letter.upper(), STYLES[letter]), "", _styled(f"{told.score.text} {told.score.why}", "dim", out)
            )
    title = Text.assemble(_styled(each.id, "bold", out), "  ", _styled(_has(each, comparison), "dim", out))
    body = Group(*([lines] if measured else []), plain(each.verdict, out))
    return Group(title, Padding(body, (0, 0, 0, 2)))


def _has(each: Aligned, comparison: Comparison) -> str:
    first, second = names(comparison.a, comparison.b)
    weight = each.compared.weight if each.compared else 0
    share = f"{100 * weight:.0f} % of the workload" if weight else "not in the workload"
    only = {"a": f", only {first} has it", "b": f", only {second} has it"}.get(each.has, "")
    return share + only


def bar(figure: Figure, letter: str, out: Console) -> Text:
    """From 0 to 100 %: the interval as a line, the value as a point."""
    width = max(10, min(BAR, out.width // 3))
    low, high = (round((width - 1) * (bound or 0)) for bound in (figure.low, figure.high))
    cells = ["━" if low <= place <= high else "·" for place in range(width)]
    if figure.value is not None:
        cells[round((width - 1) * figure.value)] = POINTS[letter]
    text = plain("".join(cells), out)
    text.stylize("dim")
    text.stylize(f"not dim {STYLES[letter]}", low, high + 1)
    return text


def _beside(comparison: Comparison, out: Console) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("Beside the score", no_wrap=True)
    for letter in "ab":
        table.add_column(letter.upper(), ratio=1, overflow="fold", header_style=f"bold {STYLES[letter]}")
    table.add_column("A / B", ratio=1, overflow="fold")
    for column in comparison.columns:
        table.add_row(column.name, *(_figure(each, out) for each in (column.a, column.b)), _figure(column.ratio, out))
    return table


def _figure(figure: Figure | None, out: Console) -> Text:
    if figure is None:
        return Text("")
    behind = figure.details or figure.why
    return Text.assemble(plain(f"{figure.text}  ", out), _styled(behind, "dim", out))


def _difference(each: Difference, out: Console) -> RenderableType:
    table = _grid("whole", "wide")
    table.add_row("", _styled(f"{each.capability}, probe {each.probe}", "bold", out))
    if each.question:
        table.add_row("", plain(_quoted(each.question), out))
    for letter, answer in (("a", each.a), ("b", each.b)):
        said = f"{_quoted(answer.text) or '(empty)'}"
        why = f"  {answer.value:.2f}{', ' + answer.why if answer.why else ''}; observation {answer.observation}"
        table.add_row(Text(letter.upper(), STYLES[letter]), Text.assemble(plain(said, out), _styled(why, "dim", out)))
    return table


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= QUOTED else f"{line[: QUOTED // 2]} … {line[-QUOTED // 2 :]}"


def _claims(comparison: Comparison, out: Console) -> Group:
    """How many there are, and those that are contradicted; where the rest is."""
    parts: list[RenderableType] = [_heading("Claims", out)]
    for letter, name, said in zip("ab", names(comparison.a, comparison.b), comparison.claims, strict=True):
        numbers = counts(said)
        tally = ", ".join(f"{numbers[status]} {status}" for status in STATUSES)
        parts.append(Text.assemble((f"{letter.upper()} ", f"bold {STYLES[letter]}"), plain(f"{name}: {tally}", out)))
        parts += [Padding(_claim(each, out), (0, 0, 0, 2)) for each in said if each.status == "contradicted"]
    parts.append(_styled(REST, "dim", out))
    return Group(*parts)


def _claim(judgement: Judgement, out: Console) -> Text:
    claim = judgement.claim
    quote = plain(f"“{_quoted(claim.quote)}” ({claim.source}, {claim.place}) ", out)
    return Text.assemble(
        (f"{judgement.status} ", STATUSES[judgement.status]), quote, _styled(judgement.why, "dim", out)
    )


def _verdict(comparison: Comparison, out: Console) -> Group:
    style = "bold" if comparison.decided else "bold magenta"
    parts: list[RenderableType] = [_heading("Verdict", out), _styled(comparison.verdict, style, out)]
    changes: Sequence[str] = comparison.change.told
    parts += [plain(each, out) for each in changes]
    parts += [Padding(_styled(one_line(each), "bold", out), (0, 0, 0, 2)) for each in comparison.change.commands]
    return Group(*parts)
