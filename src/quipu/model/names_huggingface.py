"""Hugging Face's weights under canonical names: those of a Llama as they are, those of a Llama 4 taken apart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from quipu.errors import DamagedCheckpoint
from quipu.model.config import ModelConfig
from quipu.model.views import matrix, transposed
from quipu.model.weights import Tensor

_TEXT = "language_model."
_VISION = ("vision_model.", "multi_modal_projector.")
_FUSED = re.compile(r"(model\.layers\.\d+\.feed_forward\.experts)\.(gate_up_proj|down_proj)")


def canonical_tensors(
    tensors: Mapping[str, Tensor], config: ModelConfig, source: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The text model's weights under canonical names, and the vision tower's under their own.

    Of experts stored as one array each gets matrices of its own. Raises DamagedCheckpoint about ``source``. Names
    that no Llama has are kept, for check_names to report.
    """
    if config.architecture != "llama4":
        return dict(tensors), {}
    text: dict[str, Tensor] = {}
    vision: dict[str, Tensor] = {}
    for stored, tensor in tensors.items():
        if stored.startswith(_VISION):
            vision[stored] = tensor
            continue
        for each in _weights(stored.removeprefix(_TEXT), tensor, config, source):
            if each.name in text:
                raise DamagedCheckpoint(f"{source}: two tensors stand for {each.name}, one of them {stored}")
            text[each.name] = each
    return text, vision


def _weights(name: str, tensor: Tensor, config: ModelConfig, source: str) -> Iterator[Tensor]:
    """What one stored array holds: of fused experts all their matrices, which lie [in, out] there."""
    fused = _FUSED.fullmatch(name)
    if fused is None or config.experts is None:
        yield Tensor(name, tensor.shape, tensor.kind, tensor.data)
        return
    prefix, part = fused.groups()
    count, width, inner = config.experts.count, config.hidden_size, config.experts.intermediate_size
    shape = (count, width, 2 * inner) if part == "gate_up_proj" else (count, inner, width)
    if tensor.shape != shape:
        raise DamagedCheckpoint(
            f"{source}: {tensor.name} is {list(tensor.shape)}, expected {list(shape)}; the configuration belongs to "
            "other weights, or the file is not whole: download both again"
        )
    rows = shape[1]
    for expert in range(count):
        slab = matrix(tensor).rows(expert * rows, (expert + 1) * rows)
        if part == "down_proj":
            yield transposed(slab, f"{prefix}.{expert}.down_proj.weight")
            continue
        # The first half of the columns is gate, the second up: not in turn.
        yield transposed(slab, f"{prefix}.{expert}.gate_proj.weight", 0, inner)
        yield transposed(slab, f"{prefix}.{expert}.up_proj.weight", inner, 2 * inner)
