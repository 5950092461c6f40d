"""Typed values out of TOML that someone wrote by hand, with errors that say file and key; and TOML written back."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from typing import Any

from quipu.errors import InvalidConfiguration, did_you_mean


def parsed(content: str, where: str) -> dict[str, Any]:
    """The whole file. Raises InvalidConfiguration for what is no TOML; ``where`` is said in errors."""
    try:
        return tomllib.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidConfiguration(f"{where} is not TOML: {error}") from None


def check_keys(values: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Raise InvalidConfiguration for a key that means nothing, with the nearest that does."""
    for key in values:
        if key not in known:
            hint = did_you_mean(key[:80], known, f"known: {', '.join(known)}")
            raise InvalidConfiguration(f"{where}: unknown key {key[:80]!r}; {hint}")


def table(value: Any, where: str) -> dict[str, Any]:
    """``value`` if it is a table. Raises InvalidConfiguration."""
    if not isinstance(value, dict):
        raise InvalidConfiguration(f"{where} must be a table, got {value!r:.80}")
    return value


def text(values: Mapping[str, Any], name: str, where: str, *, needed: bool = False) -> str:
    """The text under ``name``, empty where there is none. Raises InvalidConfiguration."""
    value = values.get(name, "")
    if not isinstance(value, str) or (needed and not value.strip()):
        raise InvalidConfiguration(f"{where}: {name} must be text, got {value!r:.80}")
    return value


def listed(values: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    """The list of texts under ``name``, empty where there is none. Raises InvalidConfiguration."""
    value = values.get(name, [])
    if not isinstance(value, list) or not all(isinstance(each, str) and each.strip() for each in value):
        raise InvalidConfiguration(f"{where}: {name} must be a list of texts, got {value!r:.80}")
    return tuple(value)


def written(values: Mapping[str, Any]) -> str:
    """``values`` as TOML: texts and numbers, then tables of them; what is None is left out."""
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    return (
        "\n".join([*_lines(plain), *(line for key in tables for line in ("", f"[{key}]", *_lines(tables[key])))]) + "\n"
    )


def _lines(values: Mapping[str, Any]) -> list[str]:
    given = {name: value for name, value in values.items() if value is not None}
    return [f"{name} = {_quoted(value) if isinstance(value, str) else repr(value)}" for name, value in given.items()]


def _quoted(content: str) -> str:
    """A basic string of TOML 1.0, in which a quotation mark, a backslash and control characters are escaped."""
    escapes = {"\\": "\\\\", '"': '\\"'} | {chr(code): f"\\u{code:04X}" for code in (*range(32), 127)}
    return '"' + "".join(escapes.get(each, each) for each in content) + '"'
