"""Opens mutated files in a process of its own, so that one that crashes or hangs it is seen from outside.

``python -m hostile.worker SEEDS`` reads "kind number" lines and writes one JSON object before and one after each.
``python -m hostile.worker SEEDS kind number`` replays one with its traceback, and leaves the file behind.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from hostile.mutations import mutated
from hostile.seeds import Seed, seeds

from quipu.engine.backends import Arithmetic
from quipu.engine.load import _chat_format, _plan, _tokenizer
from quipu.engine.memory import return_freed_memory
from quipu.engine.runner import PoolSize, Span
from quipu.errors import QuipuError
from quipu.model.checkpoint import open_checkpoint
from quipu.types import Message

SECONDS = 20
"""Longer is a hang. A template may run for 10 s before it is refused."""
ALLOWANCE, TEMPLATE_ALLOWANCE = 8 << 20, 64 << 20
"""Bytes beyond twice the file: what threads and garbage may take, and what a template may, which has a budget."""
LIMIT = 1 << 30
"""Address space beyond what the process has when it starts; a larger allocation fails at once."""

CONVERSATION = [
    Message("system", "You are terse."),
    Message("user", "What is the capital of France?"),
    Message("assistant", "Paris."),
    Message("user", "the <|im_end|> 123 é"),
]


def use(path: Path) -> str:
    """Everything that a server does with a model's files, on a small scale."""
    checkpoint = open_checkpoint(path)
    tokenizer = _tokenizer(checkpoint)
    chat_format = _chat_format(checkpoint, tokenizer)
    if tokenizer is not None:
        ids = tokenizer.prompt_ids("the cat, 1234 \u00e9")
        tokenizer.decode(ids)
    if chat_format is not None:
        ids = chat_format.encode(CONVERSATION)
        assert tokenizer is not None
        tokenizer.decode(ids)
    checkpoint.file_hash()
    tokens = [token % checkpoint.config.vocabulary for token in (1, 2, 3)]
    for name in ("native", "torch"):
        backend = Arithmetic(runner=name, device="cpu", threads=1).backend(checkpoint, checkpoint.tensors, None)
        _plan(checkpoint, backend, 16, 1, None)
        assert backend.reference(tokens).shape == (3, checkpoint.config.vocabulary)
    # What a hostile file can do to the kernels, it does in a step over weights as they are stored.
    backend = Arithmetic(runner="native", threads=1).backend(checkpoint, checkpoint.tensors, None)
    chunk_blocks = [] if backend.chunk is None else [0]
    runner = backend.runner(PoolSize(1, len(chunk_blocks)))
    [logits] = runner.step([Span(tokens, 0, [0], "all", chunk_blocks=chunk_blocks)])
    assert logits.shape == (3, checkpoint.config.vocabulary)
    runner.close()
    return "loaded"


def attempt(path: Path) -> str:
    """ "loaded", "refused: <error>" for one of our errors, or the traceback of any other."""
    try:
        return use(path)
    except QuipuError as error:
        return f"refused: {type(error).__name__}"
    except BaseException:  # a panic of a Rust library is no Exception
        return traceback.format_exc()


def peak_growth(action: Callable[[], str]) -> tuple[str, int]:
    """What ``action`` says, and by how many bytes the resident memory rose above where it was, at most."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    outcome = action()
    return outcome, _status("VmHWM") - before


def _status(field: str) -> int:
    return int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10


def try_one(seed: Seed, kind: str, number: int, scratch: Path) -> dict[str, Any]:
    place = scratch / seed.folder.name
    if not place.exists():
        shutil.copytree(seed.folder, place)
    sound = (seed.folder / seed.file).read_bytes()
    data = mutated(kind, sound, Random(f"{kind} {number}"))
    (place / seed.file).unlink(missing_ok=True)
    (place / seed.file).write_bytes(data)
    started = time.monotonic()
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    outcome, growth = peak_growth(lambda: attempt(place / seed.opens))
    faulthandler.cancel_dump_traceback_later()
    (place / seed.file).unlink(missing_ok=True)
    (place / seed.file).write_bytes(sound)
    total = sum(each.stat().st_size for each in place.iterdir())
    if growth > 2 * total + (TEMPLATE_ALLOWANCE if kind.startswith("template") else ALLOWANCE):
        outcome = f"took {growth >> 20} MiB for files of {total >> 10} KiB; then: {outcome}"
    return {"outcome": outcome, "growth": growth, "seconds": round(time.monotonic() - started, 3)}


def main() -> None:
    folder, *only = sys.argv[1:]
    known = seeds(Path(folder))
    if only:
        seed = known[only[0]]
        place = Path(tempfile.mkdtemp()) / "checkpoint"
        shutil.copytree(seed.folder, place)
        data = mutated(only[0], (place / seed.file).read_bytes(), Random(f"{only[0]} {only[1]}"))
        (place / seed.file).write_bytes(data)
        print(place / seed.file)
        faulthandler.enable()
        print(use(place / seed.opens))
        return
    with tempfile.TemporaryDirectory() as scratch:
        for seed in known.values():  # imports and caches are no file's fault
            assert attempt(seed.folder / seed.opens) == "loaded", attempt(seed.folder / seed.opens)
        gc.collect()
        gc.freeze()  # or else every collection walks all that torch imports
        return_freed_memory()
        size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (size + LIMIT, size + LIMIT))
        for line in sys.stdin:
            kind, number = line.split()
            print(json.dumps({"begins": line.strip()}), flush=True)
            print(json.dumps(try_one(known[kind], kind, int(number), Path(scratch))), flush=True)


if __name__ == "__main__":
    main()
