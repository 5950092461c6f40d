"""From files to a running model: open the checkpoint, plan its memory, build tokenizer, runner and engine."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from quipu.engine.engine import Engine
from quipu.engine.kv_cache import blocks_for
from quipu.engine.local import LocalModel
from quipu.engine.memory import return_freed_memory
from quipu.engine.runner import BLOCK_SIZE
from quipu.errors import InvalidRequest, NotEnoughMemory
from quipu.model.chat_format import ChatFormat
from quipu.model.checkpoint import Checkpoint, memory_plan, open_checkpoint
from quipu.model.files import reading
from quipu.model.lora import ADAPTER_FILES, merged
from quipu.model.tokenizer import Tokenizer
from quipu.types import Facts

DTYPES = ("auto", "bfloat16", "float16", "float32")
GIB = 1 << 30

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
    progress: Progress | None = None,
) -> LocalModel:
    """Load ``model`` (a GGUF file, a Hugging Face or Meta folder, a known name) and start its engine.

    ``name`` is what it is called (default: from the file). ``context``: most tokens of prompt and answer (default:
    the model's own, or the power of two that fits the memory). ``concurrency``: answers generated at once; ``queue``:
    requests that may wait beyond them. ``dtype`` auto is float32 for float32 checkpoints, else bfloat16. ``device``
    auto is the GPU if there is one. ``threads``: CPU threads (default: all cores). ``adapter``: a folder with a PEFT
    LoRA adapter to merge. ``kv_memory``: GiB for the KV cache (default: ``concurrency`` contexts, at most half of the
    memory that is free once the weights are in).

    Raises ModelNotFound, CheckpointError and its kinds, and InvalidRequest for an option that cannot be met.
    """
    _at_least_one(concurrency=concurrency, context=context, threads=threads)
    if kv_memory is not None and not 0 < kv_memory < math.inf:
        raise InvalidRequest(f"kv_memory must be a number of GiB above 0, got {kv_memory}", param="kv_memory")
    if queue < 0:
        raise InvalidRequest(f"queue must be 0 or more, got {queue}", param="queue")
    if dtype not in DTYPES:
        raise InvalidRequest(f"dtype is {dtype!r}; it must be one of {', '.join(DTYPES)}", param="dtype")
    torch_runner = _torch_runner()
    where = torch_runner.find_device(device)
    checkpoint = open_checkpoint(model)
    tensors = checkpoint.tensors
    if adapter is not None:
        tensors = merged(tensors, Path(adapter))
    run_dtype = checkpoint.run_dtype(dtype)
    length, blocks = _plan(checkpoint, run_dtype, torch_runner.free_memory(where), context, concurrency, kv_memory)
    tokenizer = _tokenizer(checkpoint)
    # What can be refused is refused now: not after minutes of loading, nor with an engine running that nobody holds.
    chat_format = _chat_format(checkpoint, tokenizer)
    # The model keeps its checkpoint for the reference path; the vocabulary in it lives on in the tokenizer.
    checkpoint = replace(checkpoint, metadata={}, tokenizer_source=None)
    checkpoint.check_unchanged()
    runner = torch_runner.TorchRunner.load(
        checkpoint.config, tensors, run_dtype, where, blocks, threads=threads, progress=progress
    )
    checkpoint.check_unchanged()  # a file that was written to meanwhile is weights of two models
    return_freed_memory()

    def reference(ids: Sequence[int]) -> NDArray[np.float32]:
        checkpoint.check_unchanged()  # it reads the files again, long after they were opened
        logits: NDArray[np.float32] = torch_runner.reference(checkpoint.config, tensors, ids)
        return logits

    end_ids = {*checkpoint.eos_ids, *(tokenizer.eos_ids if tokenizer else ())}
    return LocalModel(
        Engine(
            runner,
            context_length=length,
            end_ids=end_ids,
            vocabulary=tokenizer.vocabulary if tokenizer else None,
            concurrency=concurrency,
            queue=queue,
        ),
        _facts(checkpoint, name, run_dtype),
        tokenizer,
        chat_format,
        sampling_defaults=checkpoint.sampling_defaults,
        reference=reference,
        file_hash=lambda: files_hash(checkpoint, adapter),
        hardware=torch_runner.hardware(where, threads),
        runner=torch_runner.version(),
        peak_memory=lambda: torch_runner.used_memory(where),
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


def _torch_runner() -> ModuleType:
    try:
        from quipu.engine import torch_runner
    except ImportError as error:
        raise InvalidRequest(
            f"running a model needs torch, which could not be imported ({error}); install it with: "
            "pip install 'quipu-llama[torch]'"
        ) from error
    return torch_runner


def _plan(
    checkpoint: Checkpoint, dtype: str, free: int, context: int | None, concurrency: int, kv_memory: float | None
) -> tuple[int, int]:
    """Context length in tokens and size of the KV cache in blocks; raises InvalidRequest where memory is too small."""
    own = checkpoint.config.context_length
    if context is not None and context > own:
        raise InvalidRequest(
            f"context {context} is more than the {own} tokens this model was made for", param="context"
        )
    plan = memory_plan(checkpoint.config, dtype=dtype, context=BLOCK_SIZE, concurrency=1, block_size=BLOCK_SIZE)
    per_block = plan.kv_bytes
    left = free - plan.weights_bytes
    if left < per_block:
        raise NotEnoughMemory(
            f"the weights take {plan.weights_bytes / GIB:.1f} GiB in {dtype} and {free / GIB:.1f} GiB of memory are "
            "free; close other programs or choose a smaller model"
        )
    room = int(left / 2 if kv_memory is None else kv_memory * GIB) // per_block
    # Free memory is another each time; the context has to be the same, or a measurement would not go on tomorrow.
    fits = 1 << (max(1, room) * BLOCK_SIZE).bit_length() - 1
    length = context or min(own, fits)
    if blocks_for(length) > room:
        raise (NotEnoughMemory if kv_memory is None else InvalidRequest)(
            f"one context of {length} tokens takes {blocks_for(length) * per_block / GIB:.2f} GiB of KV cache and "
            f"{room * per_block / GIB:.2f} GiB may be used; ask for a smaller --context or more --kv-memory",
            param="context",
        )
    blocks = min(room, blocks_for(length) * concurrency)
    cache = blocks * per_block
    if cache > left:
        raise NotEnoughMemory(
            f"the weights take {plan.weights_bytes / GIB:.1f} GiB in {dtype}, the KV cache {cache / GIB:.1f} GiB as "
            f"asked, and {free / GIB:.1f} GiB of memory are free; ask for less --kv-memory, or for a smaller --context "
            "or --concurrency",
            param="kv_memory",
        )
    return length, blocks


def _tokenizer(checkpoint: Checkpoint) -> Tokenizer | None:
    match checkpoint.tokenizer_source:
        case ("gguf", metadata):
            return Tokenizer.from_gguf(metadata)
        case ("json", path):
            return Tokenizer.from_json(path)
        case ("tiktoken", path):
            return Tokenizer.from_tiktoken(path)
        case _:
            return None


def _chat_format(checkpoint: Checkpoint, tokenizer: Tokenizer | None) -> ChatFormat | None:
    """The checkpoint's own template, else Meta's format if the tokenizer has its special tokens."""
    if tokenizer is None:
        return None
    family = "llama3" if {"<|start_header_id|>", "<|eot_id|>"} <= tokenizer.specials.keys() else None
    if checkpoint.chat_template is None and family is None:
        return None
    return ChatFormat(tokenizer, checkpoint.chat_template, family)


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
