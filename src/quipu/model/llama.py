"""The whole network of a Llama on torch, and the float32 reference. Its layers are in ``decoder`` and ``llama4``.

Touvron et al. 2023, Grattafiori et al. 2024. Pre-norm blocks of grouped-query attention and SwiGLU. The query,
key and value products are one matrix, and so are gate and up: fewer, larger products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn
from torch.nn import functional

from quipu.model.attention import Attend, whole_sequence
from quipu.model.config import ModelConfig
from quipu.model.decoder import DecoderLayer, Loader, RMSNorm, Tensors
from quipu.model.linear import Linear
from quipu.model.llama4 import Llama4Layer
from quipu.model.rope import Positions


def decoder_layer(config: ModelConfig, index: int, load: Loader) -> DecoderLayer:
    """The layer ``index`` of a model of either family."""
    kind = Llama4Layer if config.architecture == "llama4" else DecoderLayer
    return kind(config, index, load.under(f"model.layers.{index}."))


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
            for layer in pool.map(lambda index: decoder_layer(config, index, load), range(config.layers)):
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

    def forward(
        self, tokens: Tensor, positions: Tensor, attend: Attend, given: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """tokens and positions int64 [T] -> the final, normed hidden state [T, D].

        ``given``: rows, int64 [n], whose embeddings are not their tokens', and what they are, [n, D].
        """
        placed = Positions(positions, self.config, self.inverse_frequencies, self.dtype)
        x = functional.embedding(tokens, self.embedding)
        if given is not None:
            x = x.index_copy(0, given[0], given[1].to(x.dtype))
        for layer in self.layers:
            x = layer(x, placed, attend)
        hidden: Tensor = self.norm(x)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """[rows, D] -> float32 [rows, vocabulary]."""
        logits: Tensor = self.head(hidden).float()
        return logits


@torch.inference_mode()
def reference_logits(
    config: ModelConfig, tensors: Tensors, tokens: Sequence[int], given: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """float32 [T, vocabulary] by one full forward in float32, whatever the checkpoint is stored as.

    ``given``: see Llama.forward.

    Layers are dequantised one at a time and dropped again, so this needs memory for one of them, not for a
    float32 copy of the model.
    """
    load = Loader(tensors, torch.float32, torch.device("cpu"))
    embedding = load("model.embed_tokens")
    inverse_frequencies = torch.from_numpy(config.rope.inverse_frequencies())
    positions = Positions(torch.arange(len(tokens)), config, inverse_frequencies, torch.float32)
    attend = whole_sequence(config)
    x = functional.embedding(torch.tensor(tokens), embedding)
    if given is not None:
        x = x.index_copy(0, *given)
    for index in range(config.layers):
        x = decoder_layer(config, index, load)(x, positions, attend)
    x = RMSNorm(load("model.norm"), config.norm_epsilon)(x)
    return functional.linear(x, load("lm_head") if "lm_head" in load else embedding)
