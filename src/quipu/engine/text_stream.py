"""Token ids, one at a time -> text that may be shown now."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from quipu.errors import InvalidRequest
from quipu.model.tokenizer import Tokenizer


class TextStream:
    """Decodes one answer as it is generated, and looks for ``stop`` strings in it.

    What ``push`` and ``finish`` return, joined, is ``decode`` of all the ids up to the stop string that completes
    first (of those that complete with the same character, the longest). Half of a UTF-8 character is held back until
    the rest comes, as is text that could still become a stop string. ``skip_special`` leaves special tokens out.
    ``continues``: the answer continues a text (a raw completion) instead of starting one, so that the leading space
    of its first word is kept where a SentencePiece ``decode`` would drop it. Raises InvalidRequest for an empty stop.
    """

    def __init__(
        self, tokenizer: Tokenizer, stop: Sequence[str] = (), *, skip_special: bool = True, continues: bool = False
    ) -> None:
        if isinstance(stop, str) or not all(stop):
            raise InvalidRequest(f"stop must be a list of non-empty strings, got {stop!r:.80}", param="stop")
        self.stopped = False
        """Whether a stop string completed; nothing is emitted after that."""
        self.stop_string: str | None = None
        """The stop string that completed."""
        self._tokenizer, self._skip_special = tokenizer, skip_special
        self._drop_space = tokenizer.drops_space and not continues
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = [_StopMatcher(text) for text in stop]
        self._held = ""

    def push(self, token_id: int) -> str:
        """The text that became certain with this token, maybe none. Raises InvalidRequest for an unknown id."""
        data = self._tokenizer.token_bytes(token_id)
        if self.stopped or (self._skip_special and self._tokenizer.is_special(token_id)):
            return ""
        if self._drop_space and data:
            data, self._drop_space = data.removeprefix(b" "), False
        return self._release(self._decoder.decode(data))

    def finish(self) -> str:
        """The text held back; bytes that never became a character come out as U+FFFD. Nothing after a stop."""
        if self.stopped:
            return ""
        text = self._release(self._decoder.decode(b"", final=True))
        text, self._held = text + self._held, ""
        return text

    def _release(self, text: str) -> str:
        for count, character in enumerate(text, 1):
            matched = [stop for stop in self._stops if stop.advance(character)]
            if matched:
                self.stopped, self.stop_string = True, max((stop.text for stop in matched), key=len)
                shown = (self._held + text[:count]).removesuffix(self.stop_string)
                self._held = ""
                return shown
        self._held += text
        keep = max((stop.length for stop in self._stops), default=0)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown


class _StopMatcher:
    """Knuth-Morris-Pratt: ``length`` is how many characters of ``text`` the characters seen so far end with."""

    def __init__(self, text: str) -> None:
        self.text, self.length = text, 0
        self._fallback = [0] * len(text)
        matched = 0
        for i in range(1, len(text)):
            while matched and text[i] != text[matched]:
                matched = self._fallback[matched - 1]
            matched += text[i] == text[matched]
            self._fallback[i] = matched

    def advance(self, character: str) -> bool:
        """Take one more character; True when ``text`` is complete, after which it must not be called again."""
        while self.length and self.text[self.length] != character:
            self.length = self._fallback[self.length - 1]
        self.length += self.text[self.length] == character
        return self.length == len(self.text)
