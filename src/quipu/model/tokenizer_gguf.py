"""The tokenizer that a GGUF file carries in its metadata (keys ``tokenizer.ggml.*``)."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from quipu.errors import DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.byte_pair import BytePairEncoder, backend, byte_pair_model
from quipu.model.vocabulary import AddedToken, Vocabulary, byte_level_bytes, sentencepiece_bytes, stop_ids

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA4_SPLIT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def _split(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, _GPT2 | {"use_regex": False}]}


_SMOLLM = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, _GPT2]}

# ``tokenizer.ggml.pre`` -> how text is cut before merging, whether a piece that is itself a token is taken whole
# (Meta's tokenizers do so), and whether BOS is added when the file does not say (as llama.cpp does).
PRE_TOKENIZERS: dict[str, tuple[dict[str, Any], bool, bool]] = {
    "llama-bpe": (_split(LLAMA3_SPLIT), True, True),
    "llama3": (_split(LLAMA3_SPLIT), True, True),
    "llama-v3": (_split(LLAMA3_SPLIT), True, True),
    "llama4": (_split(LLAMA4_SPLIT), True, False),
    "smollm": (_SMOLLM, False, False),
    "gpt-2": (_GPT2, False, False),
    "default": (_GPT2, False, False),
}

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
BYTES = frozenset(f"<0x{byte:02X}>" for byte in range(256))
_MAX_PIECE = 1024
_STOPS = ("eos", "eot", "eom")


def read_gguf(metadata: Mapping[str, Any]) -> Vocabulary:
    """Build from GGUF key/value pairs. Raises DamagedCheckpoint, or UnsupportedCheckpoint naming what is unknown."""
    model = metadata.get("tokenizer.ggml.model")
    if model is None:
        raise DamagedCheckpoint("this GGUF carries no tokenizer (no tokenizer.ggml.model); convert the model again")
    if not isinstance(model, str):
        raise DamagedCheckpoint(f"tokenizer.ggml.model is {model!r:.80}, not a string; convert the model again")
    if model == "gpt2":
        return _byte_level(metadata)
    if model == "llama":
        return _sentencepiece(metadata)
    raise UnsupportedCheckpoint(f"tokenizer.ggml.model is {model!r}; quipu reads 'gpt2' (byte-level BPE) and 'llama'")


def _byte_level(metadata: Mapping[str, Any]) -> Vocabulary:
    tokens, added = _tokens(metadata)
    pre = metadata.get("tokenizer.ggml.pre", "default")
    if not isinstance(pre, str) or pre not in PRE_TOKENIZERS:
        raise UnsupportedCheckpoint(f"tokenizer.ggml.pre is {pre!r:.80}; quipu knows {', '.join(PRE_TOKENIZERS)}")
    pre_tokenizer, ignore_merges, add_bos = PRE_TOKENIZERS[pre]
    merges = []
    for text in _texts(metadata, "merges"):
        left, space, right = text.partition(" ")
        if not space or not left or not right or " " in right:
            raise DamagedCheckpoint(f"tokenizer.ggml.merges holds {text[:80]!r}, which is not two tokens and a space")
        merges.append((left, right))
    special = {text for text, token in added.items() if token.special}
    model = byte_pair_model(_ids(tokens), merges, special, ignore_merges=ignore_merges)
    pieces = {i: text.encode("utf-8", "replace") if text in added else byte_level_bytes(text) for i, text in tokens}
    return Vocabulary(
        pieces=pieces,
        encode=BytePairEncoder(backend(model, None, pre_tokenizer)),
        **_common(metadata, len(tokens), added, add_bos),
    )


def _sentencepiece(metadata: Mapping[str, Any]) -> Vocabulary:
    """Tokens with scores; as in SentencePiece the pair whose joined piece scores highest is merged first."""
    tokens, added = _tokens(metadata)
    types = _numbers(metadata, "token_type", len(tokens)) or [NORMAL] * len(tokens)
    scores = _numbers(metadata, "scores", len(tokens))
    if scores is None:
        raise DamagedCheckpoint("tokenizer.ggml.scores is missing; a 'llama' tokenizer needs a score for each token")
    special = {text for text, token in added.items() if token.special}
    normal = {text: scores[i] for i, text in tokens if types[i] == NORMAL and text not in BYTES | special}
    unknown = _token_id(metadata, "unknown", len(tokens))
    model = byte_pair_model(
        _ids(tokens),
        merges_by_score(normal),
        special,
        unknown=None if unknown is None else tokens[unknown][1],
        byte_fallback=True,
        fuse_unk=True,
    )
    prefix = _flag(metadata, "add_space_prefix", True)
    marker = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    prepend = {"type": "Prepend", "prepend": "\u2581"}
    normalizer = {"type": "Sequence", "normalizers": [prepend, marker]} if prefix else marker
    pieces = {i: text.encode("utf-8", "replace") if text in added else sentencepiece_bytes(text) for i, text in tokens}
    return Vocabulary(
        pieces=pieces,
        encode=BytePairEncoder(backend(model, normalizer, None)),
        drops_space=prefix,
        **_common(metadata, len(tokens), added, True),
    )


def merges_by_score(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """Every way to make a token of two, best score first; equal scores: the longer left half first."""
    found = []
    for text, score in scores.items():
        if len(text) > _MAX_PIECE:
            raise DamagedCheckpoint(f"tokenizer.ggml.tokens holds a token of {len(text)} characters ({text[:20]!r}...)")
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in scores and right in scores:
                found.append((-score, -cut, cut - len(text), left, right))
    found.sort(key=lambda merge: merge[:3])
    return [(left, right) for *_, left, right in found]


def _common(metadata: Mapping[str, Any], size: int, added: Mapping[str, AddedToken], add_bos: bool) -> dict[str, Any]:
    bos_id = _token_id(metadata, "bos", size)
    add_bos = _flag(metadata, "add_bos_token", add_bos and bos_id is not None)
    if add_bos and bos_id is None:
        raise DamagedCheckpoint("tokenizer.ggml.add_bos_token is true but there is no tokenizer.ggml.bos_token_id")
    named = [_token_id(metadata, name, size) for name in _STOPS]
    stops = stop_ids(named, added)
    return {
        "size": size,
        "added": added,
        "bos_id": bos_id,
        "eos_id": named[0],
        "eos_ids": stops,
        "add_bos": add_bos,
    }


def _tokens(metadata: Mapping[str, Any]) -> tuple[list[tuple[int, str]], dict[str, AddedToken]]:
    """(id, text) of every token, and the control and user-defined ones by text."""
    texts = _texts(metadata, "tokens")
    if not texts:
        raise DamagedCheckpoint("tokenizer.ggml.tokens is empty; convert the model again")
    types = _numbers(metadata, "token_type", len(texts))
    if types is None:
        named = {_token_id(metadata, name, len(texts)) for name in ("bos", *_STOPS)}
        return list(enumerate(texts)), {texts[i]: AddedToken(i) for i in named if i is not None}
    special = {float(UNKNOWN): True, float(CONTROL): True, float(USER_DEFINED): False}
    kinds = [(text, i, special.get(types[i])) for i, text in enumerate(texts)]
    added = {text: AddedToken(i, kind) for text, i, kind in kinds if kind is not None}
    return list(enumerate(texts)), added


def _ids(tokens: Sequence[tuple[int, str]]) -> dict[str, int]:
    """Text -> id; of tokens spelled alike the first is the one that text becomes."""
    return {text: i for i, text in reversed(tokens)}


def _texts(metadata: Mapping[str, Any], name: str) -> list[str]:
    key = f"tokenizer.ggml.{name}"
    value = metadata.get(key)
    if value is None or isinstance(value, str | bytes) or not hasattr(value, "__len__"):
        raise DamagedCheckpoint(f"{key} is missing or not a list of strings; convert the model again")
    texts = list(value)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise DamagedCheckpoint(f"{key}[{i}] is not a string but {type(text).__name__}; convert the model again")
    return texts


def _numbers(metadata: Mapping[str, Any], name: str, count: int) -> list[float] | None:
    key = f"tokenizer.ggml.{name}"
    value = metadata.get(key)
    if value is None:
        return None
    try:
        numbers = [float(number) for number in value]
    except (TypeError, ValueError):
        raise DamagedCheckpoint(f"{key} is not a list of numbers; convert the model again") from None
    if len(numbers) != count:
        raise DamagedCheckpoint(f"{key} has {len(numbers)} entries for {count} tokens; convert the model again")
    if not all(map(math.isfinite, numbers)):
        raise DamagedCheckpoint(f"{key} holds a number that is not finite; convert the model again")
    return numbers


def _token_id(metadata: Mapping[str, Any], name: str, size: int) -> int | None:
    key = f"tokenizer.ggml.{name}_token_id"
    value = metadata.get(key)
    if value is None:
        return None
    try:
        index = operator.index(value)
    except TypeError:
        raise DamagedCheckpoint(f"{key} is {value!r:.40}, not a whole number; convert the model again") from None
    if not 0 <= index < size:
        raise DamagedCheckpoint(f"{key} is {index}, but the vocabulary has {size} tokens; convert the model again")
    return index


def _flag(metadata: Mapping[str, Any], name: str, default: bool) -> bool:
    value = metadata.get(f"tokenizer.ggml.{name}", default)
    if not isinstance(value, bool):
        raise DamagedCheckpoint(f"tokenizer.ggml.{name} is {value!r:.40}, not true or false; convert the model again")
    return value
