"""The dense Llama decoder: Llama 3.x and every checkpoint of that architecture.

Touvron et al. 2023, Grattafiori et al. 2024. Pre-norm blocks of grouped-query attention and SwiGLU. The query,
key and value products are one matrix, and so are gate and up: fewer, larger products.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from quipu.model import weights
from quipu.model.attention import Attend, causal_attention
from quipu.model.config import ModelConfig
from quipu.model.linear import Linear
from quipu.model.rope import Rotation

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
        parts = [to_torch(self._tensors[f"{self._prefix}{name}.weight"], self._dtype) for name in names]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).to(self._device)


class RMSNorm(nn.Module):
    """x / rms(x) * weight (Zhang and Sennrich 2019), the quotient in float32."""

    def __init__(self, weight: Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """[T, D] -> [T, D]."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
        return self.weight * wide.to(x.dtype)


class DecoderLayer(nn.Module):
    """One block: x += attention(norm(x)); x += feed_forward(norm(x))."""

    def __init__(self, config: ModelConfig, index: int, load: Loader) -> None:
        super().__init__()
        self.index = index
        self.heads, self.kv_heads, self.head_size = config.heads, config.kv_heads, config.head_size
        load = load.under(f"model.layers.{index}.")
        self.attention_norm = RMSNorm(load("input_layernorm"), config.norm_epsilon)
        self.query_key_value = Linear(load("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"))
        self.attention_output = Linear(load("self_attn.o_proj"))
        self.feed_forward_norm = RMSNorm(load("post_attention_layernorm"), config.norm_epsilon)
        self.gate_up = Linear(load("mlp.gate_proj", "mlp.up_proj"))
        self.down = Linear(load("mlp.down_proj"))

    def forward(self, x: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        """[T, D] -> [T, D]."""
        x = x + self._attention(self.attention_norm(x), rotation, attend)
        return x + self._feed_forward(self.feed_forward_norm(x))

    def _attention(self, x: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        heads = self.query_key_value(x).unflatten(-1, (-1, self.head_size))
        rotated = rotation(heads[:, : self.heads + self.kv_heads])
        query, key = rotated.split((self.heads, self.kv_heads), dim=1)
        value = heads[:, self.heads + self.kv_heads :]
        output: Tensor = self.attention_output(attend(self.index, query, key, value).flatten(1))
        return output

    def _feed_forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        output: Tensor = self.down(functional.silu(gate) * up)
        return output


class Llama(nn.Module):
    """The whole network in ``dtype`` on ``device``, from the tensors of a checkpoint under canonical names."""

    def __init__(
        self,
        config: ModelConfig,
        tensors: Tensors,
        dtype: torch.dtype,
        device: torch.device,
        *,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.dtype = dtype
        load = Loader(tensors, dtype, device)
        self.inverse_frequencies = torch.from_numpy(config.rope.inverse_frequencies()).to(device)
        self.embedding = nn.Parameter(load("model.embed_tokens"), requires_grad=False)
        self.layers = nn.ModuleList()
        # Dequantising is numpy, one core each; two layers at a time keep memory low and the disk busy.
        with ThreadPoolExecutor(max_workers=2) as pool:
            for layer in pool.map(lambda index: DecoderLayer(config, index, load), range(config.layers)):
                self.layers.append(layer)
                if progress is not None:
                    progress(len(self.layers), config.layers, "loading layers")
        self.norm = RMSNorm(load("model.norm"), config.norm_epsilon)
        self.head = Linear(load("lm_head") if "lm_head" in load else self.embedding.data)

    def pack(self) -> None:
        """Lay weights out for this machine; the network can then run, but no longer be trained or saved.

        Weights that the embedding shares stay as they are: a second copy would cost more memory than it saves time.
        """
        for module in self.modules():
            if isinstance(module, Linear) and module.weight.data_ptr() != self.embedding.data_ptr():
                module.pack()

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
        logits: Tensor = self.head(hidden).float()
        return logits


@torch.inference_mode()
def reference_logits(config: ModelConfig, tensors: Tensors, tokens: Sequence[int]) -> Tensor:
    """float32 [T, vocabulary] by one full forward in float32, whatever the checkpoint is stored as.

    Layers are dequantised one at a time and dropped again, so this needs memory for one of them, not for a
    float32 copy of the model.
    """
    load = Loader(tensors, torch.float32, torch.device("cpu"))
    embedding = load("model.embed_tokens")
    inverse_frequencies = torch.from_numpy(config.rope.inverse_frequencies())
    rotation = Rotation(torch.arange(len(tokens)), inverse_frequencies, torch.float32)
    x = functional.embedding(torch.tensor(tokens), embedding)
    for index in range(config.layers):
        x = DecoderLayer(config, index, load)(x, rotation, causal_attention)
    x = RMSNorm(load("model.norm"), config.norm_epsilon)(x)
    return functional.linear(x, load("lm_head") if "lm_head" in load else embedding)
