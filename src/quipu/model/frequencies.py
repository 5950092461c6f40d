"""Rotary frequencies: how fast each pair of a head turns with position, and how longer contexts stretch that."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from quipu.model.config import VisionConfig


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the context of pretraining.

    ``linear`` divides every frequency by ``factor``. ``llama3`` does so for wavelengths above
    ``original_context_length / low_frequency_factor`` only, leaves those below ``original_context_length /
    high_frequency_factor`` as they are, and blends between. ``linear`` ignores the last three fields.
    """

    kind: Literal["llama3", "linear"]
    factor: float
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_context_length: int = 8192


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding over all of a head. ``divisors`` (head_size / 2 of them) come from a GGUF's
    ``rope_freqs.weight``, which carries Llama 3 scaling as a table."""

    theta: float
    head_size: int
    scaling: RopeScaling | None = None
    divisors: tuple[float, ...] | None = None

    def inverse_frequencies(self) -> NDArray[np.float32]:
        """Radians per position, float32 [head_size / 2], as transformers computes them (modeling_rope_utils).

        The power is taken in float64 and rounded once: that equals torch's float32 power bit for bit, numpy's not.
        """
        exponents = np.arange(0, self.head_size, 2, dtype=np.float32) / np.float32(self.head_size)
        powers: NDArray[np.float32] = np.power(np.float64(self.theta), exponents.astype(np.float64)).astype(np.float32)
        inverse: NDArray[np.float32] = np.float32(1) / powers
        if self.divisors is not None:
            inverse = np.divide(inverse, self.divisors, dtype=np.float32)
        if self.scaling is None:
            return inverse
        if self.scaling.kind == "linear":
            return inverse / np.float32(self.scaling.factor)
        return _llama3_scaled(inverse, self.scaling)


def _llama3_scaled(inverse: NDArray[np.float32], scaling: RopeScaling) -> NDArray[np.float32]:
    """Llama 3.1's frequency scaling, in float32 throughout as transformers' _compute_llama3_parameters has it."""
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    wavelength = np.float32(2 * math.pi) / inverse
    slow = wavelength > np.float32(scaling.original_context_length / low)
    fast = wavelength < np.float32(scaling.original_context_length / high)
    stretched = inverse / np.float32(scaling.factor)
    result = np.where(slow, stretched, inverse)
    if high == low:  # the band between is empty, and blending over it would divide zero by zero
        return result
    original = np.float32(scaling.original_context_length)
    share = (original / wavelength - np.float32(low)) / np.float32(high - low)
    blended = (np.float32(1) - share) * inverse / np.float32(scaling.factor) + share * inverse
    return np.where(slow | fast, result, blended)


def vision_angles(config: VisionConfig) -> NDArray[np.float32]:
    """Of each patch of a tile, row by row, then of the class token: radians, float32 [patches + 1, head size / 2].

    Rotation in two dimensions: the first half of a head's pairs turns with the column, the second with the row. Both
    count from 1; the class token is not rotated.
    """
    side, pairs = config.patches_a_side, config.hidden_size // config.heads // 4
    frequencies = Rope(config.rope_theta, 2 * pairs).inverse_frequencies()
    row, column = np.divmod(np.arange(side * side, dtype=np.float32), np.float32(side))
    halves = [(place + 1)[:, None] * frequencies for place in (column, row)]
    angles = np.zeros((side * side + 1, 2 * pairs), np.float32)
    angles[:-1] = np.concatenate(halves, axis=1)
    return angles
