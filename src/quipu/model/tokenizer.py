"""Text <-> token ids, for every way in which a Llama checkpoint carries its tokenizer."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from quipu.errors import InvalidRequest
from quipu.model.tokenizer_gguf import read_gguf
from quipu.model.tokenizer_json import read_json
from quipu.model.tokenizer_meta import Family, read_tiktoken
from quipu.model.vocabulary import Vocabulary, finder

_SPACE = re.compile(r"\s*")


class Tokenizer:
    """Immutable and safe from several threads.

    ``vocabulary``: number of ids. ``specials``: text -> id of the tokens that steer the model. ``bos_id``;
    ``eos_id``, the end that the files name first; ``eos_ids``, at which generation stops as far as the tokenizer's
    files know (a checkpoint's generation settings may name more); ``add_bos``: whether a raw
    completion prompt begins with BOS. ``drops_space``: ``decode`` drops one leading space (SentencePiece).
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._pieces, self._encode, self._added = vocabulary.pieces, vocabulary.encode, vocabulary.added
        specials = {text: token.id for text, token in self._added.items() if token.special}
        self.specials: Mapping[str, int] = MappingProxyType(specials)
        self.vocabulary = vocabulary.size
        self.bos_id, self.add_bos = vocabulary.bos_id, vocabulary.add_bos
        self.eos_id, self.eos_ids = vocabulary.eos_id, vocabulary.eos_ids
        self.drops_space = vocabulary.drops_space
        self._special_ids = frozenset(specials.values())
        # A token that takes the spaces beside it, of any number, makes every text possibly short.
        swallows = any(token.left or token.right for token in self._added.values() if not token.special)
        self._longest = sys.maxsize if swallows else max(map(len, self._pieces.values()), default=1) or 1
        self._find_ordinary = finder(text for text, token in self._added.items() if not token.special)
        self._find_added = finder(self._added)

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> Tokenizer:
        """From the key/value pairs of a GGUF file. Raises DamagedCheckpoint or UnsupportedCheckpoint."""
        return cls(read_gguf(metadata))

    @classmethod
    def from_json(cls, path: str | Path) -> Tokenizer:
        """From a Hugging Face tokenizer.json. Raises DamagedCheckpoint or UnsupportedCheckpoint."""
        return cls(read_json(Path(path)))

    @classmethod
    def from_tiktoken(cls, path: str | Path, family: Family = "llama3") -> Tokenizer:
        """From Meta's tokenizer.model of Llama 3 or 4. Raises DamagedCheckpoint or UnsupportedCheckpoint."""
        return cls(read_tiktoken(Path(path), family))

    def encode(self, text: str) -> list[int]:
        """Ids of ordinary text: what looks like a special token stays text, and no BOS is added.

        Time is linear in the text (about a second per megabyte; other threads run meanwhile). Raises
        InvalidRequest for a lone surrogate, which is not text.
        """
        return self.encode_parts(self._split(text, self._find_ordinary))

    def encode_with_specials(self, text: str) -> list[int]:
        """As ``encode``, but special tokens in the text are recognised. Not for text from a user."""
        return self.encode_parts(self.split(text))

    def split(self, text: str) -> Iterator[str | int]:
        """Cut ``text`` at its added tokens, special or not: ordinary text as str, tokens as ids, in turn."""
        return self._split(text, self._find_added)

    def encode_parts(self, parts: Iterable[str | int]) -> list[int]:
        """Join ids and ordinary texts; a text after something else is encoded as a continuation."""
        ids: list[int] = []
        for i, part in enumerate(parts):
            if isinstance(part, int):
                ids.append(part)
            elif part:
                _refuse_surrogates(part)
                ids += self._encode(part, i > 0)
        return ids

    def prompt_ids(self, text: str) -> list[int]:
        """Ids of a raw completion prompt: BOS if the checkpoint wants one, then ``encode(text)``."""
        begin = [self.bos_id] if self.add_bos and self.bos_id is not None else []
        return begin + self.encode(text)

    def decode(self, ids: Sequence[int], skip_special: bool = False) -> str:
        """Text of ``ids``; bytes that are not UTF-8 become U+FFFD. Raises InvalidRequest for an unknown id."""
        data = b"".join(self.token_bytes(i) for i in ids if not (skip_special and i in self._special_ids))
        if self.drops_space and data.startswith(b" "):
            data = data[1:]
        return data.decode("utf-8", "replace")

    def least_tokens(self, text: str) -> int:
        """A lower bound of how many tokens ``text`` is, found without tokenizing: its bytes by the longest token's."""
        size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        return -(-size // self._longest)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that one token stands for, which may be part of a character; b"" for an id without a token."""
        if not 0 <= token_id < self.vocabulary:
            raise InvalidRequest(
                f"token id {token_id} is not in the vocabulary of {self.vocabulary} tokens (0 to {self.vocabulary - 1})"
            )
        return self._pieces.get(token_id, b"")

    def token_id(self, text: str) -> int | None:
        """The id of the one token that is exactly ``text``, special or ordinary; None where there is none."""
        if text in self._added:
            return self._added[text].id
        ids = self.encode(text)
        return ids[0] if len(ids) == 1 else None

    def is_special(self, token_id: int) -> bool:
        """Whether the id steers the model (an end of turn, a header) instead of standing for text."""
        return token_id in self._special_ids

    def _split(self, text: str, find: re.Pattern[str] | None) -> Iterator[str | int]:
        done = 0
        for match in find.finditer(text) if find else ():
            token, start, end = self._added[match[0]], match.start(), match.end()
            if start < done or (token.word and not _whole_word(text, start, end)):
                continue
            before = text[done:start].rstrip() if token.left else text[done:start]
            if before:
                yield before
            yield token.id
            done = _space_end(text, end) if token.right else end
        if done < len(text):
            yield text[done:]


def _space_end(text: str, start: int) -> int:
    space = _SPACE.match(text, start)
    return space.end() if space else start


def _whole_word(text: str, start: int, end: int) -> bool:
    around = text[start - 1 : start] + text[end : end + 1]
    return not re.search(r"\w", around)


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"the text has half of a surrogate pair at character {error.start}; send valid Unicode"
        ) from None
