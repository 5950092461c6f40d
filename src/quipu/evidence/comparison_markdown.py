"""A comparison as Markdown. Whatever a model or its label says stays text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from quipu.evidence.alignment import Aligned, Told
from quipu.evidence.claims import Judgement
from quipu.evidence.comparison import Comparison
from quipu.evidence.differences import Difference
from quipu.evidence.figure import Figure
from quipu.evidence.side import Side, names


def markdown(comparison: Comparison) -> str:
    """All of it, for people and for models that read pages."""
    blocks = (
        *_top(comparison),
        *_rows(comparison),
        *_capabilities(comparison),
        *_beside(comparison),
        *_differences(comparison),
        *_other_claims(comparison),
        *_end(comparison),
    )
    return "\n\n".join(blocks) + "\n"


MARKS = str.maketrans({**{mark: f"\\{mark}" for mark in "\\`*_{}[]|~#$"}, "<": "&lt;", ">": "&gt;", "&": "&amp;"})


def escaped(text: str) -> str:
    """``text`` on one line, with nothing in it that Markdown or HTML would take for its own."""
    line = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text).split()).translate(MARKS)
    line = line.replace("://", "&#58;//")  # or it would become a link
    return re.sub(r"^(\d{1,9})([.)])|^([-+=])", lambda found: f"{found[1] or ''}\\{found[2] or found[3]}", line)


def table(rows: Sequence[Sequence[str]]) -> str:
    """``rows`` of escaped cells, the first a header."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def figure(found: Figure) -> str:
    """A value with its interval and n, or "—" with the reason."""
    behind = found.details or found.why
    return escaped(found.text) + (f" ({escaped(behind)})" if behind else "")


def _top(comparison: Comparison) -> Iterator[str]:
    first, second = (escaped(name) for name in names(comparison.a, comparison.b))
    yield f"# {first} vs {second}"
    yield escaped(comparison.headline.sentence)
    yield f"**Verdict.** {escaped(comparison.verdict)}"
    yield "\n".join([f"* A: {_who(comparison.a)}", f"* B: {_who(comparison.b)}"])


def _who(side: Side) -> str:
    if side.config is None:
        return f"{escaped(side.title)} ({escaped(side.name)}), never measured here"
    config = side.config
    parts = (config.quantization, config.engine, config.hardware, f"config {config.id[:12]}")
    return f"{escaped(side.title)} ({escaped(side.name)}): {', '.join(escaped(part) for part in parts)}"


def _code(text: str) -> str:
    return re.sub(r"[`\x00-\x1f\x7f-\x9f]", " ", text)


def _rows(comparison: Comparison) -> Iterator[str]:
    yield "## Feature by feature"
    rows = [["Feature", "A", "B"]]
    rows += [
        [a.name, f"{escaped(a.value)} ({escaped(a.why)})", f"{escaped(b.value)} ({escaped(b.why)})"]
        for a, b in comparison.rows
    ]
    yield table(rows)


def _capabilities(comparison: Comparison) -> Iterator[str]:
    yield "## Capabilities"
    header = ["capability", "A", "B", "verdict"]
    rows = [
        [f"`{each.id}`", figure(each.a.score), figure(each.b.score), escaped(each.verdict)]
        for each in comparison.capabilities
    ]
    yield table([header, *rows])
    for each in comparison.capabilities:
        if said := list(_said(each)):
            yield "\n\n".join(
                [f"### {escaped(each.title)}", *([escaped(each.description)] if each.description else []), *said]
            )


def _said(capability: Aligned) -> Iterator[str]:
    for name, told in (("A", capability.a), ("B", capability.b)):
        if told.declared is None and not told.claims:
            if capability.has in ("a", "b"):
                yield f"**{name}** is not said to have it."
            continue
        yield "\n".join([f"**{name}.** {_declared(told)}", *[""][: bool(told.claims)], *map(claim, told.claims)])


def _declared(told: Told) -> str:
    if told.declared is None:
        return "Its card says nothing of it."
    said = told.declared
    parts = [said.description]
    parts += [f"Unique: {said.unique}"] if said.unique else []
    parts += [f"Compared to: {said.alternatives}"] if said.alternatives else []
    return escaped(" ".join(parts))


def claim(judgement: Judgement) -> str:
    """One claim as an item of a list: its status, the words, where they stand, why, what would decide it, evidence."""
    said = judgement.claim
    sources = ", ".join(
        f"[{escaped(each.title)}]({each.url})" if _is_link(each.url) else escaped(each.title)
        for each in judgement.evidence
    )
    parts = (
        f"* **{judgement.status}**: “{escaped(said.quote)}” ({escaped(f'{said.source}, {said.place}')}).",
        escaped(judgement.why),
        f"Needs: {escaped(judgement.needs)}." if judgement.needs else "",
        sources,
    )
    return " ".join(filter(None, parts))


def _is_link(url: str) -> bool:
    return re.fullmatch(r"https?://[^\s()<>\"'\\]+", url) is not None


def _beside(comparison: Comparison) -> Iterator[str]:
    yield "## Beside the score"
    rows = [["", "A", "B", "A / B", "what it is"]]
    rows += [
        [each.name, figure(each.a), figure(each.b), figure(each.ratio) if each.ratio else "", escaped(each.meaning)]
        for each in comparison.columns
    ]
    yield table(rows)


def _differences(comparison: Comparison) -> Iterator[str]:
    for who, found in (("A", comparison.only_a), ("B", comparison.only_b)):
        if found:
            yield f"## Probes that only {who} passed"
            yield "\n".join(_difference(each) for each in found)


def _difference(each: Difference) -> str:
    lines = [f"* `{_code(each.capability)}`, probe {each.probe}: {escaped(each.question)}"]
    for name, answer in (("A", each.a), ("B", each.b)):
        why = f" ({escaped(answer.why)})" if answer.why else ""
        said = escaped(answer.text) or "(empty)"
        lines.append(f"    * {name}, observation {answer.observation}, {answer.value:.2f}: {said}{why}")
    return "\n".join(lines)


def _other_claims(comparison: Comparison) -> Iterator[str]:
    """What is said of the models themselves; what is said of a capability is there."""
    shown = {each.id for each in comparison.capabilities}
    for who, said in zip("AB", comparison.claims, strict=True):
        others = [each for each in said if each.claim.capability not in shown]
        if others:
            yield f"## What is said of {who}"
            yield "\n".join(map(claim, others))


def _end(comparison: Comparison) -> Iterator[str]:
    if comparison.change.told or comparison.change.commands:
        yield "## How to change this"
        yield "\n".join(f"* {escaped(each)}" for each in comparison.change.told)
        if comparison.change.commands:
            yield "```\n" + "\n".join(_code(each) for each in comparison.change.commands) + "\n```"
    yield escaped(comparison.as_of)
