"""What a tile of a picture costs, beside torch and the machine's limit: ``python bench/vision.py [THREADS]``.

Encoders of random weights: a small one, and one of Llama 4's own shape (hidden 1408, 16 heads, 577 positions), of whose
34 layers three are timed and counted as all. Rounds alternate, and the median of each counts: other work on the machine
slows all of them. The limit is how fast this machine multiplies float32 (``quipu.bench.limits``), twice that in
bfloat16 and four times in 8 bits, where the processor has instructions for them. Ours makes bfloat16 weights float32.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from quipu import native
from quipu.bench.limits import INT8, Limits
from quipu.engine.native_vision import NativeEncoder
from quipu.engine.torch_runner import TorchEncoder
from quipu.model.config import VisionConfig
from quipu.model.decoder import Loader
from quipu.model.vision import VisionEncoder
from quipu.model.weights import Tensor, float_tensor, vision_shapes

LLAMA4 = VisionConfig(1408, 5632, 34, 16, 336, 14, 4096, 2, 10000.0, 200092)
SMALL = VisionConfig(384, 1536, 12, 6, 336, 14, 1024, 2, 10000.0, 200092)
SHAPES = {"small": (SMALL, 12, 1024), "Llama 4": (LLAMA4, 3, 5120)}
"""Configuration, layers that are timed, width of the text model."""
ROUNDS = 3
THEIRS = {"torch float32": torch.float32, "torch bfloat16": torch.bfloat16}
OURS = {"quipu F32": "F32", "quipu BF16": "BF16", "quipu Q8_0": "Q8_0"}
TIMES = {"torch bfloat16": 2, "quipu Q8_0": INT8}
"""The limit of those, in that of float32."""
Encode = Callable[[NDArray[np.float32]], Iterator[NDArray[np.float32] | None]]


@dataclass
class Timed:
    """An encoder, and what its rounds gave: seconds of a layer, and of all else of a tile."""

    encode: Encode
    vectors: NDArray[np.float32]
    layer: list[float] = field(default_factory=list)
    rest: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, encode: Encode, pixels: NDArray[np.float32]) -> Timed:
        """``encode`` with what it makes of ``pixels``, which warms it up, too."""
        *_, vectors = encode(pixels)
        assert vectors is not None
        return cls(encode, vectors)

    def measure(self, pixels: NDArray[np.float32], layers: int) -> None:
        """One tile. Of its parts, those between the first and the last layer are one layer each."""
        times = [time.perf_counter()]
        times += [time.perf_counter() for _ in self.encode(pixels)]
        parts = np.diff(times).tolist()
        layer = statistics.median(parts[1:layers])
        self.layer.append(layer)
        self.rest.append(sum(parts) - layers * layer)

    def seconds(self, layers: int) -> float:
        """Of a tile through so many layers."""
        return layers * statistics.median(self.layer) + statistics.median(self.rest)


def layer_operations(config: VisionConfig) -> int:
    """Additions and multiplications of a layer for a tile: its matrix products, and attention of all to all."""
    positions, width = config.patches_a_side**2 + 1, config.hidden_size
    return 2 * positions * (4 * width**2 + 2 * width * config.intermediate_size) + 4 * positions**2 * width


def other_operations(config: VisionConfig, text_width: int) -> int:
    """Of patches, adapter and projector."""
    adapter, shuffled = config.adapter_size, config.hidden_size * config.shuffle**2
    patches = 2 * config.patches_a_side**2 * 3 * config.patch_size**2 * config.hidden_size
    return patches + 2 * config.tile_tokens * adapter * (shuffled + adapter + text_width)


def random_tensors(config: VisionConfig, text_width: int) -> dict[str, Tensor]:
    """Weights that keep activations near 1, rounded to bfloat16, as they are published."""
    random = np.random.default_rng(0)
    tensors = {}
    for name, shape in vision_shapes(config, text_width).items():
        values = random.standard_normal(shape, np.float32)
        values = values * shape[-1] ** -0.5 if len(shape) == 2 else 0.1 * values + ("norm" in name and "weight" in name)
        tensors[name] = float_tensor(name, values, "BF16")
    return tensors


def encoders(config: VisionConfig, text_width: int, threads: int) -> Iterator[tuple[str, Encode]]:
    tensors = random_tensors(config, text_width)
    for name, dtype in THEIRS.items():
        yield name, TorchEncoder(VisionEncoder(config, Loader(tensors, dtype, torch.device("cpu")))).encode
    for name, kind in OURS.items():
        best = native.instruction_sets()[0]
        yield name, NativeEncoder(config, tensors, kind, threads=threads, instructions=best).encode


def compare(name: str, threads: int, limits: Limits) -> None:
    """Print what each encoder of one shape takes."""
    whole, layers, text_width = SHAPES[name]
    config = replace(whole, layers=layers)
    pixels = np.random.default_rng(1).uniform(-1, 1, (1, 3, config.tile_size, config.tile_size)).astype(np.float32)
    timed = {each: Timed.of(encode, pixels) for each, encode in encoders(config, text_width, threads)}
    limit = []
    for _ in range(ROUNDS):
        limit.append(limits.multiply())
        for each in timed.values():
            each.measure(pixels, layers)
    most = max(limit)
    operations = whole.layers * layer_operations(config) + other_operations(config, text_width)
    print(f"{name}, {threads} threads, {layers} of {whole.layers} layers timed: ", end="")
    print(f"{operations / 1e9:.0f} G operations a tile; float32 is multiplied at {most:.0f} G/s")
    exact = timed["torch float32"].vectors
    peer = timed["torch float32"].seconds(whole.layers)
    for each, one in timed.items():
        seconds = one.seconds(whole.layers)
        reached = operations / seconds / 1e9
        share = reached / most / TIMES.get(each, 1)
        off = np.abs(one.vectors - exact).max() / np.abs(exact).max()
        print(
            f"  {each:14} {seconds * 1000:7.0f} ms a tile, {reached:4.0f} G/s, {share:4.0%} of the limit, "
            f"x{peer / seconds:.2f} of torch float32, off by {off:.1e}"
        )


def main(threads: int) -> None:
    torch.set_num_threads(threads)
    limits = Limits(threads, size=1 << 20)
    for name in SHAPES:
        compare(name, threads, limits)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else len(os.sched_getaffinity(0)))
