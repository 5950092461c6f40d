"""JSON as chat templates write it: transformers' ``tojson``, within limits."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from jinja2.exceptions import SecurityError

_MOST_INDENT = 100


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
    *,
    spend: Callable[[int], None],
) -> str:
    """Plain JSON, no HTML escapes. Private-use characters are never escaped, because ``Shield`` stands them in for
    others and must find them again.

    ``spend`` is told the size of each piece, and may raise. Raises SecurityError for a huge indent or separator.
    """
    widths = [indent if isinstance(indent, int) else len(indent or ""), *(len(text) for text in separators or ())]
    if max(widths) > _MOST_INDENT:
        raise SecurityError(f"tojson indents and separates by at most {_MOST_INDENT} characters")
    pieces = []
    encoder = json.JSONEncoder(ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys)
    for piece in encoder.iterencode(value):
        spend(len(piece))
        pieces.append(piece)
    text = "".join(pieces)
    if not ensure_ascii:
        return text
    spend(6 * len(text))
    return re.sub("[^\x00-\x7f\ue000-\uf8ff\U000f0000-\U0010ffff]", lambda match: json.dumps(match[0])[1:-1], text)
