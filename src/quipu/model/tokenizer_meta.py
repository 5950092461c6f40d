"""Meta's ``tokenizer.model`` of Llama 3 and Llama 4: lines of base64 bytes and rank, read with tiktoken."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import tiktoken

from quipu.errors import DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.tokenizer_gguf import LLAMA3_SPLIT, LLAMA4_SPLIT
from quipu.model.vocabulary import AddedToken, Vocabulary, stop_ids

Family = Literal["llama3", "llama4"]

_PIECE, _RUN = 400_000, 25_000
_RUNS = re.compile(r"\s+|\S+")


def _reserved(name: str, count: int, start: int = 0) -> list[str]:
    return [f"<|{name}reserved_special_token_{i}|>" for i in range(start, start + count)]


def _llama3_specials() -> list[str]:
    first, *others = _reserved("", 246)
    second, *others = others
    return [
        *("<|begin_of_text|>", "<|end_of_text|>", first, second, "<|finetune_right_pad_id|>", "<|step_id|>"),
        *("<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>", "<|image|>"),
        *others,
    ]


def _llama4_specials() -> list[str]:
    text, vision = "text_post_train_", "vision_"
    return [
        *("<|begin_of_text|>", "<|end_of_text|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"),
        *("<|header_start|>", "<|header_end|>", "<|eom|>", "<|eot|>", "<|step|>"),
        *_reserved(text, 6),
        *("<|python_start|>", "<|python_end|>", "<|finetune_right_pad|>"),
        *_reserved(text, 61, 8),
        *("<|image_start|>", "<|image_end|>"),
        *_reserved(vision, 2),
        *("<|tile_x_separator|>", "<|tile_y_separator|>"),
        *_reserved(vision, 4, 2),
        "<|image|>",
        *_reserved(vision, 1, 6),
        "<|patch|>",
        *_reserved(vision, 1041, 7),
        *_reserved("reasoning_", 8),
        *("<|reasoning_thinking_start|>", "<|reasoning_thinking_end|>"),
        *_reserved("", 904),
    ]


_FAMILIES = {"llama3": (LLAMA3_SPLIT, _llama3_specials), "llama4": (LLAMA4_SPLIT, _llama4_specials)}


def read_tiktoken(path: Path, family: Family = "llama3") -> Vocabulary:
    """Build from Meta's file and the special tokens of ``family``, which the file does not carry.

    Raises DamagedCheckpoint naming the line, or UnsupportedCheckpoint for a SentencePiece model or unknown family.
    """
    if family not in _FAMILIES:
        raise UnsupportedCheckpoint(f"no special tokens are known for the family {family!r}: {', '.join(_FAMILIES)}")
    split, names = _FAMILIES[family]
    ranks = _ranks(path)
    specials = {name: len(ranks) + i for i, name in enumerate(names())}
    encoding = tiktoken.Encoding(path.name, pat_str=split, mergeable_ranks=ranks, special_tokens={})
    added = {name: AddedToken(index) for name, index in specials.items()}
    pieces = {rank: piece for piece, rank in ranks.items()}
    pieces.update((index, name.encode()) for name, index in specials.items())

    def encode(text: str, continues: bool) -> list[int]:
        return [token for piece in _cut(text) for token in encoding.encode_ordinary(piece)]

    return Vocabulary(
        pieces=pieces,
        size=len(pieces),
        added=added,
        encode=encode,
        bos_id=specials["<|begin_of_text|>"],
        eos_id=specials["<|end_of_text|>"],
        eos_ids=stop_ids([], added),
        add_bos=True,
    )


def _ranks(path: Path) -> dict[bytes, int]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DamagedCheckpoint(f"{path} cannot be read: {error.strerror}") from error
    if data[:1] == b"\n" and b"<unk>" in data[:64]:  # protobuf: field 1 of a ModelProto, whose first piece is <unk>
        raise UnsupportedCheckpoint(
            f"{path} is a SentencePiece model, which quipu does not read; use the tokenizer.json of the same checkpoint"
        )
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            piece, rank = line.split()
            ranks[base64.b64decode(piece, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise DamagedCheckpoint(
                f"{path}, line {number}: {line[:40]!r} is not base64 bytes and a rank. Get the file again"
            ) from None
    if sorted(ranks.values()) != list(range(len(ranks))) or any(bytes([byte]) not in ranks for byte in range(256)):
        raise DamagedCheckpoint(
            f"{path}: the ranks do not count up from 0 without a gap, or a single byte is missing. Get the file again"
        )
    return ranks


def _cut(text: str) -> Iterator[str]:
    """Cut as Meta's tokenizer does: tiktoken fails on more, or on a longer run of (non-)whitespace.

    Pieces of 400,000 characters, and cuts after every 25,000 inside a run. Tokens never cross a cut, so this is
    part of the tokenizer's definition, not a detail.
    """
    for start in range(0, len(text), _PIECE):
        piece, done = text[start : start + _PIECE], 0
        for run in _RUNS.finditer(piece):
            for cut in range(run.start() + _RUN, run.end(), _RUN):
                yield piece[done:cut]
                done = cut
        yield piece[done:]
