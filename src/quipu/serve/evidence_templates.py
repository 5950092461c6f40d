"""Templates as HTML and as Markdown. What they are told may be hostile: a model's name, its answer, a claim."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from quipu.evidence.alignment import Aligned
from quipu.evidence.cards import Price
from quipu.evidence.claims import Judgement, counts
from quipu.evidence.comparison_markdown import escaped
from quipu.evidence.figure import dollars
from quipu.evidence.headline import Span
from quipu.evidence.rank import Ranked

UNKNOWN = "—"

LONGEST = 120
"""Characters of a value that stands in a table of facts."""


def _environment(**options: Any) -> Environment:
    made = Environment(
        loader=PackageLoader("quipu.serve", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )
    made.filters.update({each.__name__: each for each in _FILTERS})
    return made


def render(name: str, context: Mapping[str, Any]) -> str:
    """The page of the template ``name``.html."""
    return _HTML.get_template(f"{name}.html").render(context)


def render_markdown(name: str, context: Mapping[str, Any]) -> str:
    """The text of the template ``name``.md."""
    text = _MARKDOWN_ENVIRONMENT.get_template(f"{name}.md").render(context)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def as_markdown(value: Any) -> Any:
    """``value`` on one line, so that nothing in it is Markdown or HTML; what is Markup stays as it is."""
    if isinstance(value, Markup):
        return value
    return Markup(escaped(str(value)))


# ---- filters


def percent(share: float | None) -> str:
    """A share from 0 to 1 in per cent."""
    return UNKNOWN if share is None else f"{100 * share:.0f} %" if share in (0, 1) else f"{100 * share:.1f} %"


def points(share: float | None) -> str:
    """A share from 0 to 1 as points."""
    return UNKNOWN if share is None else f"{100 * share:.0f}"


def points1(share: float) -> str:
    """A share from 0 to 1 as points, to one place."""
    return f"{100 * share:.1f}"


def chance(probability: float | None) -> str:
    """A probability from draws, which are never enough to say 0 or 1."""
    if probability is None:
        return UNKNOWN
    return (
        "over 99.9 %" if probability > 0.999 else "under 0.1 %" if probability < 0.001 else f"{100 * probability:.1f} %"
    )


def sentence(text: str) -> str:
    """``text`` with a large first letter and an end."""
    return capital(text) + ("" if text.rstrip().endswith((".", "!", "?", ":")) else ".")


def signed(share: float | None) -> str:
    """A difference of shares in points, with its sign."""
    return UNKNOWN if share is None else "0" if round(100 * share) == 0 else f"{100 * share:+.0f}".replace("-", "−")


def place(share: float) -> str:
    """Where a share from 0 to 1 is on a figure's axis."""
    return f"{100 * min(1.0, max(0.0, share)):.2f}%"


def options(text: str) -> Markup:
    """``text`` with the options of a command whole: browsers break lines between two dashes."""
    return Markup(re.sub(r"(?<!\S)--[a-z][a-z-]*", r'<span class="whole">\g<0></span>', str(escape(text))))


def count(number: float | None) -> str:
    """A whole number with its thousands apart."""
    return UNKNOWN if number is None else f"{round(number):,}"


def probability(p: float | None) -> str:
    """A p value: what is small is not written as 0."""
    return UNKNOWN if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def minutes(value: float | None) -> str:
    """A time for people."""
    if value is None:
        return UNKNOWN
    return f"{value / 60:.1f} hours" if value >= 90 else f"{math.ceil(value)} min" if value >= 1 else "under 1 min"


def words(name: str) -> str:
    """An identifier as words."""
    return name.replace("_", " ")


def identifier(uri: str) -> str:
    """``summarize`` of ``capability://summarize@2``."""
    return uri.removeprefix("capability://").partition("@")[0]


def pictures(value: Any) -> bool:
    """Whether it is pictures, as data URLs."""
    return isinstance(value, list) and bool(value) and all(str(each).startswith("data:image/") for each in value)


def plain(value: Any) -> str:
    """A value of JSON for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:,}"
    if value is None:
        return UNKNOWN
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence) and all(isinstance(each, str | int | float) for each in value):
        return ", ".join(plain(each) for each in value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping | Sequence) else str(value)


def shortened(text: str) -> str:
    """``text``, said to go on where it is cut."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def capital(text: str) -> str:
    """The first letter large, the others as they are."""
    return text[:1].upper() + text[1:]


def tokens(number: int | None) -> str:
    """A length of context."""
    return UNKNOWN if number is None else f"{number:,} tokens"


def price(given: Price) -> str:
    """US dollars per million tokens."""
    of = [(given.input, "in"), (given.output, "out")]
    return ", ".join(f"{UNKNOWN if amount is None else dollars(amount)} {way}" for amount, way in of)


def ranks(given: Ranked) -> str:
    """The interval of a rank."""
    low, high = given.rank_low, given.rank_high
    return UNKNOWN if low is None else str(low) if low == high else f"{low} to {high}"


def tally(judged: Sequence[Judgement]) -> str:
    """How many claims there are of each status, without those that there are none of."""
    return ", ".join(f"{number} {status}" for status, number in counts(tuple(judged)).items() if number)


def spans(given: Sequence[Span]) -> str:
    """Numbers of observations, as the address of their page has them."""
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in given)


def groupby_has(rows: Iterable[Aligned]) -> list[dict[str, Any]]:
    """Capabilities by who has them, in their order."""
    return [{"has": has, "rows": [*found]} for has, found in groupby(rows, lambda each: each.has)]


# ---- filters of Markdown, whose results stay as they are


def code(text: str) -> Markup:
    """A span of code on one line, that nothing in ``text`` can end; in a table, too."""
    line = " ".join(text.split())
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    space = " " if "`" in line else ""
    return Markup(f"{fence}{space}{line}{space}{fence}".replace("|", r"\|"))


def block(text: str) -> Markup:
    """A fenced block that nothing in ``text`` can end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}\n{text}\n{fence}")


def url(address: str) -> Markup:
    """The target of a link."""
    return Markup(quote(address, safe=":/?&=#%@+,;~-._"))


def part(name: str) -> Markup:
    """A name as part of a link's target: as it is, because who reads Markdown as text takes a mark for the address."""
    return Markup(quote(name, safe="/~-._"))


_FILTERS: Sequence[Callable[..., Any]] = (
    percent, points, points1, chance, sentence, signed, place, options, count, probability, minutes, words, identifier,
    pictures, plain, shortened, capital, tokens, price, ranks, tally, spans, groupby_has, code, block, url, part,
)  # fmt: skip
_HTML = _environment()
_MARKDOWN_ENVIRONMENT = _environment(finalize=as_markdown)
