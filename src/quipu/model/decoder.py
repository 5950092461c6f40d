"""One layer of a dense Llama decoder, and what it is made of; Llama 4's layers differ in ``llama4``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from quipu.model import weights
from quipu.model.attention import Attend
from quipu.model.config import ModelConfig
from quipu.model.linear import Linear
from quipu.model.rope import Positions

Tensors = Mapping[str, weights.Tensor]


def to_torch(tensor: weights.Tensor, dtype: torch.dtype) -> Tensor:
    """A checkpoint tensor, dequantised, as its own memory in ``dtype``."""
    if tensor.kind == "BF16" and dtype == torch.bfloat16:
        return torch.from_numpy(tensor.packed()).view(torch.bfloat16).view(tensor.shape)
    return torch.from_numpy(np.ascontiguousarray(tensor.float32())).to(dtype)


class Loader:
    """Reads named tensors of a checkpoint as torch tensors of one dtype on one device."""

    def __init__(self, tensors: Tensors, dtype: torch.dtype, device: torch.device, prefix: str = "") -> None:
        self._tensors, self._dtype, self._device, self._prefix = tensors, dtype, device, prefix

    def under(self, prefix: str) -> Loader:
        """The same, for names that begin with ``prefix``."""
        return Loader(self._tensors, self._dtype, self._device, self._prefix + prefix)

    def __contains__(self, name: str) -> bool:
        return f"{self._prefix}{name}.weight" in self._tensors

    def __call__(self, *names: str) -> Tensor:
        """The named weights, stacked along their rows."""
        return self.plain(*(f"{name}.weight" for name in names))

    def bias(self, *names: str) -> Tensor:
        """The named biases, one after the other."""
        return self.plain(*(f"{name}.bias" for name in names))

    def plain(self, *names: str) -> Tensor:
        """Tensors by their whole names."""
        parts = [to_torch(self._tensors[f"{self._prefix}{name}"], self._dtype) for name in names]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).to(self._device)


class RMSNorm(nn.Module):
    """x / rms(x) * weight (Zhang and Sennrich 2019), the quotient in float32."""

    def __init__(self, weight: Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """[T, D] -> [T, D]."""
        return self.weight * over_root_mean_square(x, self.epsilon)


def over_root_mean_square(x: Tensor, epsilon: float) -> Tensor:
    """x / rms(x) along the last axis, computed in float32, in the dtype of x."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)).to(x.dtype)


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)) (Shazeer 2020); gate and up are one matrix."""

    def __init__(self, load: Loader) -> None:
        super().__init__()
        self.gate_up = Linear(load("gate_proj", "up_proj"))
        self.down = Linear(load("down_proj"))

    def forward(self, x: Tensor) -> Tensor:
        """[T, D] -> [T, D]."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        output: Tensor = self.down(functional.silu(gate) * up)
        return output


class DecoderLayer(nn.Module):
    """One block: x += attention(norm(x)); x += feed_forward(norm(x))."""

    def __init__(self, config: ModelConfig, index: int, load: Loader) -> None:
        """``load`` is under the layer's prefix."""
        super().__init__()
        self.index = index
        self.heads, self.kv_heads, self.head_size = config.heads, config.kv_heads, config.head_size
        self.attention_norm = RMSNorm(load("input_layernorm"), config.norm_epsilon)
        self.query_key_value = Linear(load("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"))
        self.attention_output = Linear(load("self_attn.o_proj"))
        self.feed_forward_norm = RMSNorm(load("post_attention_layernorm"), config.norm_epsilon)
        self.feed_forward = self.make_feed_forward(config, load.under(weights.feed_forward(config)))

    def make_feed_forward(self, config: ModelConfig, load: Loader) -> nn.Module:
        """[T, D] -> [T, D], of weights under its own prefix."""
        return SwiGLU(load)

    def forward(self, x: Tensor, positions: Positions, attend: Attend) -> Tensor:
        """[T, D] -> [T, D]."""
        x = x + self._attention(self.attention_norm(x), positions, attend)
        output: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return output

    def _attention(self, x: Tensor, positions: Positions, attend: Attend) -> Tensor:
        heads = self.query_key_value(x).unflatten(-1, (-1, self.head_size))
        compared, value = heads.split((self.heads + self.kv_heads, self.kv_heads), dim=1)
        query, key = self.placed(compared, positions).split((self.heads, self.kv_heads), dim=1)
        output: Tensor = self.attention_output(attend(self.index, query, key, value).flatten(1))
        return output

    def placed(self, heads: Tensor, positions: Positions) -> Tensor:
        """Heads of queries and keys, [T, H + K, D], with their positions in them."""
        return positions.rotate(heads)
