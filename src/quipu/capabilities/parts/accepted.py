"""Whether a call is one of those that BFCL's gold answers accept, compared as its own checker does."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

LEFT_OUT = ""
"""Among the accepted values: the argument may be left out."""


def accepted(name: str, arguments: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Whether ``name(**arguments)`` is the call ``expected``: its ``arguments`` list the accepted values of each.

    Texts are compared without case, spaces and punctuation; numbers by value, so that 5 is 5.0.
    """
    gold: Mapping[str, Sequence[Any]] = expected["arguments"]
    if name != expected["name"] or not arguments.keys() <= gold.keys():
        return False
    return all(
        any(_alike(arguments[key], value) for value in values) if key in arguments else LEFT_OUT in values
        for key, values in gold.items()
    )


def _alike(given: Any, wanted: Any) -> bool:
    if isinstance(wanted, str):
        return isinstance(given, str) and _plain(given) == _plain(wanted)
    if isinstance(wanted, bool) or isinstance(given, bool):
        return given is wanted
    if isinstance(wanted, Mapping):
        return isinstance(given, Mapping) and _members_alike(given, wanted)
    if isinstance(wanted, list):
        same_length = isinstance(given, list) and len(given) == len(wanted)
        return same_length and all(map(_alike, given, wanted))
    return bool(given == wanted)


def _members_alike(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """In an object, too, each member has a list of accepted values."""
    listed = {key: value if isinstance(value, list) else [value] for key, value in wanted.items()}
    return given.keys() <= listed.keys() and all(
        any(_alike(given[key], value) for value in values) if key in given else LEFT_OUT in values
        for key, values in listed.items()
    )


def _plain(text: str) -> str:
    return re.sub(r"[ ,./\-_*^]", "", text).lower().replace("'", '"')
