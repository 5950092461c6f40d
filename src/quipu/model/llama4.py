"""What differs in Llama 4's text model: layers without rotation, normed queries and keys, temperature, experts.

Meta 2025; the modules of transformers' modeling_llama4 are the oracle. Which keys a layer sees is its ``Attend``'s.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quipu.model.config import ModelConfig
from quipu.model.decoder import DecoderLayer, Loader, over_root_mean_square
from quipu.model.moe import MixtureOfExperts
from quipu.model.rope import Positions


class Llama4Layer(DecoderLayer):
    """A layer with rotation, whose attention is chunked, or one without, which sees everything before a token."""

    def __init__(self, config: ModelConfig, index: int, load: Loader) -> None:
        super().__init__(config, index, load)
        self.rotates = index not in config.nope_layers
        self.norm_epsilon = config.norm_epsilon if config.query_key_norm and self.rotates else None

    def make_feed_forward(self, config: ModelConfig, load: Loader) -> nn.Module:
        """See DecoderLayer."""
        if config.experts is None or not config.has_experts(self.index):
            return super().make_feed_forward(config, load)
        return MixtureOfExperts(config.experts.count, load)

    def placed(self, heads: Tensor, positions: Positions) -> Tensor:
        """See DecoderLayer. Normed after the rotation; only queries of layers without rotation get a temperature."""
        if not self.rotates:
            query, key = heads.split((self.heads, self.kv_heads), dim=1)
            return torch.cat((positions.sharpen(query), key), dim=1)
        rotated = positions.rotate(heads)
        return rotated if self.norm_epsilon is None else over_root_mean_square(rotated, self.norm_epsilon)
