"""A comparison as one HTML file that needs nothing beside it: no script, no font, no other file."""

from __future__ import annotations

import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from quipu.evidence.alignment import kind
from quipu.evidence.claims import counts
from quipu.evidence.comparison import Comparison
from quipu.evidence.side import names

STATUSES = ("contradicted", "verified", "unmeasured")
"""In the order in which claims are shown: what is wrong first."""


def html(comparison: Comparison) -> str:
    """The page. Whatever a label, a card or a model says is text in it."""
    first, second = names(comparison.a, comparison.b)
    shown = {each.id for each in comparison.capabilities}
    return _template().render(
        comparison=comparison,
        names={"a": first, "b": second},
        others={
            letter: [each for each in said if each.claim.capability not in shown]
            for letter, said in zip("ab", comparison.claims, strict=True)
        },
        counts={letter: counts(said) for letter, said in zip("ab", comparison.claims, strict=True)},
        statuses=STATUSES,
        kind=lambda compared: kind(compared, (first, second)),
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("quipu.evidence"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.tests["link"] = _is_link
    return environment.get_template("comparison.html")


def _is_link(url: str) -> bool:
    """Whether ``url`` leads to a page and nowhere else: a card's source is whatever its writer put there."""
    return re.fullmatch(r"https?://\S+", url) is not None
