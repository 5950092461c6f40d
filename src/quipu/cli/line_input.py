"""Lines typed at a terminal, with editing and a history that outlives the program where readline is there."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

HISTORY_LINES = 1000


def history_file() -> Path:
    """Where typed lines are kept: the user's state folder by the XDG rules."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "quipu" / "chat_history"


class LineInput:
    """Reads lines. ``trouble`` says why the history is not kept, if it is not."""

    def __init__(self, history: Path) -> None:
        self.trouble: str | None = None
        self._history = history
        self._readline = _readline()
        if self._readline is None:
            self.trouble = "this Python has no readline: no line editing, no history"
            return
        try:
            history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            history.touch(mode=0o600)
            self._readline.read_history_file(history)
            self._readline.set_history_length(HISTORY_LINES)
        except OSError as error:
            self.trouble = f"what you type is not remembered: {error}"

    def read(self, prompt: str) -> str:
        """One line; a backslash at its end continues it. Raises EOFError on Ctrl-D, KeyboardInterrupt on Ctrl-C."""
        lines = [input(prompt)]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            lines.append(input("... "))
        return "\n".join(lines)

    def close(self) -> None:
        """Keep the history. Idempotent."""
        if self.trouble is None and self._readline is not None:
            self._readline.write_history_file(self._history)


def _readline() -> ModuleType | None:
    """The module; importing it is what gives ``input`` its line editing."""
    try:
        return importlib.import_module("readline")
    except ImportError:
        return None
