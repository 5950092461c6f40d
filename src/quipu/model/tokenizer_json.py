"""A Hugging Face ``tokenizer.json``, with the ``tokenizer_config.json`` beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from quipu.errors import DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.byte_pair import BytePairEncoder, backend, byte_pair_model
from quipu.model.vocabulary import AddedToken, Vocabulary, byte_level_bytes, sentencepiece_bytes, stop_ids

_OPTIONS = ("byte_fallback", "fuse_unk", "ignore_merges")
_REFUSED = ("continuing_subword_prefix", "end_of_word_suffix", "dropout")


def read_json(path: Path) -> Vocabulary:
    """Build from the file at ``path``. Raises DamagedCheckpoint naming the field, or UnsupportedCheckpoint."""
    document = _load(path)
    config_path = path.with_name("tokenizer_config.json")
    config = _load(config_path) if config_path.exists() else {}
    model = document.get("model")
    if not isinstance(model, dict):
        raise DamagedCheckpoint(f"{path} has no model; get the file again")
    if model.get("type", "BPE") != "BPE" or any(model.get(option) for option in _REFUSED):
        raise UnsupportedCheckpoint(
            f"{path}: quipu reads models of type BPE without {', '.join(_REFUSED)}; this one is {model.get('type')!r}"
        )
    added = _added(document, path)
    ids = _vocabulary(model, path)
    special = {text for text, token in added.items() if token.special}
    bpe = byte_pair_model(
        ids | {text: token.id for text, token in added.items()},
        merges_of(model, path),
        special,
        unknown=_unknown(model, ids, path),
        **{option: bool(model.get(option)) for option in _OPTIONS},
    )
    byte_level = any(part.get("type") == "ByteLevel" for part in _parts(document, "pre_tokenizer", "decoder"))
    spell = byte_level_bytes if byte_level else sentencepiece_bytes
    pieces = {i: spell(text) for text, i in ids.items()}
    pieces.update((token.id, text.encode("utf-8", "replace")) for text, token in added.items())
    bos_id, add_bos = _begin(document, config, added, path)
    eos_id = _named(config, "eos_token", added, path)
    return Vocabulary(
        pieces=pieces,
        size=max(pieces, default=-1) + 1,
        added=added,
        encode=_encoder(bpe, document),
        bos_id=bos_id,
        eos_id=eos_id,
        eos_ids=stop_ids([eos_id], added),
        add_bos=add_bos,
        drops_space=any(map(_drops_space, _parts(document, "decoder"))),
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DamagedCheckpoint(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedCheckpoint(f"{path} is not JSON: {error}. Get the file again") from error
    if not isinstance(document, dict):
        raise DamagedCheckpoint(f"{path} is JSON but not an object; get the file again")
    return document


def _index(value: Any, path: Path, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise DamagedCheckpoint(f"{path}: {field} is {value!r:.40}, not a token id; get the file again")
    return value


def _list(value: Any, path: Path, field: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise DamagedCheckpoint(f"{path}: {field} is {value!r:.40}, not a list; get the file again")
    return value or []


def _vocabulary(model: Mapping[str, Any], path: Path) -> dict[str, int]:
    vocab = model.get("vocab")
    if not isinstance(vocab, dict) or not vocab:
        raise DamagedCheckpoint(f"{path}: model.vocab is missing or empty; get the file again")
    ids = {text: _index(value, path, f"model.vocab[{text!r:.40}]") for text, value in vocab.items()}
    if len(set(ids.values())) != len(ids):
        raise DamagedCheckpoint(f"{path}: model.vocab gives one id to several tokens; get the file again")
    return ids


def merges_of(model: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    """The merges of a tokenizer.json's model, written as "a b" in older files, as ["a", "b"] in newer ones."""
    for merge in _list(model.get("merges"), path, "model.merges"):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise DamagedCheckpoint(f"{path}: model.merges holds {merge!r:.80}, not two tokens; get the file again")
        yield pair[0], pair[1]


def _unknown(model: Mapping[str, Any], ids: Mapping[str, int], path: Path) -> str | None:
    unknown = model.get("unk_token")
    if unknown is not None and (not isinstance(unknown, str) or unknown not in ids):
        raise DamagedCheckpoint(f"{path}: model.unk_token {unknown!r:.40} is not in model.vocab; get the file again")
    return unknown


def _added(document: Mapping[str, Any], path: Path) -> dict[str, AddedToken]:
    added = {}
    for i, entry in enumerate(_list(document.get("added_tokens"), path, "added_tokens")):
        if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
            raise DamagedCheckpoint(f"{path}: added_tokens[{i}] has no content; get the file again")
        added[entry["content"]] = AddedToken(
            id=_index(entry.get("id"), path, f"added_tokens[{i}].id"),
            special=bool(entry.get("special")),
            left=bool(entry.get("lstrip")),
            right=bool(entry.get("rstrip")),
            word=bool(entry.get("single_word")),
        )
    return added


def _parts(document: Mapping[str, Any], *fields: str) -> Iterator[dict[str, Any]]:
    """The steps of a field, of a Sequence one by one."""
    for field in fields:
        step = document.get(field)
        if isinstance(step, dict):
            parts = step.get("pretokenizers") or step.get("decoders") or [step]
            # What is no list of steps is for the tokenizers library to refuse.
            yield from (part for part in parts if isinstance(part, dict)) if isinstance(parts, list) else ()


def _drops_space(decoder: Mapping[str, Any]) -> bool:
    if decoder.get("type") == "Metaspace":
        return decoder.get("prepend_scheme", "always") != "never" and decoder.get("add_prefix_space", True) is True
    return decoder.get("type") == "Strip" and decoder.get("content") == " " and decoder.get("start") == 1


def _encoder(model: Any, document: Mapping[str, Any]) -> BytePairEncoder:
    """Metaspace may put its marker before the first word of the text only: text after a special token gets none."""
    normalizer, pre_tokenizer = document.get("normalizer"), document.get("pre_tokenizer")
    first = backend(model, normalizer, pre_tokenizer)
    changed = json.loads(json.dumps(pre_tokenizer))
    for part in _parts({"pre_tokenizer": changed}, "pre_tokenizer"):
        if part.get("type") == "Metaspace" and part.get("prepend_scheme") == "first":
            part["prepend_scheme"] = "never"
    return BytePairEncoder(first, None if changed == pre_tokenizer else backend(model, normalizer, changed))


def _named(config: Mapping[str, Any], field: str, added: Mapping[str, AddedToken], path: Path) -> int | None:
    value = config.get(field)
    text = value.get("content") if isinstance(value, dict) else value
    if text is None:
        return None
    if not isinstance(text, str) or text not in added:
        raise DamagedCheckpoint(f"tokenizer_config.json names {field} {text!r:.40}, which {path} does not declare")
    return added[text].id


def _begin(
    document: Mapping[str, Any], config: Mapping[str, Any], added: Mapping[str, AddedToken], path: Path
) -> tuple[int | None, bool]:
    """BOS and whether it is added: as tokenizer_config.json says, else if the post-processor begins with it."""
    bos_id = _named(config, "bos_token", added, path)
    leading = _leading_special(document.get("post_processor"))
    if bos_id is None and leading in added:
        bos_id = added[leading].id
    add_bos = config.get("add_bos_token")
    if add_bos is None:
        add_bos = leading in added and added[leading].id == bos_id
    if add_bos and bos_id is None:
        raise DamagedCheckpoint("tokenizer_config.json says add_bos_token but names no bos_token")
    return bos_id, bool(add_bos)


def _leading_special(processor: Any) -> str:
    """The special token that a TemplateProcessing (or a Sequence with one) puts first, else an empty string."""
    if not isinstance(processor, dict):
        return ""
    steps = processor.get("processors") or [processor]
    for step in steps if isinstance(steps, list) else ():
        single = step.get("single") if isinstance(step, dict) else None
        first = single[0] if isinstance(single, list) and single else None
        token = first.get("SpecialToken") if isinstance(first, dict) else None
        if isinstance(token, dict):
            return str(token.get("id", ""))
    return ""
