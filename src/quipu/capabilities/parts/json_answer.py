"""The JSON in an answer that may have words around it, as values that an output can have."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import Any

from quipu.errors import Unparsed
from quipu.types import finite, no_constant

_DECODER = json.JSONDecoder(parse_float=finite, parse_constant=no_constant)
TRIES = 20
"""Places where JSON could begin in an answer that is looked at."""


def json_in(text: str) -> tuple[int, Any]:
    """The first JSON object or list in an answer, and where it begins. Raises Unparsed."""
    for opening in islice(re.finditer(r"[{\[]", text), TRIES):
        try:
            return opening.start(), _DECODER.raw_decode(text, opening.start())[0]
        except (ValueError, RecursionError):
            continue
    raise Unparsed(f"the model's answer, {text.strip()[:80]!r}, has no JSON", text=text)


def without_halves(value: Any) -> Any:
    """JSON may have one half of a surrogate pair, which no UTF-8 has: U+FFFD instead."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {without_halves(name): without_halves(each) for name, each in value.items()}
    return [without_halves(each) for each in value] if isinstance(value, list) else value
