"""A page before it is one: its template, and what that is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from quipu.errors import InvalidRequest, did_you_mean
from quipu.evidence.side import Side
from quipu.evidence.snapshot import Snapshot
from quipu.serve.evidence import Moment

Asked = Mapping[str, str]
"""What follows the question mark of an address."""


@dataclass(frozen=True, slots=True)
class View:
    """A page's template and what it is told. ``json``: where the API has the same."""

    template: str
    title: str
    told: Mapping[str, Any]
    json: str | None = None
    snapshot: Snapshot | None = None


def only(asked: Asked, *known: str) -> None:
    """Raise InvalidRequest for what a page does not know, with the nearest that it does."""
    for name in asked:
        if name not in known:
            hint = did_you_mean(name, known, f"known: {', '.join(known)}" if known else "it takes none")
            raise InvalidRequest(f"unknown parameter {name[:80]!r}; {hint}", param=name[:80])


def asked(request: Request) -> dict[str, str]:
    """What follows the question mark. Raises InvalidRequest for a name that is there twice."""
    given = request.query_params
    for name in given:
        if len(given.getlist(name)) > 1:
            raise InvalidRequest(f"{name[:80]} is given more than once", param=name[:80])
    return dict(given)


def by_config(moment: Moment) -> dict[str, Side]:
    """Every measured side by its config's id."""
    return {each.config.id: each for each in moment.sides if each.config is not None}


def named(moment: Moment) -> list[dict[str, str]]:
    """Every side by its name and its address."""
    return [{"name": called(moment, each), "address": moment.address(each)} for each in moment.sides]


def called(moment: Moment, side: Side) -> str:
    """A title that tells a side from others of the same model."""
    same = sum(each.title == side.title for each in moment.sides)
    return (
        side.title if same == 1 or side.config is None else f"{side.title} ({side.quantization}, {side.config.id[:6]})"
    )
