"""The dense Llama decoder: Llama 3.x and every checkpoint of that architecture.

Touvron et al. 2023, Grattafiori et al. 2024. Pre-norm blocks of grouped-query attention and SwiGLU. The query,
key and value products are one matrix, and so are gate and up: fewer, larger products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from quipu.model import weights
from quipu.model.attention import Attend, causal_attention
from quipu.model.config import ModelConfig
from quipu.model.rope import Rotation

Tensors = Mapping[str, weights.Tensor]


def to_torch(tensor: weights.Tensor, dtype: torch.dtype) -> Tensor:
    """A checkpoint tensor, dequantised, as its own memory in ``dtype``."""
    if tensor.kind == "BF16" and dtype == torch.bfloat16:
        return torch.from_numpy(tensor.packed().copy()).view(torch.bfloat16).view(tensor.shape)
    return torch.from_numpy(np.ascontiguousarray(tensor.float32())).to(dtype)


def _parameter(tensors: Tensors, names: Sequence[str], dtype: torch.dtype, device: torch.device) -> nn.Parameter:
    """The named tensors, stacked along their rows."""
    parts = [to_torch(tensors[name], dtype) for name in names]
    data = parts[0] if len(parts) == 1 else torch.cat(parts)
    return nn.Parameter(data.to(device), requires_grad=False)


class RMSNorm(nn.Module):
    """x / rms(x) * weight (Zhang and Sennrich 2019), the quotient in float32."""

    def __init__(self, weight: nn.Parameter, epsilon: float) -> None:
        super().__init__()
        self.weight = weight
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """[T, D] -> [T, D]."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
        return self.weight * wide.to(x.dtype)


class DecoderLayer(nn.Module):
    """One block: x += attention(norm(x)); x += feed_forward(norm(x))."""

    def __init__(self, config: ModelConfig, index: int, tensors: Tensors, dtype: torch.dtype, device: torch.device):
        super().__init__()
        self.index = index
        self.heads, self.kv_heads, self.head_size = config.heads, config.kv_heads, config.head_size

        def load(*names: str) -> nn.Parameter:
            prefix = f"model.layers.{index}."
            return _parameter(tensors, [f"{prefix}{name}.weight" for name in names], dtype, device)

        self.attention_norm = RMSNorm(load("input_layernorm"), config.norm_epsilon)
        self.query_key_value = load("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
        self.attention_output = load("self_attn.o_proj")
        self.feed_forward_norm = RMSNorm(load("post_attention_layernorm"), config.norm_epsilon)
        self.gate_up = load("mlp.gate_proj", "mlp.up_proj")
        self.down = load("mlp.down_proj")

    def forward(self, x: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        """[T, D] -> [T, D]."""
        x = x + self._attention(self.attention_norm(x), rotation, attend)
        return x + self._feed_forward(self.feed_forward_norm(x))

    def _attention(self, x: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        heads = functional.linear(x, self.query_key_value).unflatten(-1, (-1, self.head_size))
        rotated = rotation(heads[:, : self.heads + self.kv_heads])
        query, key = rotated.split((self.heads, self.kv_heads), dim=1)
        value = heads[:, self.heads + self.kv_heads :]
        return functional.linear(attend(self.index, query, key, value).flatten(1), self.attention_output)

    def _feed_forward(self, x: Tensor) -> Tensor:
        gate, up = functional.linear(x, self.gate_up).chunk(2, dim=-1)
        return functional.linear(functional.silu(gate) * up, self.down)


class Llama(nn.Module):
    """The whole network in ``dtype`` on ``device``, from the tensors of a checkpoint under canonical names."""

    def __init__(self, config: ModelConfig, tensors: Tensors, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.config = config
        self.dtype = dtype
        self.inverse_frequencies = torch.from_numpy(config.rope.inverse_frequencies()).to(device)
        self.embedding = _parameter(tensors, ["model.embed_tokens.weight"], dtype, device)
        self.layers = nn.ModuleList(
            DecoderLayer(config, index, tensors, dtype, device) for index in range(config.layers)
        )
        self.norm = RMSNorm(_parameter(tensors, ["model.norm.weight"], dtype, device), config.norm_epsilon)
        tied = "lm_head.weight" not in tensors
        self.head = self.embedding if tied else _parameter(tensors, ["lm_head.weight"], dtype, device)

    def forward(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """tokens and positions int64 [T] -> the final, normed hidden state [T, D]."""
        rotation = Rotation(positions, self.inverse_frequencies, self.dtype)
        x = functional.embedding(tokens, self.embedding)
        for layer in self.layers:
            x = layer(x, rotation, attend)
        hidden: Tensor = self.norm(x)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """[rows, D] -> float32 [rows, vocabulary]."""
        return functional.linear(hidden, self.head).float()


@torch.inference_mode()
def reference_logits(config: ModelConfig, tensors: Tensors, tokens: Sequence[int]) -> Tensor:
    """float32 [T, vocabulary] by one full forward in float32, whatever the checkpoint is stored as.

    Layers are dequantised one at a time and dropped again, so this needs memory for one of them, not for a
    float32 copy of the model.
    """
    device, dtype = torch.device("cpu"), torch.float32
    ids = torch.tensor(tokens)
    embedding = _parameter(tensors, ["model.embed_tokens.weight"], dtype, device)
    inverse_frequencies = torch.from_numpy(config.rope.inverse_frequencies())
    rotation = Rotation(torch.arange(len(tokens)), inverse_frequencies, dtype)
    x = functional.embedding(ids, embedding)
    for index in range(config.layers):
        x = DecoderLayer(config, index, tensors, dtype, device)(x, rotation, causal_attention)
    x = RMSNorm(_parameter(tensors, ["model.norm.weight"], dtype, device), config.norm_epsilon)(x)
    tied = "lm_head.weight" not in tensors
    return functional.linear(x, embedding if tied else _parameter(tensors, ["lm_head.weight"], dtype, device))
