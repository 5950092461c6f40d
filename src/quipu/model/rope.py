"""What positions do to queries and keys: rotary embedding in two layouts, and attention temperature.

Frequencies come from ``config.Rope.inverse_frequencies``; angles are computed in float32 (Su et al. 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor

from quipu.model.config import ModelConfig


class Positions:
    """The positions of one step's tokens, and what all layers take from them.

    Within chunked attention only distances inside a chunk are seen: angles are taken from its start, for at position
    10,000,000 those of float32 are off by half a radian.
    """

    def __init__(self, positions: Tensor, config: ModelConfig, inverse_frequencies: Tensor, dtype: torch.dtype) -> None:
        """``positions`` int64 [T]; ``inverse_frequencies`` float32 [head_size / 2] on the same device."""
        self._positions, self._temperature = positions, config.temperature
        rotated = positions if config.chunk is None else positions % config.chunk
        angles = rotated.to(torch.float32)[:, None, None] * inverse_frequencies
        self._cos, self._sin = angles.cos(), angles.sin()
        self.rotate = self._rotate_pairs if config.pair_rotation else self._rotate_halves
        if not config.pair_rotation:  # transformers rounds the factors for one layout, the products for the other
            self._cos, self._sin = self._cos.to(dtype), self._sin.to(dtype)

    def _rotate_halves(self, heads: Tensor) -> Tensor:
        """[T, heads, head_size]: the first half of each head is paired with the second."""
        first, second = heads.chunk(2, dim=-1)
        return torch.cat((first * self._cos - second * self._sin, second * self._cos + first * self._sin), dim=-1)

    def _rotate_pairs(self, heads: Tensor) -> Tensor:
        """[T, heads, head_size]: each even element is paired with the odd one after it; computed in float32."""
        even, odd = heads.float().unflatten(-1, (-1, 2)).unbind(-1)
        pairs = torch.stack((even * self._cos - odd * self._sin, odd * self._cos + even * self._sin), dim=-1)
        return pairs.flatten(-2).to(heads.dtype)

    def sharpen(self, query: Tensor) -> Tensor:
        """[T, H, D], multiplied by the temperature at each token's place in the text; computed in float32."""
        if self._temperature is None:
            return query
        steps = torch.floor((self._positions.to(torch.float64) + 1) / self._temperature.floor)
        factor = 1 + self._temperature.scale * torch.log1p(steps)
        return (query.float() * factor.to(torch.float32)[:, None, None]).to(query.dtype)
