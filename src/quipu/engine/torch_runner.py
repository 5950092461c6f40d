"""The Runner that computes with torch, on the CPU or a GPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from quipu.engine.machine import processor
from quipu.engine.memory import available_memory, peak_memory
from quipu.engine.runner import BLOCK_SIZE, Encoder, PoolSize, Span
from quipu.errors import InvalidRequest
from quipu.model.attention import Extent, PagedCache
from quipu.model.checkpoint import memory_plan
from quipu.model.config import ModelConfig
from quipu.model.decoder import Loader, Tensors
from quipu.model.image_tokens import patch_rows
from quipu.model.llama import Llama, reference_logits
from quipu.model.vision import VisionEncoder


def find_device(device: str) -> torch.device:
    """``auto`` is the GPU if torch sees one, else the CPU. Raises InvalidRequest for one that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidRequest(f"device {device!r} cannot be used: {reason}; try cpu", param="device") from None
    return found


class TorchBackend:
    """See ``runner.Backend``. ``dtype`` is bfloat16, float16 or float32."""

    reads_from_disk = False
    packing_loss = None
    version = f"torch {torch.__version__}"

    def __init__(
        self,
        config: ModelConfig,
        tensors: Tensors,
        dtype: str,
        device: torch.device,
        threads: int | None,
        vision: Tensors | None = None,
    ) -> None:
        plan = memory_plan(config, dtype=dtype, context=BLOCK_SIZE, concurrency=1, block_size=BLOCK_SIZE)
        self.dtype = dtype
        self._vision = vision or {}
        self.weights_bytes = plan.weights_bytes
        self.block_bytes = plan.kv_bytes_per_token * BLOCK_SIZE
        self.chunk_block_bytes = plan.chunk_bytes_per_token * BLOCK_SIZE
        self.chunk = config.chunk if self.chunk_block_bytes else None
        self._config, self._tensors, self._device = config, tensors, device
        self._threads = threads or len(os.sched_getaffinity(0))
        on_gpu = device.type == "cuda"
        self.hardware = torch.cuda.get_device_name(device) if on_gpu else f"{processor()}, {self._threads} cores"

    def free_memory(self) -> int:
        """Of the GPU, or of this machine and its control group."""
        if self._device.type == "cuda":
            return int(torch.cuda.mem_get_info(self._device)[0])
        return available_memory()

    def used_memory(self) -> int:
        """Of the GPU, or of this process."""
        return int(torch.cuda.max_memory_allocated(self._device)) if self._device.type == "cuda" else peak_memory()

    def runner(self, pool: PoolSize, progress: Callable[[int, int, str], None] | None = None) -> TorchRunner:
        """Build the network from the checkpoint's tensors and make room for ``pool``."""
        torch.set_num_threads(self._threads)
        dtype = getattr(torch, self.dtype)
        network = Llama(self._config, self._tensors, dtype, self._device, progress=progress)
        network.pack()
        sees = self._config.vision is not None and bool(self._vision)
        encoder = TorchEncoder(self._encoder(dtype, self._device)) if sees else None
        return TorchRunner(network, pool, encoder)

    def reference(self, ids: Sequence[int], pixels: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """See ``llama.reference_logits``."""
        given = None
        if pixels is not None:
            *_, vectors = TorchEncoder(self._encoder(torch.float32, torch.device("cpu"))).encode(pixels)
            assert vectors is not None
            rows = patch_rows(ids, self._config.vision, len(vectors))
            given = torch.from_numpy(rows), torch.from_numpy(vectors)
        return np.asarray(reference_logits(self._config, self._tensors, ids, given).numpy())

    def _encoder(self, dtype: torch.dtype, device: torch.device) -> VisionEncoder:
        assert self._config.vision is not None
        return VisionEncoder(self._config.vision, Loader(self._vision, dtype, device))


class TorchEncoder:
    """See ``runner.Encoder``; a layer of one tile is a piece of its work."""

    def __init__(self, network: VisionEncoder) -> None:
        self._network = network

    def encode(self, pixels: NDArray[np.float32]) -> Iterator[NDArray[np.float32] | None]:
        """See ``runner.Encoder``."""
        found = []
        for tile in torch.from_numpy(pixels).to(self._network.projector.device, self._network.projector.dtype):
            steps = []
            for state in self._network.steps(tile[None]):
                steps = [state]
                yield None
            found.append(steps[0][0].float().cpu().numpy())
        yield np.concatenate(found)


class TorchRunner:
    """Holds the network and its KV cache of the size of ``pool``; see ``runner.Runner``."""

    exact = False  # a matrix product rounds by the shape of its batch

    def __init__(self, network: Llama, pool: PoolSize, encoder: Encoder | None = None) -> None:
        self.pool, self.encoder = pool, encoder
        self.vocabulary = network.config.vocabulary
        self._network: Llama | None = network
        self._device = network.embedding.device
        self._cache: PagedCache | None = PagedCache(
            network.config, pool.blocks, BLOCK_SIZE, network.dtype, self._device, pool.chunk_blocks
        )

    @torch.inference_mode()
    def step(self, spans: Sequence[Span]) -> list[NDArray[np.float32]]:
        """One forward over all tokens of ``spans``; the output layer only for the rows that are wanted."""
        if self._network is None or self._cache is None:
            raise RuntimeError("the runner is closed")
        tokens = [token for span in spans for token in span.tokens]
        positions = [span.start + place for span in spans for place in range(len(span.tokens))]
        attend = self._cache.plan(
            [Extent(span.start, len(span.tokens), span.blocks) for span in spans],
            [Extent(span.start, len(span.tokens), span.chunk_blocks) for span in spans],
        )
        hidden = self._network(self._indices(tokens), self._indices(positions), attend, self._given(spans))
        states = hidden.split([len(span.tokens) for span in spans])
        results = self._logits(self._network, hidden, spans)
        return [
            state.float().cpu().numpy() if span.want == "hidden" else result
            for span, state, result in zip(spans, states, results, strict=True)
        ]

    def _given(self, spans: Sequence[Span]) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Rows of the step whose embeddings are given, and what they are."""
        starts = np.cumsum([0, *(len(span.tokens) for span in spans)])
        given = [(span.seen[0] + start, span.seen[1]) for span, start in zip(spans, starts, strict=False) if span.seen]
        if not given:
            return None
        rows, values = (torch.from_numpy(np.concatenate(each)).to(self._device) for each in zip(*given, strict=True))
        return rows, values

    def _logits(self, network: Llama, hidden: torch.Tensor, spans: Sequence[Span]) -> list[NDArray[np.float32]]:
        rows, counts = _wanted_rows(spans)
        if not rows:
            return [np.empty((0, self.vocabulary), np.float32) for _ in spans]
        logits = network.logits(hidden[self._indices(rows)]).cpu().numpy()
        return np.split(logits, np.cumsum(counts)[:-1])

    def close(self) -> None:
        """Drop the network and the cache."""
        self._network = self._cache = None

    def _indices(self, values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)


def _wanted_rows(spans: Sequence[Span]) -> tuple[list[int], list[int]]:
    """Rows of the hidden state whose logits are wanted, and how many belong to each span."""
    rows: list[int] = []
    counts = []
    start = 0
    for span in spans:
        end = start + len(span.tokens)
        wanted = {"all": range(start, end), "last": range(end - 1, end), "none": range(0), "hidden": range(0)}[
            span.want
        ]
        rows.extend(wanted)
        counts.append(len(wanted))
        start = end
    return rows, counts
