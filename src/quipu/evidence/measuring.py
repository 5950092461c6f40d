"""The command that measures a model: with weights that quipu runs, or at an endpoint that serves it."""

from __future__ import annotations

from functools import cache


def measuring(name: str, capability: str | None = None) -> str:
    """The command, for the card ``name``, and for one capability if given."""
    only = f" --capability {capability}" if capability else ""
    if name in _not_run():
        return f"quipu models add HERE --of {name} --base-url URL --model THERE, then quipu measure HERE{only}"
    return f"quipu measure {name}{only}"


@cache
def _not_run() -> frozenset[str]:
    """Cards that come with quipu whose weights it does not run, or knows no file of."""
    from quipu.evidence.cards import built_in
    from quipu.model.known import known_models

    return frozenset(built_in()) - {each.name for each in known_models()}
