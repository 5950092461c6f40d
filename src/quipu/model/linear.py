"""A matrix product whose weights lie in memory as the machine multiplies best."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Linear(nn.Module):
    """x @ weight.T for a frozen weight [out, in], without bias."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[T, in] -> [T, out]."""
        if self.packed is None:
            return functional.linear(x, self.weight)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, None, "none", [], "")
        return product

    def pack(self) -> None:
        """Lay the weight out once in the blocks that oneDNN multiplies, instead of again at every call.

        Worth 1.3 to 1.5 times at one to sixteen tokens. Only bfloat16 on a CPU that has it gains; elsewhere this
        does nothing. The plain weight is dropped.
        """
        if self.weight.device.type != "cpu" or self.weight.dtype != torch.bfloat16 or not _multiplies_bfloat16():
            return
        self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.data, _TYPICAL_ROWS)
        self.weight = nn.Parameter(torch.empty(0, dtype=torch.bfloat16), requires_grad=False)


_TYPICAL_ROWS = 16
"""oneDNN chooses the layout for this many rows; one layout serves all, and this one lost nothing at 1 or at 512."""


def _multiplies_bfloat16() -> bool:
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
