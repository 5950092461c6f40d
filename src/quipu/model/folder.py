"""What a checkpoint's small files say beside its weights: chat template, stop tokens, sampling defaults, licence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from quipu.errors import DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.fields import Fields
from quipu.model.files import read_json, read_text

TokenizerSource: TypeAlias = (
    tuple[Literal["gguf"], Mapping[str, Any]] | tuple[Literal["json"], Path] | tuple[Literal["tiktoken"], Path]
)
"""What a tokenizer is built from: GGUF metadata, a tokenizer.json, or Meta's tokenizer.model."""

TEXT_FILES = (
    "config.json",
    "params.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
"""Files beside the weights that change what a model says."""


def chat_template(folder: Path) -> str | None:
    """Jinja source: ``chat_template.jinja``, else the one in ``tokenizer_config.json`` (of a list, "default")."""
    if (folder / "chat_template.jinja").exists():
        return read_text(folder / "chat_template.jinja")
    path = folder / "tokenizer_config.json"
    given = read_json(path).get("chat_template") if path.exists() else None
    if isinstance(given, list):
        named = {each.get("name"): each.get("template") for each in given if isinstance(each, dict)}
        given = named.get("default")
    if given is not None and not isinstance(given, str):
        raise DamagedCheckpoint(f"{path}: chat_template is {given!r:.60}, neither a string nor a list of named ones")
    return given


def eos_ids(folder: Path) -> tuple[int, ...]:
    """Token ids that end an answer, from ``generation_config.json``, else ``config.json``; empty if neither says."""
    for name in ("generation_config.json", "config.json"):
        given = read_json(folder / name).get("eos_token_id") if (folder / name).exists() else None
        if given is not None:
            return token_ids(given, f"{folder / name}: eos_token_id")
    return ()


def token_ids(given: Any, what: str) -> tuple[int, ...]:
    """One id or a list of ids as a tuple without repeats. Raises DamagedCheckpoint."""
    ids = given if isinstance(given, list) else [given]
    for each in ids:
        if isinstance(each, bool) or not isinstance(each, int) or each < 0:
            raise DamagedCheckpoint(f"{what} is {given!r:.60}; it must be a token id or a list of them")
    return tuple(dict.fromkeys(ids))


def sampling_defaults(folder: Path) -> dict[str, float | int]:
    """temperature, top_p and top_k of ``generation_config.json``, if it says to sample at all."""
    path = folder / "generation_config.json"
    fields = Fields(read_json(path) if path.exists() else {}, str(path))
    if not fields.flag("do_sample"):
        return {}
    result: dict[str, float | int] = {}
    for name in ("temperature", "top_p"):
        if fields.get(name) is not None:
            result[name] = fields.number(name)
    if fields.get("top_k") not in (None, 0):
        result["top_k"] = fields.integer("top_k", most=1 << 31)
    return result


def license_of(folder: Path) -> str | None:
    """The licence in the front matter of README.md, else the first line of LICENSE or LICENSE.txt."""
    if (folder / "README.md").exists():
        head = re.match(r"---\s*\n(.*?)\n---", read_text(folder / "README.md", errors="replace"), re.DOTALL)
        found = dict(re.findall(r"^(license|license_name):[ \t]*([^\s#]+)", head[1], re.MULTILINE)) if head else {}
        name = found.get("license_name") if found.get("license") == "other" else found.get("license")
        if name:
            return str(name).strip("\"'")
    for name in ("LICENSE", "LICENSE.txt"):
        if (folder / name).exists():
            lines = [line.strip() for line in read_text(folder / name, errors="replace").splitlines() if line.strip()]
            return lines[0][:120] if lines else None
    return None


def tokenizer_source(folder: Path) -> TokenizerSource | None:
    """The tokenizer's file, or None where the folder has none."""
    if (folder / "tokenizer.json").exists():
        return "json", folder / "tokenizer.json"
    if (folder / "tokenizer.model").exists():
        return "tiktoken", folder / "tokenizer.model"
    return None


def not_a_model(folder: Path) -> UnsupportedCheckpoint:
    """The error about a folder that holds no weights quipu reads, naming what it found instead."""
    if (folder / "adapter_config.json").exists():
        return UnsupportedCheckpoint(f"{folder} is a LoRA adapter, not a model; give the base model it was made for")
    if any(folder.glob("pytorch_model*.bin")):
        return UnsupportedCheckpoint(f"{folder} holds pytorch_model.bin; use the safetensors or a GGUF of this model")
    return UnsupportedCheckpoint(
        f"{folder} holds no checkpoint: expected config.json with *.safetensors, params.json with "
        "consolidated.*.pth, or one .gguf file"
    )
