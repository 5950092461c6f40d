"""Reading typed values out of a mapping that someone else wrote: wrong ones are named, none is guessed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from quipu.errors import DamagedCheckpoint, UnsupportedCheckpoint


class Fields:
    """The fields of ``values``, which came from ``source`` (a file name, for messages).

    A field that is absent or null takes ``default``; without a default it is a DamagedCheckpoint, as is a value
    of the wrong type or out of bounds.
    """

    def __init__(self, values: Mapping[str, Any], source: str, prefix: str = "") -> None:
        self.values = values
        self.source = source
        self.prefix = prefix

    def get(self, name: str) -> Any:
        """The raw value; None when absent."""
        return self.values.get(self.prefix + name)

    def is_plain(self, name: str, *harmless: float) -> bool:
        """Whether a field that only foreign models use is absent, null, or one of the ``harmless`` numbers."""
        value = self.get(name)
        return value is None or (isinstance(value, int | float) and value in harmless)

    def integer(self, name: str, *, most: int, default: int | None = None) -> int:
        """A whole number from 1 to ``most``."""
        value = self.get(name) if self.get(name) is not None else default
        if value is None:
            self.damaged(name, "is missing")
        if isinstance(value, bool) or not isinstance(value, int):
            self.damaged(name, f"is {value!r:.60}, not a whole number")
        if value < 1:
            self.damaged(name, f"is {value}; it must be at least 1")
        if value > most:
            self.damaged(name, f"is {value!r:.60}; more than {most} is not plausible")
        return value

    def number(self, name: str, *, default: float | None = None) -> float:
        """A number above zero, of a size that float32 arithmetic can hold."""
        value = self.get(name) if self.get(name) is not None else default
        if value is None:
            self.damaged(name, "is missing")
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.damaged(name, f"is {value!r:.60}, not a number")
        if not 1e-12 <= value <= 1e12:
            self.damaged(name, f"is {value!r:.60}; it must be a number between 1e-12 and 1e12")
        return float(value)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """True or false."""
        value = self.get(name) if self.get(name) is not None else default
        if not isinstance(value, bool):
            self.damaged(name, f"is {value!r:.60}, neither true nor false")
        return value

    def text(self, name: str, *, default: str | None = None) -> str:
        """A string."""
        value = self.get(name) if self.get(name) is not None else default
        if value is None:
            self.damaged(name, "is missing")
        if not isinstance(value, str):
            self.damaged(name, f"is {value!r:.60}, not a string")
        return value

    def nested(self, name: str) -> Fields | None:
        """The object under ``name``, or None."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self.damaged(name, f"is {value!r:.60}, not an object")
        return Fields(value, f"{self.source}: {self.prefix}{name}")

    def damaged(self, name: str, problem: str) -> NoReturn:
        """Raise DamagedCheckpoint about one field."""
        raise DamagedCheckpoint(f"{self.source}: {self.prefix}{name} {problem}; download the file again or correct it")

    def unsupported(self, name: str, remedy: str) -> NoReturn:
        """Raise UnsupportedCheckpoint about one field and its value."""
        raise UnsupportedCheckpoint(
            f"{self.source}: {self.prefix}{name} is {self.get(name)!r:.120}, which is not supported; {remedy}"
        )
