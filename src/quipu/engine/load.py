"""From files to a running model: open the checkpoint, plan its memory, build tokenizer, runner and engine."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quipu.engine.backends import Arithmetic
from quipu.engine.draft_model import DraftModel, check_vocabulary
from quipu.engine.engine import Engine
from quipu.engine.kv_cache import blocks_for, chunk_blocks_for
from quipu.engine.local import LocalModel
from quipu.engine.memory import return_freed_memory
from quipu.engine.prompt_lookup import PromptLookup
from quipu.engine.runner import BLOCK_SIZE, Backend, PoolSize
from quipu.engine.scheduler import PROMPT_TOKENS
from quipu.engine.speculate import Drafter
from quipu.errors import InvalidRequest, NotEnoughMemory
from quipu.model.chat_format import ChatFormat
from quipu.model.checkpoint import Checkpoint, open_checkpoint
from quipu.model.config import MOST_CONTEXT
from quipu.model.files import file_states, reading
from quipu.model.lora import ADAPTER_FILES, merged
from quipu.model.tokenizer import Tokenizer
from quipu.types import Facts

SPECULATE = ("auto", "on", "off")
GIB = 1 << 30
log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what is being done) while a model loads."""


def load(
    model: str | Path = "smollm2-135m-instruct",
    *,
    name: str | None = None,
    context: int | None = None,
    concurrency: int = 16,
    queue: int = 256,
    dtype: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    adapter: str | Path | None = None,
    kv_memory: float | None = None,
    kv_dtype: str = "auto",
    quantize: str | None = None,
    runner: str = "auto",
    speculate: str = "auto",
    draft: str | Path | None = None,
    progress: Progress | None = None,
) -> LocalModel:
    """Load ``model`` (a GGUF file, a Hugging Face or Meta folder, a known name) and start its engine.

    ``name`` is what it is called (default: from the file). ``context``: most tokens of prompt and answer (default:
    the model's own, or the power of two that fits the memory). ``concurrency``: answers generated at once; ``queue``:
    requests that may wait beyond them. ``device`` auto is the GPU if there is one. ``runner``: ``native`` are quipu's
    own kernels for the CPU, ``torch`` runs on a GPU, too; auto takes the native one on a CPU. ``dtype`` auto computes
    with weights as they are stored on the native runner; on torch it is float32 for float32 checkpoints, else bfloat16.
    ``quantize`` ("q8", "q4"): make 8 or 4 bits of weights that are stored as floats, native only. ``kv_dtype`` of keys
    and values on the native runner: f16 (auto), int8 or f32. ``threads``: CPU threads (default: all cores).
    ``adapter``: a folder with a PEFT LoRA adapter to merge. ``kv_memory``: GiB for the KV cache (default:
    ``concurrency`` contexts, at most half of the memory that is free once the weights are in). ``speculate``: guess
    tokens ahead and verify several in a step ("on", "off"; auto is on where that cannot change an answer); ``draft``: a
    smaller model of the same vocabulary that guesses, instead of looking up what followed the same words before.

    Raises ModelNotFound, CheckpointError and its kinds, and InvalidRequest for an option that cannot be met.
    """
    _at_least_one(concurrency=concurrency, context=context, threads=threads)
    if kv_memory is not None and not 0 < kv_memory < math.inf:
        raise InvalidRequest(f"kv_memory must be a number of GiB above 0, got {kv_memory}", param="kv_memory")
    if queue < 0:
        raise InvalidRequest(f"queue must be 0 or more, got {queue}", param="queue")
    arithmetic = Arithmetic(runner, device, dtype, kv_dtype, quantize, threads)
    if speculate not in SPECULATE:
        raise InvalidRequest(f"speculate is {speculate!r}; it must be one of {', '.join(SPECULATE)}", param="speculate")
    if draft is not None and speculate == "off":
        raise InvalidRequest("a draft model speculates: give draft, or speculate off, not both", param="draft")
    checkpoint = open_checkpoint(model)
    tensors = checkpoint.tensors
    if adapter is not None:
        tensors = merged(tensors, Path(adapter))
    backend = arithmetic.backend(checkpoint, tensors, _identity(checkpoint, adapter))
    length, pool = _plan(checkpoint, backend, context, concurrency, kv_memory)
    tokenizer = _tokenizer(checkpoint)
    # What can be refused is refused now: not after minutes of loading, nor with an engine running that nobody holds.
    chat_format = _chat_format(checkpoint, tokenizer)
    drafting = None if draft is None else _open_draft(draft, checkpoint, tokenizer)
    # The model keeps its checkpoint for the reference path; the vocabulary in it lives on in the tokenizer.
    checkpoint = replace(checkpoint, metadata={}, tokenizer_source=None)
    checkpoint.check_unchanged()
    computes = backend.runner(pool, progress)
    checkpoint.check_unchanged()  # a file that was written to meanwhile is weights of two models
    return_freed_memory()

    def reference(ids: Sequence[int], pixels: NDArray[np.float32] | None) -> NDArray[np.float32]:
        checkpoint.check_unchanged()  # it reads the files again, long after they were opened
        return backend.reference(ids, pixels)

    drafter: Drafter | None = None
    if drafting is not None:
        try:
            small = arithmetic.backend(drafting, drafting.tensors, _identity(drafting, None))
            reach = min(length, drafting.config.context_length)
            reach, pool = _plan(drafting, small, reach, concurrency, None)
            pool = PoolSize(pool.blocks, pool.blocks if pool.chunk_blocks else 0)
            # The time of a step is that of reading the weights.
            cost = small.weights_bytes / backend.weights_bytes
            guesses = small.runner(pool, progress)
        except BaseException:
            computes.close()
            raise
        drafter = DraftModel(guesses, context_length=reach, vocabulary=computes.vocabulary, cost=cost)
    elif speculate == "on" or (speculate == "auto" and computes.exact):
        drafter = PromptLookup()

    end_ids = {*checkpoint.eos_ids, *(tokenizer.eos_ids if tokenizer else ())}
    return LocalModel(
        Engine(
            computes,
            context_length=length,
            end_ids=end_ids,
            vocabulary=tokenizer.vocabulary if tokenizer else None,
            concurrency=concurrency,
            queue=queue,
            drafter=drafter,
            chunk=backend.chunk,
        ),
        _facts(checkpoint, name, backend.dtype),
        tokenizer,
        chat_format,
        sampling_defaults=checkpoint.sampling_defaults,
        reference=reference,
        file_hash=lambda: files_hash(checkpoint, adapter),
        hardware=backend.hardware,
        runner=backend.version,
        packing_loss=backend.packing_loss,
        peak_memory=backend.used_memory,
        vision=checkpoint.config.vision,
    )


def files_hash(checkpoint: Checkpoint, adapter: str | Path | None = None) -> str:
    """SHA-256, in hex, of the checkpoint's files; with an adapter, of the lines of its hash and the adapter's files'.

    Raises DamagedCheckpoint where a file is not the one that was opened, ModelNotFound for an adapter that is gone.
    """
    own = checkpoint.file_hash()
    if adapter is None:
        return own
    lines = [own]
    for name in ADAPTER_FILES:
        path = Path(adapter) / name
        with reading(path):
            lines.append(hashlib.sha256(path.read_bytes()).hexdigest())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _at_least_one(**options: int | None) -> None:
    for option, value in options.items():
        if value is not None and value < 1:
            raise InvalidRequest(f"{option} must be 1 or more, got {value}", param=option)


def _identity(checkpoint: Checkpoint, adapter: str | Path | None) -> dict[str, Any]:
    """What names a checkpoint's packed weights: its files as they are now, and the adapter's."""
    states = dict(checkpoint.states)
    if adapter is not None:
        states |= file_states(Path(adapter) / name for name in ADAPTER_FILES)
    return {"files": [[str(path.resolve()), *state] for path, state in sorted(states.items())]}


def _plan(
    checkpoint: Checkpoint, backend: Backend, context: int | None, concurrency: int, kv_memory: float | None
) -> tuple[int, PoolSize]:
    """Context length in tokens and size of the KV cache; raises InvalidRequest where memory is too small."""
    own = checkpoint.config.context_length
    if context is not None and context > own:
        raise InvalidRequest(
            f"context {context} is more than the {own} tokens this model was made for", param="context"
        )
    free, weights = backend.free_memory(), backend.weights_bytes
    left = free - weights
    if backend.reads_from_disk and left < free // 4:
        left = free // 4  # the rest of the weights is read from disk, again and again: slow, but it runs
        log.warning(
            "the weights take %.1f GiB and %.1f GiB of memory are free: part of them is read from disk for every token",
            weights / GIB, free / GIB,
        )  # fmt: skip
    if left < _bytes_of(backend, _one_context(backend, 1)):
        raise NotEnoughMemory(
            f"the weights take {weights / GIB:.1f} GiB in {backend.dtype} and {free / GIB:.1f} GiB of memory are "
            "free; close other programs or choose a smaller model"
        )
    room = int(left / 2 if kv_memory is None else kv_memory * GIB)
    length = context or min(own, _longest(backend, room))
    one = _one_context(backend, length)
    each = _bytes_of(backend, one)
    if each > room:
        raise (NotEnoughMemory if kv_memory is None else InvalidRequest)(
            f"one context of {length} tokens takes {each / GIB:.2f} GiB of KV cache and {room / GIB:.2f} GiB may be "
            "used; ask for a smaller --context or more --kv-memory",
            param="context",
        )
    room = min(room, each * concurrency)
    pool = PoolSize(one.blocks * room // each, one.chunk_blocks * room // each)
    cache = _bytes_of(backend, pool)
    if cache > left:
        raise NotEnoughMemory(
            f"the weights take {weights / GIB:.1f} GiB in {backend.dtype}, the KV cache {cache / GIB:.1f} GiB as "
            f"asked, and {free / GIB:.1f} GiB of memory are free; ask for less --kv-memory, or for a smaller --context "
            "or --concurrency",
            param="kv_memory",
        )
    return length, pool


def _one_context(backend: Backend, length: int) -> PoolSize:
    """What one sequence of ``length`` tokens takes at most."""
    chunked = 0 if backend.chunk is None else chunk_blocks_for(length, backend.chunk, PROMPT_TOKENS)
    return PoolSize(blocks_for(length), chunked)


def _bytes_of(backend: Backend, pool: PoolSize) -> int:
    return pool.blocks * backend.block_bytes + pool.chunk_blocks * backend.chunk_block_bytes


def _longest(backend: Backend, room: int) -> int:
    """The longest context, a power of two, whose cache takes ``room`` bytes; a block if none does.

    Free memory is another each time; the context has to be the same, or a measurement would not go on tomorrow.
    """
    length = BLOCK_SIZE
    while length < MOST_CONTEXT and _bytes_of(backend, _one_context(backend, 2 * length)) <= room:
        length *= 2
    return length


def _open_draft(draft: str | Path, checkpoint: Checkpoint, tokenizer: Tokenizer | None) -> Checkpoint:
    """The checkpoint of the draft model; raises InvalidRequest where its tokens are not those of ``checkpoint``."""
    opened = open_checkpoint(draft)
    own = _tokenizer(opened)
    if tokenizer is None or own is None:
        without = checkpoint.name if tokenizer is None else opened.name
        raise InvalidRequest(
            f"{without} has no tokenizer beside its weights, so nothing says that {opened.name} and {checkpoint.name} "
            "have the same vocabulary",
            param="draft",
        )
    check_vocabulary(tokenizer, own, checkpoint.name, opened.name)
    return replace(opened, metadata={}, tokenizer_source=None)


def _tokenizer(checkpoint: Checkpoint) -> Tokenizer | None:
    match checkpoint.tokenizer_source:
        case ("gguf", metadata):
            return Tokenizer.from_gguf(metadata)
        case ("json", path):
            return Tokenizer.from_json(path)
        case ("tiktoken", path):
            # Meta's file names no special tokens: whose they are, the weights tell.
            return Tokenizer.from_tiktoken(path, "llama4" if checkpoint.config.architecture == "llama4" else "llama3")
        case _:
            return None


_FAMILY_MARKS = {
    "llama3": {"<|start_header_id|>", "<|eot_id|>"},
    "llama4": {"<|header_start|>", "<|eot|>"},
}
"""Special tokens by which the vocabulary of one of Meta's families is known."""


def _chat_format(checkpoint: Checkpoint, tokenizer: Tokenizer | None) -> ChatFormat | None:
    """The checkpoint's own template, else Meta's format if the tokenizer has its special tokens."""
    if tokenizer is None:
        return None
    family = next((name for name, marks in _FAMILY_MARKS.items() if marks <= tokenizer.specials.keys()), None)
    if checkpoint.chat_template is None and family is None:
        return None
    return ChatFormat(tokenizer, checkpoint.chat_template, family, vision=checkpoint.config.vision)


def _facts(checkpoint: Checkpoint, name: str | None, dtype: str) -> Facts:
    config = checkpoint.config
    return Facts(
        name=name or checkpoint.name,
        architecture=config.architecture,
        parameters=checkpoint.parameters,
        layers=config.layers,
        hidden_size=config.hidden_size,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_size=config.head_size,
        vocabulary=config.vocabulary,
        context_length=config.context_length,
        quantization=checkpoint.quantization,
        dtype=dtype,
        file=str(checkpoint.path),
        license=checkpoint.license,
    )
