"""Mixture of experts (Shazeer et al. 2017) as Llama 4 has it: one expert for a token, and one that takes all.

T tokens, D hidden size, F width of an expert, E experts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from quipu.model.decoder import Loader, SwiGLU
from quipu.model.linear import Linear


class MixtureOfExperts(nn.Module):
    """shared(x) + expert(score * x): the token's best expert, its *input* scaled by the sigmoid of its logit.

    Only chosen experts run. On a GPU that multiplies bfloat16 in groups, all of them are two products.
    """

    def __init__(self, count: int, load: Loader) -> None:
        super().__init__()
        self.router = Linear(load("router"))
        self.shared = SwiGLU(load.under("shared_expert."))
        if self.router.weight.device.type == "cuda" and self.router.weight.dtype == torch.bfloat16:
            self.experts: nn.Module = GroupedExperts(count, load)
        else:
            self.experts = EachExpert(count, load)

    def forward(self, x: Tensor) -> Tensor:
        """[T, D] -> [T, D]."""
        logits, chosen = self.router(x).max(-1)
        score = torch.sigmoid(logits.float()).to(x.dtype)
        output: Tensor = self.shared(x) + self.experts(x * score[:, None], chosen)
        return output


class EachExpert(nn.Module):
    """One chosen expert after another."""

    def __init__(self, count: int, load: Loader) -> None:
        super().__init__()
        self.experts = nn.ModuleList(SwiGLU(load.under(f"experts.{expert}.")) for expert in range(count))

    def forward(self, x: Tensor, chosen: Tensor) -> Tensor:
        """x [T, D], chosen int64 [T] -> [T, D]."""
        output = torch.empty_like(x)
        for expert in chosen.unique().tolist():
            rows = (chosen == expert).nonzero()[:, 0]
            output[rows] = self.experts[expert](x[rows])
        return output


class GroupedExperts(nn.Module):
    """All experts as stacked weights, and grouped products over tokens sorted by expert: nothing waits for the GPU."""

    def __init__(self, count: int, load: Loader) -> None:
        super().__init__()
        experts = [load.under(f"experts.{expert}.") for expert in range(count)]
        self.gate_up = nn.Parameter(torch.stack([each("gate_proj", "up_proj") for each in experts]), False)
        self.down = nn.Parameter(torch.stack([each("down_proj") for each in experts]), False)

    def forward(self, x: Tensor, chosen: Tensor) -> Tensor:
        """x [T, D], chosen int64 [T] -> [T, D]."""
        order = chosen.argsort(stable=True)
        count = self.gate_up.shape[0]
        ends = functional.one_hot(chosen, count).sum(0).cumsum(0).to(torch.int32)
        gate, up = functional.grouped_mm(x[order], self.gate_up.mT, offs=ends).chunk(2, dim=-1)
        product = functional.grouped_mm(functional.silu(gate) * up, self.down.mT, offs=ends)
        return torch.empty_like(x).index_copy_(0, order, product)
