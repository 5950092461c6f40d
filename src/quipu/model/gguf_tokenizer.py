"""A checkpoint's tokenizer as GGUF metadata: the reverse of ``tokenizer_gguf``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quipu.errors import DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.config import ModelConfig
from quipu.model.files import read_json
from quipu.model.folder import TokenizerSource
from quipu.model.tokenizer_gguf import CONTROL, NORMAL, PRE_TOKENIZERS, UNUSED, USER_DEFINED
from quipu.model.tokenizer_json import merges_of
from quipu.model.tokenizer_json import read_json as read_tokenizer_json
from quipu.model.tokenizer_meta import read_tiktoken
from quipu.model.vocabulary import BYTES_BY_CHARACTER, Vocabulary

_CHARACTERS = {byte: character for character, byte in BYTES_BY_CHARACTER.items()}
_TURN_ENDS = {"eot": ("<|eot_id|>", "<|eot|>", "<|im_end|>"), "eom": ("<|eom_id|>", "<|eom|>")}


def tokenizer_metadata(source: TokenizerSource | None, config: ModelConfig, eos_ids: Sequence[int]) -> dict[str, Any]:
    """Keys ``tokenizer.*`` for as many tokens as ``config`` has rows of its embedding.

    ``eos_ids`` end an answer, as the checkpoint's files name them. Without a tokenizer the file says that it has none.
    Raises UnsupportedCheckpoint for one that is not byte-level BPE, or cuts text in a way that has no name in GGUF.
    """
    match source:
        case ("gguf", metadata):
            return {key: value for key, value in metadata.items() if key.startswith("tokenizer.")}
        case ("json", path):
            return _byte_level(read_tokenizer_json(path), *_pipeline(path), config, eos_ids, path)
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
    if vocabulary.size > config.vocabulary:
        raise DamagedCheckpoint(
            f"{path} has {vocabulary.size} tokens and the model an embedding for {config.vocabulary}; it is the "
            "tokenizer of another model"
        )
    tokens = [f"[PAD{index}]" for index in range(config.vocabulary)]
    types = np.full(config.vocabulary, UNUSED, np.int32)
    for index, piece in vocabulary.pieces.items():
        tokens[index], types[index] = "".join(_CHARACTERS[byte] for byte in piece), NORMAL
    for text, token in vocabulary.added.items():
        tokens[token.id], types[token.id] = text, CONTROL if token.special else USER_DEFINED
    result: dict[str, Any] = {
        "model": "gpt2",
        "pre": pre,
        "tokens": tokens,
        "token_type": types,
        "merges": [f"{left} {right}" for left, right in merges],
        "add_bos_token": vocabulary.add_bos,
    }
    if vocabulary.bos_id is not None:
        result["bos_token_id"] = vocabulary.bos_id
    result |= _ends(vocabulary, eos_ids)
    return {f"tokenizer.ggml.{key}": value for key, value in result.items()}


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


def _pipeline(path: Path) -> tuple[str, Iterable[tuple[str, str]]]:
    """The name of a file's way of cutting text, and its merges."""
    document = read_json(path)
    model = document["model"]  # read_tokenizer_json has checked it
    cut, whole = _cuts(document.get("pre_tokenizer")), bool(model.get("ignore_merges"))
    names = [name for name, (known, ignore, _) in PRE_TOKENIZERS.items() if (_cuts(known), ignore) == (cut, whole)]
    if not names or document.get("normalizer") is not None or model.get("byte_fallback"):
        raise UnsupportedCheckpoint(
            f"{path} cuts text into words in a way that GGUF has no name for; known are {', '.join(PRE_TOKENIZERS)}. "
            "Other programs would read other tokens out of the same text: keep the checkpoint as it is, or take away "
            "the tokenizer from a copy of its folder"
        )
    return names[0], merges_of(model, path)


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
