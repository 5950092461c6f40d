"""The CPU through quipu's own kernels: what a model takes there, and loading it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quipu import native
from quipu.engine.footprint import Footprint, vision_kind
from quipu.engine.machine import processor
from quipu.engine.memory import available_memory, peak_memory
from quipu.engine.native_plan import layer_states, output_logits
from quipu.engine.native_runner import NativeRunner
from quipu.engine.native_vision import NativeEncoder
from quipu.engine.packed import packed_weights
from quipu.engine.packed_file import VERSION
from quipu.engine.packing import packed_kinds
from quipu.engine.runner import BLOCK_SIZE, PoolSize
from quipu.model.config import ModelConfig
from quipu.model.image_tokens import place_vectors
from quipu.model.weights import EMBEDDING, OUTPUT, Tensor

log = logging.getLogger(__name__)


class NativeBackend:
    """See ``runner.Backend``.

    ``dtype`` "auto" computes with weights as they are stored: quantised ones in products of bytes. ``quantize``: see
    packing.packed_kind. ``identity`` is what names the packed weights on disk; None keeps them in memory only.
    """

    def __init__(
        self,
        config: ModelConfig,
        tensors: Mapping[str, Tensor],
        *,
        dtype: str = "auto",
        quantize: str | None = None,
        kv_dtype: str = "auto",
        threads: int | None = None,
        identity: Mapping[str, Any] | None = None,
        vision: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._config, self._tensors = config, tensors
        self._vision = vision or {}
        footprint = Footprint.of(config, tensors, self._vision, dtype=dtype, quantize=quantize, kv_dtype=kv_dtype)
        self._kinds = footprint.kinds
        self._identity = None if identity is None else {**identity, "dtype": dtype, "quantize": quantize}
        self._threads = threads or len(os.sched_getaffinity(0))
        self.dtype, self.kv_dtype = footprint.dtype, footprint.kv_dtype
        self._vision_kind = vision_kind(quantize)
        self.weights_bytes = footprint.weights_bytes
        self.block_bytes = footprint.kv_bytes_per_token * BLOCK_SIZE
        self.chunk_block_bytes = footprint.chunk_bytes_per_token * BLOCK_SIZE
        self.chunk = config.chunk if self.chunk_block_bytes else None
        self.packing_loss: float | None = None
        self.reads_from_disk = identity is not None
        self.hardware = f"{processor()}, {self._threads} cores"
        quantised = "" if quantize is None else f", quantised to {quantize}"
        self.version = f"native {VERSION} {native.instruction_sets()[0]}, KV {self.kv_dtype}{quantised}"

    def free_memory(self) -> int:
        """Of this machine and its control group."""
        return available_memory()

    def used_memory(self) -> int:
        """Of this process, mapped files included."""
        return peak_memory()

    def runner(self, pool: PoolSize, progress: Callable[[int, int, str], None] | None = None) -> NativeRunner:
        """Pack the weights, or map what an earlier start packed, and make room for ``pool``."""
        weights = packed_weights(self._tensors, self._kinds, self._identity, threads=self._threads, progress=progress)
        self.packing_loss = weights.loss
        if weights.loss:
            log.info("packing the weights lost %.1e of them (root mean square)", weights.loss)
        return NativeRunner(
            self._config, weights, pool, kv_dtype=self.kv_dtype, threads=self._threads, encoder=self._encoder()
        )

    def _encoder(self) -> NativeEncoder | None:
        if self._config.vision is None or not self._vision:
            return None
        return NativeEncoder(
            self._config.vision,
            self._vision,
            self._vision_kind,
            threads=self._threads,
            instructions=native.instruction_sets()[0],
        )

    def reference(self, ids: Sequence[int], pixels: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Layer by layer, so that no more than one of them is in memory in float32."""
        embedding = self._tensors[EMBEDDING]
        state = embedding.float32()[list(ids)]
        if pixels is not None:
            place_vectors(state, ids, self._config.vision, self._encoded(pixels))
        for index in range(self._config.layers):
            layer = self._float32(f"model.layers.{index}.")
            state = layer_states(self._config, layer, index, state, self._threads)
        names = [name for name in (OUTPUT, "model.norm.weight") if name in self._tensors]
        head = self._float32(*names, *([] if OUTPUT in names else [EMBEDDING]))
        return output_logits(self._config, head, state, self._threads)

    def _encoded(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        assert self._config.vision is not None
        encoder = NativeEncoder(
            self._config.vision, self._vision, "F32", threads=self._threads, instructions=native.instruction_sets()[0]
        )
        *_, vectors = encoder.encode(pixels)
        assert vectors is not None
        return vectors

    def _float32(self, *prefixes: str) -> Any:
        tensors = {name: tensor for name, tensor in self._tensors.items() if name.startswith(prefixes)}
        return packed_weights(tensors, packed_kinds(tensors, "float32", None), None, threads=self._threads)
