"""Text of a model, as it comes -> what it says, and the calls in it."""

from __future__ import annotations

from collections.abc import Callable, Collection

import regex

from quipu.tools.literals import keyword_arguments
from quipu.tools.written import JSON_OPENING, PYTHON_OPENING, SPACE, json_text
from quipu.types import ToolCall, ToolCallDelta, joined_calls, json_object

Piece = str | ToolCallDelta
"""A piece of text, or of a call."""

DEEPEST = 100
"""Brackets of arguments in each other; a model that goes on opening them writes no call."""
MOST_SPACE = 64
"""Characters of white space in a row around the signs of a call. What has more is text: it is read as it comes, and
must not be looked at again with each space for what it may become."""
_ANY_NAME = r"[a-zA-Z_][\w.-]{0,127}"
_PIECES = {"json": regex.compile(r'["\\{}\[\]]'), "python": regex.compile(r"""["'\\{}\[\]()]""")}
_OPENING = regex.compile(r"[{\[]")
_CLOSES = {")": "(", "]": "[", "}": "{"}


def _compiled(pattern: str) -> regex.Pattern[str]:
    return regex.compile(pattern.replace(SPACE, rf"[ \t\r\n]{{0,{MOST_SPACE}}}"))


_END = _compiled(rf"{SPACE}\}}")


class CallReader:
    """Tells text from calls: ``{"name": ..., "parameters": {...}}`` and ``[name(key=value, ...), ...]``.

    Both may follow text, and one another; what only begins like a call, and turns out to be none, is text. ``names``
    are the tools there are; None takes any name. Joined, what ``push`` and ``finish`` return does not depend on how
    the text was cut. ``eager`` hands the arguments of a JSON call on as they come, and each call of a list before the
    list ends, for answers that are kept to a grammar: what is handed on cannot turn out to be text any more.
    Never raises, and takes time in proportion to the text.
    """

    def __init__(self, names: Collection[str] | None = None, *, eager: bool = False) -> None:
        name = _ANY_NAME if names is None else "|".join(map(regex.escape, names)) or "(?!)"
        quoted = r'[^"\\]{1,128}' if names is None else name
        self._opens = _compiled(
            rf'(?:\[{SPACE})?{JSON_OPENING}(?P<json>{quoted})"{SPACE},{SPACE}"(?:parameters|arguments)"{SPACE}:{SPACE}\{{'
            rf"|{PYTHON_OPENING}(?P<python>{name})\("
        )
        self._goes_on = _compiled(rf"{SPACE},{SPACE}(?P<python>{name})\(|{SPACE}(?P<end>\])")
        self._eager = eager
        self._text = ""
        """What is not used up yet."""
        self._state: Callable[[], bool] = self._prose
        self._final = False
        self._raw = ""
        """The group of calls that is being read, as it stands; it is text if it does not end as one."""
        self._held: list[ToolCallDelta] = []
        """Calls of that group."""
        self._out: list[Piece] = []
        self._count = 0
        self._name = ""
        self._arguments = ""
        self._brackets: list[str] = []
        self._quote = ""
        self._escaped = False

    def push(self, text: str) -> list[Piece]:
        """Take more text; returns what became certain."""
        self._text += text
        while self._state():
            pass
        out, self._out = self._out, []
        return out

    def finish(self) -> list[Piece]:
        """The text is over; returns what was held back."""
        self._final = True
        return self.push("")

    # Each state uses up text, and says whether there is more to do.

    def _prose(self) -> bool:
        at = 0
        while bracket := _OPENING.search(self._text, at):
            at = bracket.start()
            found = self._opens.match(self._text, at, partial=True)
            if found is not None and found.partial and not self._final:
                break
            if found is not None and not found.partial:
                said = self._text[: _before_space(self._text, at)]
                self._say(said)
                self._raw = self._text[len(said) : found.end()]
                self._text = self._text[found.end() :]
                self._begin(found)
                return True
            at += 1
        end = len(self._text) if bracket is None else at
        if not self._final:  # space before a call is no text
            end = _before_space(self._text, end)
        self._say(self._text[:end])
        self._text = self._text[end:]
        return False

    def _begin(self, found: regex.Match[str]) -> None:
        groups = found.groupdict()
        self._name = groups.get("json") or groups["python"]
        self._brackets, self._quote, self._escaped = ["{" if groups.get("json") else "("], "", False
        self._arguments = "{" if groups.get("json") else ""
        self._state = self._json_arguments if groups.get("json") else self._python_arguments
        if self._eager and groups.get("json"):
            self._raw = ""
            self._out.append(self._delta("{"))
            self._count += 1

    def _json_arguments(self) -> bool:
        inside, done = self._inside("json")
        if self._eager:
            if inside:
                self._out.append(ToolCallDelta(self._count - 1, inside))
        else:
            self._arguments += inside
            self._raw += inside
        if done is None:
            return self._ended()
        self._state = self._json_end
        return True if done else self._failed()

    def _json_end(self) -> bool:
        return self._past(_END, self._end_json)

    def _end_json(self, _: regex.Match[str]) -> bool:
        if not self._eager:
            if json_object(self._arguments) is None:
                return self._failed()
            self._held = [self._delta(self._arguments)]
            self._count += 1
            self._hand_on()
        self._state = self._between
        return True

    def _python_arguments(self) -> bool:
        inside, done = self._inside("python")
        self._arguments += inside
        self._raw += inside
        if done is None:
            return self._ended()
        arguments = keyword_arguments(self._arguments[:-1]) if done else None
        if arguments is None:
            return self._failed()
        self._held.append(self._delta(json_text(arguments)))
        self._count += 1
        if self._eager:
            self._hand_on()
        self._state = self._python_next
        return True

    def _python_next(self) -> bool:
        return self._past(self._goes_on, self._next_python)

    def _next_python(self, found: regex.Match[str]) -> bool:
        if found["end"] is None:
            self._begin(found)
        else:
            self._hand_on()
            self._state = self._between
        return True

    def _past(self, pattern: regex.Pattern[str], then: Callable[[regex.Match[str]], bool]) -> bool:
        """Go on past what ``pattern`` matches, with ``then``; False while more text decides whether it does."""
        found = pattern.match(self._text, partial=True)
        if found is not None and found.partial and not self._final:
            return False
        if found is None or found.partial:
            return self._failed()
        self._raw += found[0]
        self._text = self._text[found.end() :]
        return then(found)

    def _between(self) -> bool:
        """After a call: what separates it from the next is no text."""
        self._text = self._text.lstrip(" \t\r\n;,]")
        if not self._text:
            return False
        self._state = self._prose
        return True

    def _inside(self, language: str) -> tuple[str, bool | None]:
        """The text up to the bracket that closes the arguments; whether that came, cannot come, or may yet (None)."""
        at = 0
        while True:
            if self._escaped and at < len(self._text):
                self._escaped, at = False, at + 1
            found = _PIECES[language].search(self._text, at)
            if found is None:
                return self._used(len(self._text)), None
            at, mark = found.end(), found[0]
            if self._quote:
                self._escaped = mark == "\\"
                self._quote = "" if mark == self._quote else self._quote
            elif mark in "\"'":
                self._quote = mark
            elif mark in "([{" and len(self._brackets) < DEEPEST:
                self._brackets.append(mark)
            elif mark in _CLOSES and self._brackets[-1] == _CLOSES[mark]:
                self._brackets.pop()
                if not self._brackets:
                    return self._used(at), True
            else:
                return self._used(at - 1), False

    def _used(self, end: int) -> str:
        used, self._text = self._text[:end], self._text[end:]
        return used

    def _ended(self) -> bool:
        """No more text can be used now: at the end of all, the call was none."""
        return self._failed() if self._final else False

    def _failed(self) -> bool:
        """It was no call: what there is of it is text, and reading goes on after it."""
        self._count -= len(self._held)
        self._held = []
        self._say(self._raw)
        self._raw = ""
        self._state = self._prose
        return True

    def _hand_on(self) -> None:
        self._out += self._held
        self._held, self._raw = [], ""

    def _delta(self, arguments: str) -> ToolCallDelta:
        return ToolCallDelta(self._count, arguments, self._name)

    def _say(self, text: str) -> None:
        if text:
            self._out.append(text)


def _before_space(text: str, end: int) -> int:
    """Where the white space before ``end`` begins, of which a call may have so much before it."""
    return max(len(text[:end].rstrip()), end - MOST_SPACE)


def read(text: str, names: Collection[str] | None = None) -> tuple[str, tuple[ToolCall, ...]]:
    """What ``text`` says beside its calls, and the calls. Never raises."""
    reader = CallReader(names)
    pieces = [*reader.push(text), *reader.finish()]
    calls = [piece for piece in pieces if isinstance(piece, ToolCallDelta)]
    said = "".join(piece for piece in pieces if isinstance(piece, str))
    return said, joined_calls(calls)
