"""A checkpoint whose weights are not here, from its configuration alone: enough to plan for it, not to run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from quipu.errors import ModelNotFound, QuipuError
from quipu.model.checkpoint import Checkpoint, open_checkpoint
from quipu.model.config_huggingface import from_huggingface
from quipu.model.files import read_json
from quipu.model.known import known_models
from quipu.model.weights import Tensor, byte_count, tensor_shapes, vision_shapes

_KINDS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True, slots=True)
class Absent:
    """Bytes of a weight that is not here."""

    nbytes: int

    def read(self) -> NoReturn:
        """Raises ModelNotFound."""
        raise ModelNotFound("only the configuration of this model is here, not its weights; pull it first")

    def part(self, start: int, nbytes: int) -> Absent:
        """As absent as the whole."""
        return Absent(nbytes)


def open_or_outline(model: str) -> Checkpoint:
    """The checkpoint; where its weights are not here, its outline, of ``format`` "config".

    An outline is made of a known model that says its configuration, a config.json or a folder that has one. Raises as
    open_checkpoint does.
    """
    try:
        return open_checkpoint(model)
    except QuipuError as error:
        outline = _configuration(model)
        if outline is None:
            raise error
        return outline


def _configuration(model: str) -> Checkpoint | None:
    """The outline that a config.json without weights beside it gives, or a known model's configuration."""
    known = next((each for each in known_models() if each.name == model), None)
    if known is not None and known.config is not None:
        origin = Path(known.repository or known.name)
        return replace(_outline(origin, known.name, known.config), license=known.license)
    if known is not None:
        return None
    path = Path(model).expanduser()
    path = path / "config.json" if path.is_dir() else path
    if path.name != "config.json" or not path.is_file() or any(path.parent.glob("*.safetensors*")):
        return None
    return _outline(path, path.absolute().parent.name, read_json(path))


def _outline(path: Path, name: str, fields: Mapping[str, Any]) -> Checkpoint:
    config = from_huggingface(fields, source=str(path))
    inner = fields.get("text_config", fields)
    given = [each.get(key) for each in (fields, inner) for key in ("dtype", "torch_dtype")]
    kind = _KINDS[next((each for each in given if each in _KINDS), "bfloat16")]
    tensors = {
        name: Tensor(name, shape, kind, Absent(byte_count(shape, kind)))
        for name, shape in tensor_shapes(config).items()
    }
    shapes = {} if config.vision is None else vision_shapes(config.vision, config.hidden_size)
    vision = {name: Tensor(name, shape, kind, Absent(byte_count(shape, kind))) for name, shape in shapes.items()}
    return Checkpoint(path, "config", name, config, tensors, files=(), vision=vision)
