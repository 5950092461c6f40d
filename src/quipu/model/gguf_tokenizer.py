"""A checkpoint's tokenizer as GGUF metadata: the reverse of ``tokenizer_gguf``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quipu.errors import DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.config import ModelConfig
from quipu.model.files import read_json
from quipu.model.folder import TokenizerSource
from quipu.model.tokenizer_gguf import (
    BYTE,
    BYTES,
    CONTROL,
    NORMAL,
    PRE_TOKENIZERS,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    merges_by_score,
)
from quipu.model.tokenizer_json import merges_of
from quipu.model.tokenizer_json import read_json as read_tokenizer_json
from quipu.model.tokenizer_meta import read_tiktoken
from quipu.model.vocabulary import BYTES_BY_CHARACTER, Vocabulary

_CHARACTERS = {byte: character for character, byte in BYTES_BY_CHARACTER.items()}
_TURN_ENDS = {"eot": ("<|eot_id|>", "<|eot|>", "<|im_end|>"), "eom": ("<|eom_id|>", "<|eom|>")}


def tokenizer_metadata(source: TokenizerSource | None, config: ModelConfig, eos_ids: Sequence[int]) -> dict[str, Any]:
    """Keys ``tokenizer.*`` for as many tokens as ``config`` has rows of its embedding.

    ``eos_ids`` end an answer, as the checkpoint's files name them. Without a tokenizer the file says that it has none.
    Raises UnsupportedCheckpoint for one that cuts text, or merges tokens, in a way that GGUF cannot say.
    """
    match source:
        case ("gguf", metadata):
            return {key: value for key, value in metadata.items() if key.startswith("tokenizer.")}
        case ("json", path):
            vocabulary, document = read_tokenizer_json(path), read_json(path)
            if document["model"].get("byte_fallback"):
                return _sentencepiece(vocabulary, document, config, eos_ids, path)
            return _byte_level(vocabulary, *_pipeline(document, path), config, eos_ids, path)
        case ("tiktoken", path):
            is_llama4 = config.architecture == "llama4"  # the file does not say
            vocabulary = read_tiktoken(path, "llama4" if is_llama4 else "llama3")
            pre = "llama4" if is_llama4 else "llama-bpe"
            return _byte_level(vocabulary, pre, _tiktoken_merges(vocabulary), config, eos_ids, path)
        case _:
            return {"tokenizer.ggml.model": "none"}


def _byte_level(
    vocabulary: Vocabulary,
    pre: str,
    merges: Iterable[tuple[str, str]],
    config: ModelConfig,
    eos_ids: Sequence[int],
    path: Path,
) -> dict[str, Any]:
    def spelled(piece: bytes) -> str:
        return "".join(_CHARACTERS[byte] for byte in piece)

    result = _tokens(vocabulary, spelled, config, path)
    result |= {"model": "gpt2", "pre": pre, "merges": [f"{left} {right}" for left, right in merges]}
    return _keys(result | _steering(vocabulary, eos_ids))


def _tokens(vocabulary: Vocabulary, spelled: Callable[[bytes], str], config: ModelConfig, path: Path) -> dict[str, Any]:
    """Text and type of every token; an id without one is padding, of which llama.cpp wants as much as is embedded."""
    if vocabulary.size > config.vocabulary:
        raise DamagedCheckpoint(
            f"{path} has {vocabulary.size} tokens and the model an embedding for {config.vocabulary}; it is the "
            "tokenizer of another model"
        )
    tokens = [f"[PAD{index}]" for index in range(config.vocabulary)]
    types = np.full(config.vocabulary, UNUSED, np.int32)
    added = {token.id: (text, CONTROL if token.special else USER_DEFINED) for text, token in vocabulary.added.items()}
    for index, piece in vocabulary.pieces.items():
        tokens[index], types[index] = added[index] if index in added else (spelled(piece), NORMAL)
    return {"tokens": tokens, "token_type": types}


def _steering(vocabulary: Vocabulary, eos_ids: Sequence[int]) -> dict[str, Any]:
    begin = {} if vocabulary.bos_id is None else {"bos_token_id": vocabulary.bos_id}
    return {"add_bos_token": vocabulary.add_bos} | begin | _ends(vocabulary, eos_ids)


def _keys(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {f"tokenizer.ggml.{key}": value for key, value in fields.items()}


def _ends(vocabulary: Vocabulary, eos_ids: Sequence[int]) -> dict[str, int]:
    """GGUF has a field each for the end of a text, of a turn and of a message with a call.

    More than three ends are Meta's stop tokens, which quipu and llama.cpp know by name wherever a vocabulary has them.
    """
    known_ends = sorted(vocabulary.eos_ids, key=lambda each: (each != vocabulary.eos_id, each))
    ends = list(eos_ids) or known_ends
    found = {}
    for kind, names in _TURN_ENDS.items():
        known = next((vocabulary.added[name].id for name in names if name in vocabulary.added), None)
        if known in ends[1:]:
            found[f"{kind}_token_id"] = known
            ends.remove(known)
    for kind in ("eos", *_TURN_ENDS):
        if ends and f"{kind}_token_id" not in found:
            found[f"{kind}_token_id"] = ends.pop(0)
    return found


# ---- tokenizer.json


def _pipeline(document: Mapping[str, Any], path: Path) -> tuple[str, Iterable[tuple[str, str]]]:
    """The name of a file's way of cutting text, and its merges."""
    model = document["model"]  # read_tokenizer_json has checked it
    cut, whole = _cuts(document.get("pre_tokenizer")), bool(model.get("ignore_merges"))
    names = [name for name, (known, ignore, _) in PRE_TOKENIZERS.items() if (_cuts(known), ignore) == (cut, whole)]
    if not names or document.get("normalizer") is not None:
        raise _unnamed(path, f"cuts text into words in a way that GGUF has no name for ({', '.join(PRE_TOKENIZERS)})")
    return names[0], merges_of(model, path)


def _unnamed(path: Path, reason: str) -> UnsupportedCheckpoint:
    return UnsupportedCheckpoint(
        f"{path} {reason}. Other programs would read other tokens out of the same text: keep the checkpoint as it is, "
        "or take away the tokenizer from a copy of its folder"
    )


def _cuts(pre_tokenizer: Any) -> list[tuple[Any, ...]] | None:
    """The steps that decide, without what makes no difference."""
    if not isinstance(pre_tokenizer, Mapping):
        return None
    found: list[tuple[Any, ...]] = []
    for step in pre_tokenizer.get("pretokenizers", [pre_tokenizer]):
        match step:
            case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}:
                found.append(("split", pattern))
            case {"type": "Digits", "individual_digits": alone}:
                found.append(("digits", alone))
            case {"type": "ByteLevel", "add_prefix_space": False}:
                found.append(("bytes", step.get("use_regex", True)))
            case _:
                return None
    return found


def _sentencepiece(
    vocabulary: Vocabulary, document: Mapping[str, Any], config: ModelConfig, eos_ids: Sequence[int], path: Path
) -> dict[str, Any]:
    """Llama 1's and 2's: GGUF has a score for each token, by which any two that make it are merged."""
    model = document["model"]
    merges = list(merges_of(model, path))
    made = list(dict.fromkeys(left + right for left, right in merges))
    order = [left + right for left, right in merges]
    scores = {text: -float(len(made)) for text in model["vocab"] if text not in vocabulary.added and text not in BYTES}
    scores |= {text: -float(rank) for rank, text in enumerate(made)}
    if order != sorted(order, key=scores.__getitem__, reverse=True) or set(merges) != set(merges_by_score(scores)):
        raise _unnamed(path, "merges tokens in an order that no scores give, which is all that GGUF has for its kind")
    texts = {index: text for text, index in model["vocab"].items()}
    result = _tokens(vocabulary, lambda piece: "", config, path)
    for index, text in texts.items():
        if text not in vocabulary.added:
            result["tokens"][index], result["token_type"][index] = text, BYTE if text in BYTES else NORMAL
    if model.get("unk_token") is not None:
        result["unknown_token_id"] = model["vocab"][model["unk_token"]]
        result["token_type"][result["unknown_token_id"]] = UNKNOWN
    result["scores"] = np.array([scores.get(text, 0.0) for text in result["tokens"]], np.float32)
    result |= {"model": "llama", "pre": "default", "add_space_prefix": _space_first(document, path)}
    return _keys(result | _steering(vocabulary, eos_ids))


def _space_first(document: Mapping[str, Any], path: Path) -> bool:
    """Whether every text gets a space before it."""
    mark = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    prepend = {"type": "Prepend", "prepend": "\u2581"}
    match document.get("normalizer"), document.get("pre_tokenizer"):
        case {"type": "Sequence", "normalizers": [first, second]}, None if (first, second) == (prepend, mark):
            return True
        case (({"type": "Sequence", "normalizers": [only]} | only), None) if only == mark:
            return False
        case None, {"type": "Metaspace", "prepend_scheme": "never", "split": False}:
            return False
    raise _unnamed(path, "puts spaces where GGUF has no way to say")


# ---- Meta's tokenizer.model


def _tiktoken_merges(vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """Every way to make a token of two, lowest rank first: tiktoken merges by the rank of what comes out.

    As transformers' converter writes them (TikTokenConverter); merged in this order, any of the ways is the right one.
    """
    special = {token.id for token in vocabulary.added.values()}
    ranks = {piece: rank for rank, piece in vocabulary.pieces.items() if rank not in special}
    merges = []
    for piece, rank in ranks.items():
        cuts = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
        merges += [(rank, ranks[left], ranks[right]) for left, right in cuts if left in ranks and right in ranks]
    merges.sort()
    spelled = {rank: "".join(_CHARACTERS[byte] for byte in piece) for piece, rank in ranks.items()}
    return [(spelled[left], spelled[right]) for _, left, right in merges]
