"""Arguments of a call that a model wrote in Python -> JSON values, with Python's own parser and without running any."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from quipu.types import finite

ESCAPES = frozenset("\\'\"abfnrtvxuUN01234567\n")
"""What may follow a backslash in Python; before anything else the backslash would stand for itself, with a warning."""


class _NotJSONError(ValueError):
    """An expression that is no literal, or one that JSON lacks."""


def keyword_arguments(source: str) -> dict[str, Any] | None:
    """What ``f(source)`` passes by name; None if it is not a call with keyword arguments that JSON can say.

    Constants may be spelled as in JSON, too (``true``, ``"\\/"``, a line break in a string). Never raises.
    """
    source = re.sub(r"\\(.)", _escape, source, flags=re.DOTALL)
    for text in (source, source.replace("\n", "\\n")):
        try:
            call = ast.parse(f"f({text}\n)", mode="eval").body
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
                return None
            pairs = [pair for word in call.keywords for pair in _passed(word)]
            arguments = dict(pairs)
            json.dumps(arguments)  # an integer may have too many digits
        except SyntaxError:
            continue
        except (ValueError, TypeError, RecursionError, MemoryError):
            return None  # the parser's own ways of saying no, and ours
        return arguments if len(arguments) == len(pairs) else None
    return None


def _escape(match: re.Match[str]) -> str:
    if match[1] in ESCAPES:
        return match[0]
    return "/" if match[1] == "/" else "\\\\" + match[1]


def _passed(word: ast.keyword) -> list[tuple[str, Any]]:
    if word.arg is not None:
        return [(word.arg, _value(word.value))]
    unpacked = _value(word.value)  # **{"any name": ...}
    if not isinstance(unpacked, dict):
        raise _NotJSONError
    return list(unpacked.items())


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=str(text)):
            return _paired(text)
        case ast.Constant(value=bool() | int() | None as value):
            return value
        case ast.Constant(value=float(number)):
            return finite(number)
        case ast.Name(id="true" | "false" | "null" as name):
            return {"true": True, "false": False, "null": None}[name]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=ast.Constant(value=int() | float() as number)):
            if isinstance(number, bool):
                raise _NotJSONError
            number = finite(number) if isinstance(number, float) else number
            return -number if isinstance(sign, ast.USub) else number
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return [_value(element) for element in elements]
        case ast.Dict(keys=keys, values=values):
            return {_key(key): _value(value) for key, value in zip(keys, values, strict=True)}
    raise _NotJSONError


def _key(node: ast.expr | None) -> str:
    key = None if node is None else _value(node)
    if not isinstance(key, str):
        raise _NotJSONError
    return key


def _paired(text: str) -> str:
    """Two escapes of UTF-16 are one character, as in JSON; half of one, which no text can hold, becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
