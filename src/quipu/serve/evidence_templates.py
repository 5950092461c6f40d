"""Templates as HTML and as Markdown. What they are told may be hostile: a model's name, its answer, a claim."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

UNKNOWN = "—"

_MARKDOWN = re.compile(r"([\\`*\[\]<>|~]|(?<!\w)_|_(?!\w))")


def _environment(**options: Any) -> Environment:
    made = Environment(
        loader=PackageLoader("quipu.serve", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )
    made.filters.update(_FILTERS)
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
    text = " ".join(str(value).split()) if isinstance(value, str) else str(value)
    return Markup(_MARKDOWN.sub(r"\\\1", text))


# ---- filters


def percent(share: float | None) -> str:
    """A share from 0 to 1 in per cent."""
    return UNKNOWN if share is None else f"{100 * share:.0f} %" if share in (0, 1) else f"{100 * share:.1f} %"


def points(share: float | None) -> str:
    """A share from 0 to 1 as points."""
    return UNKNOWN if share is None else f"{100 * share:.0f}"


def signed(share: float | None) -> str:
    """A difference of shares in points, with its sign."""
    return UNKNOWN if share is None else "0" if round(100 * share) == 0 else f"{100 * share:+.0f}".replace("-", "−")


def place(share: float) -> str:
    """Where a share from 0 to 1 is on a figure's axis."""
    return f"{100 * min(1.0, max(0.0, share)):.2f}%"


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


_FILTERS = {
    each.__name__: each
    for each in (percent, points, signed, place, count, probability, minutes, words, identifier, plain)
}
_HTML = _environment()
_MARKDOWN_ENVIRONMENT = _environment(finalize=as_markdown)
