"""What a checkpoint's tokenizer files say, in one form: bytes of every token, added tokens, stops, and an encoder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from quipu.errors import DamagedCheckpoint

MAX_ADDED_TOKEN = 128
"""Most characters of an added token; the longest of a published Llama checkpoint has 45."""

STOP_NAMES = ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>", "<|eom|>", "<|eot|>")
"""Tokens at which Meta's Llama 3 and Llama 4 stop, wherever a vocabulary has them: files often name only one."""

_Tree: TypeAlias = "dict[str, _Tree]"  # character -> what may follow; "" -> a text ends here

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token found in the text before the model sees it; fields as in a Hugging Face tokenizer.json.

    ``special`` tokens steer the model and are recognised only where a caller says so; others are found in any
    text. ``left`` and ``right``: the token swallows the whitespace on that side. ``word``: it matches only as a
    whole word.
    """

    id: int
    special: bool = True
    left: bool = False
    right: bool = False
    word: bool = False


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """``pieces``: the bytes of each token by id. ``size``: largest id + 1; an id between may have no piece.

    ``encode(text, continues)`` turns ordinary text into ids; ``continues`` says that something stands before it.
    ``eos_id`` is the end that the files name first, ``eos_ids`` all of them. ``drops_space``: decoding drops one
    leading space (SentencePiece puts it there when encoding).
    """

    pieces: Mapping[int, bytes]
    size: int
    added: Mapping[str, AddedToken]
    encode: Callable[[str, bool], list[int]]
    bos_id: int | None
    eos_id: int | None
    eos_ids: frozenset[int]
    add_bos: bool
    drops_space: bool = False


def _bytes_by_character() -> dict[str, int]:
    """GPT-2's printable spelling of bytes: printable Latin-1 stands for itself, the other 68 follow U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


BYTES_BY_CHARACTER = _bytes_by_character()


def byte_level_bytes(token: str) -> bytes:
    """Bytes of a token in GPT-2's spelling; one with a character outside it (a padding token) is plain text."""
    try:
        return bytes(map(BYTES_BY_CHARACTER.__getitem__, token))
    except KeyError:
        return token.encode("utf-8", "replace")


def sentencepiece_bytes(token: str) -> bytes:
    """Bytes of a SentencePiece token: ``<0x0A>`` is that byte, the word marker U+2581 a space."""
    byte = _BYTE_TOKEN.fullmatch(token)
    if byte:
        return bytes([int(byte[1], 16)])
    return token.replace("\u2581", " ").encode("utf-8", "replace")


def stop_ids(named: Iterable[int | None], added: Mapping[str, AddedToken]) -> frozenset[int]:
    """The ids at which generation stops: those the files name, and Meta's stop tokens where they exist."""
    known = {added[name].id for name in STOP_NAMES if name in added}
    return frozenset(known | {token for token in named if token is not None})


def finder(texts: Iterable[str]) -> re.Pattern[str] | None:
    """A pattern that finds the longest of ``texts`` at each place, None for none.

    The texts become a tree of shared beginnings, so that 2,048 special tokens cost about as much to look for as
    one. Raises DamagedCheckpoint for an empty or absurdly long text.
    """
    tree: _Tree = {}
    for text in texts:
        if not text or len(text) > MAX_ADDED_TOKEN:
            raise DamagedCheckpoint(
                f"the tokenizer declares an added token of {len(text)} characters ({text[:20]!r}...); "
                f"it must have 1 to {MAX_ADDED_TOKEN}. Get the file again"
            )
        node = tree
        for character in text:
            node = node.setdefault(character, {})
        node[""] = {}
    return re.compile(_alternatives(tree)) if tree else None


def _alternatives(node: _Tree) -> str:
    branches = []
    for character, child in node.items():
        literal = re.escape(character)
        while len(child) == 1 and "" not in child:
            [(character, child)] = child.items()
            literal += re.escape(character)
        if character:
            branches.append(literal + (_alternatives(child) if child.keys() != {""} else ""))
    if not branches:
        return ""
    body = branches[0] if len(branches) == 1 and "" not in node else f"(?:{'|'.join(branches)})"
    return body + ("?" if "" in node else "")
