"""A checkpoint: everything that a model's files say of it, whichever of the formats they are in."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from quipu.errors import CheckpointError, InvalidRequest, ModelNotFound, UnsupportedCheckpoint, did_you_mean
from quipu.model import folder as side
from quipu.model import names_gguf, names_huggingface, names_meta
from quipu.model.config import ModelConfig
from quipu.model.config_gguf import from_gguf, sampling_defaults
from quipu.model.config_huggingface import from_huggingface
from quipu.model.config_meta import from_meta
from quipu.model.files import FileState, check_same, check_unchanged, file_states, read_json, reading
from quipu.model.folder import TokenizerSource
from quipu.model.gguf import GGUFFile, read_gguf
from quipu.model.known import cached_snapshot, known_models
from quipu.model.projector import PATTERN, find_projector, read_projector
from quipu.model.safetensors import INDEX, read_index, read_safetensors, read_sharded
from quipu.model.weights import (
    EMBEDDING,
    OUTPUT,
    Tensor,
    check_names,
    check_vision,
    in_half_rotation,
    parameter_count,
    vision_parameter_count,
)

Format = Literal["gguf", "safetensors", "pth", "config"]
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """An opened checkpoint: configuration and weights, checked against each other, and what else its files say.

    ``tensors`` go by canonical (Hugging Face) names. ``metadata`` is the GGUF's, else empty. ``sampling_defaults`` are
    the files' own, by the names of ``types.Sampling``. ``states``: what each of ``files`` was when it was opened.
    ``vision``: the tensors of an image encoder and its projector, unchecked, by Hugging Face's names, of a GGUF by its.
    """

    path: Path
    format: Format
    name: str
    config: ModelConfig
    tensors: Mapping[str, Tensor] = field(repr=False)
    files: tuple[Path, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    chat_template: str | None = field(default=None, repr=False)
    eos_ids: tuple[int, ...] = ()
    sampling_defaults: Mapping[str, float | int] = field(default_factory=dict)
    license: str | None = None
    tokenizer_source: TokenizerSource | None = field(default=None, repr=False)
    states: Mapping[Path, FileState] = field(default_factory=dict, repr=False)
    vision: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    def check_unchanged(self) -> None:
        """Call before reading ``tensors`` later than right after opening. Raises DamagedCheckpoint."""
        check_unchanged(self.states)

    @property
    def quantization(self) -> dict[str, int]:
        """Number of tensors per storage type, by its GGML name."""
        return dict(Counter(tensor.kind for tensor in self.tensors.values()))

    @property
    def dtype(self) -> str:
        """The storage type of most matrix weights: float32, bfloat16, float16; "quantized" if any is in blocks."""
        sizes: Counter[str] = Counter()
        for tensor in self.tensors.values():
            if len(tensor.shape) > 1:
                sizes[tensor.kind] += math.prod(tensor.shape)
        if any(kind not in _DTYPES for kind in sizes):
            return "quantized"
        return _DTYPES[sizes.most_common(1)[0][0]]

    def run_dtype(self, asked: str = "auto") -> str:
        """The dtype to run in: ``asked``, or for "auto" float32 if it is stored so, else bfloat16."""
        if asked != "auto":
            return asked
        return "float32" if self.dtype == "float32" else "bfloat16"

    @property
    def parameters(self) -> int:
        """Number of weights, what it sees with among them; a tied embedding counts once."""
        return parameter_count(self.config) + vision_parameter_count(self.config)

    def file_hash(self, progress: Callable[[int, int], None] | None = None) -> str:
        """SHA-256 in hex: of the file itself if the model is one file, else of its files' names and hashes.

        For several files it is the hash of the sorted lines "name hash\\n" over ``files``, so that it is the same
        wherever the folder lies and can be recomputed with sha256sum. ``progress`` gets (bytes read, bytes in all).
        Raises DamagedCheckpoint where a file is not the one that was opened: its hash would be that of other weights.
        """
        total = sum(size for _, size, _ in self.states.values())
        done = 0
        lines = []
        for path in self.files:
            digest = hashlib.sha256()
            with reading(path), path.open("rb") as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
                    done += len(piece)
                    if progress is not None:
                        progress(done, total)
                check_same(path, file, self.states[path])
            lines.append(f"{path.name} {digest.hexdigest()}\n")
        if len(lines) == 1:
            return lines[0].split()[-1]
        return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def open_checkpoint(model: str | Path) -> Checkpoint:
    """Open ``model``: a .gguf file, a Hugging Face folder, a Meta folder, a known name, or "owner/name" in the cache.

    Weights are not read yet. Raises ModelNotFound, DamagedCheckpoint or UnsupportedCheckpoint (CheckpointError
    for files that may not be read).
    """
    checkpoint = _opened(model)
    return replace(checkpoint, states=file_states(checkpoint.files))


def _opened(model: str | Path) -> Checkpoint:
    path = resolve(model)
    name = model if isinstance(model, str) and _is_name(model) else path.absolute().name.removesuffix(".gguf")
    checkpoint = _open(path, name)
    recommended = next((each.sampling for each in known_models() if each.name == model), {})
    return checkpoint if checkpoint.sampling_defaults else replace(checkpoint, sampling_defaults=recommended)


def _open(path: Path, name: str) -> Checkpoint:
    with reading(path):
        if not path.is_dir():
            return _open_file(path, name)
        if any(path.glob("*.safetensors*")) and (path / "config.json").exists():
            return _open_huggingface(path, name)
        if any(path.glob("consolidated.*.pth")) and (path / "params.json").exists():
            return _open_meta(path, name)
        files = sorted(set(path.glob("*.gguf")) - set(path.glob(PATTERN)))
    if len({re.sub(r"-\d{5}-of-\d{5}\.gguf$", "", file.name) for file in files}) > 1:
        raise CheckpointError(f"{path} holds several models; give one: {', '.join(file.name for file in files)}")
    if files:
        return _open_gguf(files[0], name)
    raise side.not_a_model(path)


def resolve(model: str | Path) -> Path:
    """The file or folder that ``model`` means. Raises ModelNotFound, naming the nearest known name.

    A known name wins over a file of that name in the current directory, which is reached as "./name".
    """
    name = str(model)
    known = {each.name: each for each in known_models()}
    if isinstance(model, str) and model in known:
        return known[model].locate()
    if (path := _existing(model)) is not None:
        return path
    if isinstance(model, Path) or name.startswith(("/", ".", "~")) or name.endswith(".gguf"):
        raise ModelNotFound(f"{name!r:.200} does not exist; check the path", param="model")
    if _is_hub_name(name):
        return cached_snapshot(name)
    hint = did_you_mean(name, known, f"known are {', '.join(known)}; or give a path")
    raise ModelNotFound(f"no model {name!r:.120}: {hint}", param="model")


def _existing(model: str | Path) -> Path | None:
    if not str(model):
        return None
    try:
        path = Path(model).expanduser()
        with reading(path):
            path.stat()
    except (ModelNotFound, ValueError, RuntimeError):  # not there; a null byte; the home of an unknown user
        return None
    return path


def _is_hub_name(model: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", model) is not None


def _is_name(model: str) -> bool:
    """Whether ``model`` is a name to keep: a known one, or a hub repository that is no path here."""
    return model in {each.name for each in known_models()} or (_is_hub_name(model) and not Path(model).exists())


def _open_file(path: Path, name: str) -> Checkpoint:
    if path.suffix in (".safetensors", ".pth", ".json"):
        raise UnsupportedCheckpoint(f"{path} is one file of a checkpoint; give its folder {path.parent}")
    return _open_gguf(path, name)


def _open_gguf(path: Path, name: str) -> Checkpoint:
    file = read_gguf(path)
    by_name = {names_gguf.canonical_name(stored): tensor for stored, tensor in file.tensors.items()}
    embedding = by_name.get(EMBEDDING)
    config = from_gguf(
        file.metadata,
        vocabulary=embedding.shape[0] if embedding else None,
        tied=OUTPUT not in by_name,
        divisors=names_gguf.rope_divisors(file),
        source=str(path),
    )
    tensors, vision = names_gguf.canonical_tensors(file, config)
    check_names(config, tensors, source=str(path))
    files = file.paths
    projector = find_projector(path) if config.architecture == "llama4" else None
    if projector is not None:
        config, vision = read_projector(projector, file.metadata, config)
        files = (*files, projector)
    config = check_vision(config, vision, source=str(projector or path))
    return Checkpoint(
        path=path,
        format="gguf",
        name=name,
        config=config,
        tensors=tensors,
        files=files,
        metadata=file.metadata,
        chat_template=_text(file, "tokenizer.chat_template"),
        eos_ids=_gguf_eos_ids(file),
        sampling_defaults=sampling_defaults(file.metadata, str(path)),
        license=_text(file, "general.license"),
        tokenizer_source=("gguf", file.metadata) if "tokenizer.ggml.tokens" in file.metadata else None,
        vision=vision,
    )


def _text(file: GGUFFile, key: str) -> str | None:
    value = file.metadata.get(key)
    return value if isinstance(value, str) else None


def _gguf_eos_ids(file: GGUFFile) -> tuple[int, ...]:
    keys = [f"tokenizer.ggml.{kind}_token_id" for kind in ("eos", "eot", "eom")]
    given = [file.metadata[key] for key in keys if key in file.metadata]
    return side.token_ids(given, f"{file.paths[0]}: tokenizer.ggml.eos_token_id")


def _open_huggingface(folder: Path, name: str) -> Checkpoint:
    config = from_huggingface(read_json(folder / "config.json"), source=str(folder / "config.json"))
    if (folder / INDEX).exists():
        tensors, weights = read_sharded(folder / INDEX), [folder / INDEX, *read_index(folder / INDEX)]
    else:
        weights = [_single_safetensors(folder)]
        tensors = read_safetensors(weights[0])
    text, vision = names_huggingface.canonical_tensors(tensors, config, str(folder))
    if OUTPUT in text:
        # The configuration says tied, yet the file has its own output matrix: that one is used.
        config = replace(config, tied_embeddings=False)
    return _with_side_files(folder, name, "safetensors", config, text, vision, weights)


def _single_safetensors(folder: Path) -> Path:
    if (folder / "model.safetensors").exists():
        return folder / "model.safetensors"
    found = sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        raise UnsupportedCheckpoint(
            f"{folder} has {len(found)} .safetensors files, but neither model.safetensors nor {INDEX}; "
            "download the index"
        )
    return found[0]


def _open_meta(folder: Path, name: str) -> Checkpoint:
    try:
        from quipu.model.meta_pth import read_meta_pth
    except ImportError:
        raise UnsupportedCheckpoint(
            f"{folder} holds .pth files, which only torch reads; install it with: pip install 'quipu-llama[torch]'"
        ) from None
    params = read_json(folder / "params.json")
    shards = read_meta_pth(folder)
    config = from_meta(
        params,
        vocabulary=names_meta.vocabulary(shards),
        tied=names_meta.is_tied(shards),
        source=str(folder / "params.json"),
    )
    stored, vision = names_meta.canonical_tensors(shards, config, str(folder))
    tensors = in_half_rotation(stored, config)
    return _with_side_files(folder, name, "pth", config, tensors, vision, sorted(folder.glob("consolidated.*.pth")))


def _with_side_files(
    folder: Path,
    name: str,
    file_format: Format,
    config: ModelConfig,
    tensors: Mapping[str, Tensor],
    vision: Mapping[str, Tensor],
    weights: list[Path],
) -> Checkpoint:
    check_names(config, tensors, source=str(folder))
    config = check_vision(config, vision, source=str(folder))
    return Checkpoint(
        path=folder,
        format=file_format,
        name=name,
        config=config,
        tensors=tensors,
        files=(*weights, *(folder / each for each in side.TEXT_FILES if (folder / each).exists())),
        chat_template=side.chat_template(folder),
        eos_ids=side.eos_ids(folder),
        sampling_defaults=side.sampling_defaults(folder),
        license=side.license_of(folder),
        tokenizer_source=side.tokenizer_source(folder),
        vision=vision,
    )


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes that running a model takes: its weights, and keys and values of all tokens held at once.

    ``vision_bytes`` of the weights are what it sees with.
    ``kv_bytes_per_token`` is of the layers that see everything: what each further token of a long text takes.
    ``chunk_bytes_per_token`` is of those with chunked attention, which keep no more than a chunk.
    """

    weights_bytes: int
    vision_bytes: int
    kv_bytes: int
    kv_bytes_per_token: int
    chunk_bytes_per_token: int

    @property
    def total_bytes(self) -> int:
        """Weights and keys and values together."""
        return self.weights_bytes + self.kv_bytes


_ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def memory_plan(config: ModelConfig, dtype: str, context: int, concurrency: int, *, block_size: int) -> MemoryPlan:
    """Memory to run ``concurrency`` sequences of ``context`` tokens with weights and cache in ``dtype``.

    ``dtype`` is "float32", "bfloat16" or "float16" (else InvalidRequest); each sequence takes whole blocks of
    ``block_size`` tokens, the engine's BLOCK_SIZE.
    """
    if dtype not in _ITEM_BYTES:
        raise InvalidRequest(f"dtype {dtype!r:.40} is unknown; known: {', '.join(_ITEM_BYTES)}", param="dtype")
    item = _ITEM_BYTES[dtype]
    layer = 2 * config.kv_heads * config.head_size * item
    chunked = sum(config.layer_chunk(index) is not None for index in range(config.layers))
    kept = config.kept_positions(-(-context // block_size) * block_size)
    text, vision = (count(config) * item for count in (parameter_count, vision_parameter_count))
    return MemoryPlan(
        text + vision, vision, concurrency * layer * kept, layer * (config.layers - chunked), layer * chunked
    )
