"""One entry of the log, and the chain of hashes that holds entries together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quipu.errors import InvalidRequest

GENESIS = ""
"""What the first entry has as ``previous``."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. ``kind`` is config, probe_set, run, observation or round; ``at`` is UTC in ISO 8601.

    ``text`` is the body as canonical JSON, which is what is kept and hashed.
    """

    number: int
    at: str
    kind: str
    text: str
    previous: str
    hash: str

    @classmethod
    def following(cls, last: Entry | None, at: str, kind: str, text: str) -> Entry:
        """The entry after ``last``; None: the first one."""
        number, previous = (1, GENESIS) if last is None else (last.number + 1, last.hash)
        return cls(number, at, kind, text, previous, chained(previous, number, at, kind, text))

    @property
    def body(self) -> dict[str, Any]:
        """What it says."""
        body: dict[str, Any] = json.loads(self.text)
        return body


def canonical(value: Mapping[str, Any]) -> str:
    """``value`` as JSON in its one canonical form: sorted names, no spaces. Raises InvalidRequest for what is not JSON.

    Halves of surrogate pairs, which UTF-8 cannot carry and some endpoints send, become question marks.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"this cannot be kept in the log: {error}") from None
    return text.encode(errors="replace").decode()


def chained(previous: str, number: int, at: str, kind: str, text: str) -> str:
    """SHA-256 over the previous hash and the canonical JSON of number, at, kind and body, in hex."""
    head = f'{previous}{{"at":{json.dumps(at)},"body":'
    return hashlib.sha256(f'{head}{text},"kind":{json.dumps(kind)},"number":{number}}}'.encode()).hexdigest()
