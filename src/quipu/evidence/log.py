"""One entry of the log, and the chain of hashes that holds entries together."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from quipu.errors import DamagedLog, InvalidRequest

GENESIS = ""
"""What the first entry has as ``previous``."""
_HASH = r"([0-9a-f]{64})?"
FORMS = {"at": r"[0-9T:.+-]{1,40}", "kind": r"[a-z_]{1,40}", "previous": _HASH, "hash": _HASH}
"""What the fields of an exported entry look like, beside its number and its body."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. ``kind`` names a form of ``bodies``; ``at`` is UTC in ISO 8601.

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
        """What it says. Raises DamagedLog if that was altered to be no JSON object."""
        try:
            body = json.loads(self.text)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise DamagedLog(f"entry {self.number} ({self.kind} of {self.at}) was altered: it is no JSON object")
        return body

    @property
    def line(self) -> str:
        """All of it as one line of canonical JSON, for an exported log."""
        at, hashed, kind, previous = map(_json, (self.at, self.hash, self.kind, self.previous))
        return (
            f'{{"at":{at},"body":{self.text},"hash":{hashed},"kind":{kind},"number":{self.number},'
            f'"previous":{previous}}}'
        )

    @classmethod
    def of_line(cls, line: str) -> Entry:
        """What ``line`` says, which need not be true. Raises ValueError if it is no entry."""
        try:
            fields = json.loads(line)
            text = canonical(fields["body"])
            entry = cls(fields["number"], fields["at"], fields["kind"], text, fields["previous"], fields["hash"])
        except (InvalidRequest, LookupError, TypeError, RecursionError) as error:
            raise ValueError(str(error)) from None
        if len(fields) != 6 or type(entry.number) is not int:
            raise ValueError("it has other fields than an entry")
        for name, form in FORMS.items():
            given = getattr(entry, name)
            if not isinstance(given, str) or not re.fullmatch(form, given):
                raise ValueError(f"its {name} is {given!r:.80}")
        return entry


def checked(entries: Iterable[Entry], last: Entry | None = None) -> Iterator[Entry]:
    """``entries`` as they come, if each follows the one before it; the first follows ``last``. Raises DamagedLog."""
    for entry in entries:
        number = 1 if last is None else last.number + 1
        if entry.number != number:
            raise DamagedLog(f"entry {number} is missing: entry {entry.number} is in its place")
        if entry.hash != chained(entry.previous, number, entry.at, entry.kind, entry.text):
            raise DamagedLog(
                f"entry {number} ({entry.kind} of {entry.at}) was altered: its hash is not that of what it says"
            )
        if entry.previous != (GENESIS if last is None else last.hash):
            raise DamagedLog(f"entry {number} does not follow entry {number - 1}: one of them was replaced")
        yield entry
        last = entry


def canonical(value: Any) -> str:
    """``value`` as JSON in its one canonical form: sorted names, no spaces. Raises InvalidRequest for what is not JSON.

    Halves of surrogate pairs, which UTF-8 cannot carry and some endpoints send, become question marks.
    """
    try:
        return _json(value).encode(errors="replace").decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"this cannot be kept in the log: {error}") from None


def chained(previous: str, number: int, at: str, kind: str, text: str) -> str:
    """SHA-256, in hex, over the previous hash and the canonical JSON of number, at, kind and body (``text``)."""
    content = f'{previous}{{"at":{_json(at)},"body":{text},"kind":{_json(kind)},"number":{number}}}'
    return hashlib.sha256(content.encode(errors="replace")).hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
