"""Rotary position embedding on torch tensors, in the half-split layout of Hugging Face's Llama 3 checkpoints.

Frequencies come from ``config.Rope.inverse_frequencies``; angles are computed in float32 (Su et al. 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor


class Rotation:
    """cos and sin of every angle of one step, [T, 1, head_size / 2] in the working dtype, shared by all layers."""

    def __init__(self, positions: Tensor, inverse_frequencies: Tensor, dtype: torch.dtype) -> None:
        """``positions`` int64 [T]; ``inverse_frequencies`` float32 [head_size / 2] on the same device."""
        angles = positions.to(torch.float32)[:, None, None] * inverse_frequencies
        self.cos = angles.cos().to(dtype)
        self.sin = angles.sin().to(dtype)

    def __call__(self, heads: Tensor) -> Tensor:
        """Rotate [T, heads, head_size]: the first half of each head is paired with the second."""
        first, second = heads.chunk(2, dim=-1)
        return torch.cat((first * self.cos - second * self.sin, second * self.cos + first * self.sin), dim=-1)
