"""LoRA adapters in PEFT's file format, merged into a checkpoint's tensors as they load. No torch.

W' = W + s B A with s = alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA (Hu et al. 2021; Kalajdzievski 2023).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quipu.errors import DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.files import read_json
from quipu.model.safetensors import read_safetensors
from quipu.model.weights import Tensor

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_PREFIX = "base_model.model."
_PAIR = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])\.weight")


@dataclass(frozen=True, slots=True, eq=False)
class Adapted(Tensor):
    """A tensor whose values are those of ``base`` plus ``scale`` times B A, computed in float32 when asked for."""

    base: Tensor | None = None
    delta: tuple[NDArray[np.float32], NDArray[np.float32], float] | None = None

    def float32(self) -> NDArray[np.float32]:
        """See Tensor."""
        assert self.base is not None
        assert self.delta is not None
        up, down, scale = self.delta
        return self.base.float32() + np.float32(scale) * (up @ down)

    def packed(self) -> NDArray[np.uint8]:
        """See Tensor."""
        return self.float32().view(np.uint8)

    def rows(self, first: int, last: int, name: str | None = None) -> Tensor:
        """See Tensor."""
        assert self.base is not None
        assert self.delta is not None
        up, down, scale = self.delta
        base = self.base.rows(first, last, name)
        return Adapted(base.name, base.shape, "F32", base.data, None, base, (up[first:last], down, scale))


def merged(tensors: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """``tensors`` with the adapter in ``folder`` applied to those that it adapts.

    Raises UnsupportedCheckpoint for kinds of adapter that are not plain LoRA on matrices, DamagedCheckpoint for
    names or shapes that do not fit the model: an adapter of another model is refused, never half applied.
    """
    config = read_json(folder / ADAPTER_FILES[0])
    _refuse_foreign(config, folder)
    result = dict(tensors)
    pairs = _pairs(folder / ADAPTER_FILES[1])
    for module, (down, up) in pairs.items():
        name = f"{module}.weight"
        base = result.get(name)
        if base is None:
            raise DamagedCheckpoint(f"{folder} adapts {module}, which this model does not have; it is of another model")
        if up.shape[0] != base.shape[0] or down.shape[1] != base.shape[1] or up.shape[1] != down.shape[0]:
            raise DamagedCheckpoint(
                f"{folder}: lora_B {up.shape} times lora_A {down.shape} does not fit {name} {base.shape}; "
                "it is of another model"
            )
        delta = (up.float32(), down.float32(), _scale(config, module, folder, down.shape[0]))
        result[name] = Adapted(name, base.shape, "F32", base.data, None, base, delta)
    return result


def _refuse_foreign(config: Mapping[str, Any], folder: Path) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise UnsupportedCheckpoint(f"{folder}/adapter_config.json: peft_type is {kind!r}; supported is LORA")
    for field in ("use_dora", "fan_in_fan_out", "lora_bias", "modules_to_save"):
        if config.get(field):
            raise UnsupportedCheckpoint(
                f"{folder}/adapter_config.json: {field} is {config[field]!r}, which cannot be merged here; "
                "merge the adapter with PEFT and load the merged model"
            )
    if config.get("bias", "none") != "none":
        raise UnsupportedCheckpoint(f"{folder}/adapter_config.json: bias is {config['bias']!r}; Llama has no biases")


def _pairs(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Module path -> (lora_A [r, in], lora_B [out, r])."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in read_safetensors(path).items():
        match = _PAIR.fullmatch(name.removeprefix(_PREFIX))
        if match is None:
            raise UnsupportedCheckpoint(f"{path}: {name} is no LoRA matrix that can be merged here; merge it with PEFT")
        found.setdefault(match["module"], {})[match["side"]] = tensor
    if not found:
        raise DamagedCheckpoint(f"{path} holds no LoRA matrices: merged, it would change nothing")
    for module, sides in found.items():
        if len(sides) != 2:
            raise DamagedCheckpoint(f"{path}: {module} has lora_{next(iter(sides))} but not its counterpart")
    return {module: (sides["A"], sides["B"]) for module, sides in found.items()}


def _scale(config: Mapping[str, Any], module: str, folder: Path, columns: int) -> float:
    rank = _pattern(config, "rank_pattern", module, config.get("r"), folder)
    alpha = _pattern(config, "alpha_pattern", module, config.get("lora_alpha"), folder)
    if not isinstance(rank, int) or not isinstance(alpha, int | float) or rank < 1:
        raise DamagedCheckpoint(f"{folder}/adapter_config.json: r is {rank!r} and lora_alpha {alpha!r}; give numbers")
    if rank != columns:
        raise DamagedCheckpoint(f"{folder}: the rank of {module} is {columns}, adapter_config.json says {rank}")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _pattern(config: Mapping[str, Any], field: str, module: str, default: Any, folder: Path) -> Any:
    """The value whose key matches the end of ``module``, as PEFT looks it up."""
    patterns = config.get(field) or {}
    try:
        return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), default)
    except (AttributeError, re.error) as error:
        raise DamagedCheckpoint(
            f"{folder}/adapter_config.json: {field} must map patterns of module names to numbers: {error}"
        ) from None
