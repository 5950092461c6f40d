"""llama.cpp as what is measured, through the functions of llama-cpp-python, and its own way to requantise a file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quipu.bench.measures import PROMPT, ROOM_EACH, TOGETHER, Part
from quipu.errors import InvalidRequest, MissingLibrary, QuipuError, did_you_mean

NAME = "llama.cpp"
FORMATS = {"file": 0, "q4_0": 2, "q4_1": 3, "q5_0": 8, "q5_1": 9, "q8_0": 7, "q4_k_m": 15, "q6_k": 18}
"""Its numbers of file types (LLAMA_FTYPE); ``file`` is the file as it is."""


def check(formats: Sequence[str]) -> None:
    """Raise MissingLibrary where it is not installed, InvalidRequest for a format that it is not asked for."""
    for each in formats:
        if each not in FORMATS:
            hint = did_you_mean(each[:40], FORMATS, f"known: {', '.join(FORMATS)}")
            raise InvalidRequest(f"unknown peer format {each[:40]!r}; {hint}", param="peer_format")
    if find_spec("llama_cpp") is None:
        raise MissingLibrary(
            "--peer llama.cpp needs llama-cpp-python, which is not installed; get it with: pip install "
            "'quipu-llama[bench]' (where pip finds no wheel it compiles for some minutes and needs a C++ compiler)"
        )


class LlamaCpp:
    """See ``measures.Timed``. A cache is split evenly: one sequence, 16 and the deep one have a context each."""

    variants: Sequence[str] = ("flash attention", "without")

    def __init__(self, path: str, depth: int, room: int, threads: int) -> None:
        import llama_cpp

        self.api: Any = llama_cpp
        self.api.llama_backend_init()
        self.model = self.api.llama_model_load_from_file(path.encode(), self.api.llama_model_default_params())
        if not self.model:
            raise QuipuError(f"llama.cpp cannot load {Path(path).name}")
        self.depth, self._room, self._threads = depth, room, threads
        self.vocabulary = int(self.api.llama_vocab_n_tokens(self.api.llama_model_get_vocab(self.model)))
        self._batch = self.api.llama_batch_init(PROMPT, 0, 1)
        self._variant = self.variants[0]
        self._contexts: dict[str, tuple[str, Any]] = {}
        self.reset(1)

    def use(self, variant: str) -> None:
        """With flash attention, or without."""
        self._variant = variant

    def reset(self, sequences: int) -> None:
        """A context as wanted, warm: what it takes from the system it has then taken."""
        self._choose("several" if sequences > 1 else "one")
        self._clear()

    def recall(self) -> bool:
        """Tokens behind the first ``depth`` are removed from its cache."""
        if self._choose("deep"):
            return False
        self.api.llama_memory_seq_rm(self.api.llama_get_memory(self._context), 0, self.depth, -1)
        return True

    def step(self, parts: Sequence[Part], *, every: bool = False) -> list[NDArray[np.float32]]:
        """One batch of at most 512 tokens."""
        batch, place, wanted = self._batch, 0, []
        for number, tokens, start in parts:
            for offset, token in enumerate(tokens):
                batch.token[place], batch.pos[place] = token, start + offset
                batch.n_seq_id[place], batch.seq_id[place][0] = 1, number
                batch.logits[place] = every or offset == len(tokens) - 1
                if batch.logits[place]:
                    wanted.append(place)
                place += 1
        batch.n_tokens = place
        if self.api.llama_decode(self._context, batch) != 0:
            raise QuipuError("llama.cpp failed in a step")
        rows = [self._logits(place) for place in wanted]
        return [np.stack(rows)] if every else [row[None] for row in rows]

    def _choose(self, purpose: str) -> bool:
        """Whether the context had to be made."""
        variant, self._context = self._contexts.get(purpose, ("", None))
        if variant == self._variant:
            return False
        if self._context is not None:
            self.api.llama_free(self._context)
        self._context = self._made(several=purpose == "several")
        self._contexts[purpose] = self._variant, self._context
        for _ in range(2):
            self.step([(0, range(2), 0)])
            self._clear()
        return True

    def _made(self, *, several: bool) -> Any:
        options = self.api.llama_context_default_params()
        options.n_ctx = TOGETHER * 2 * ROOM_EACH if several else -(-self._room // 256) * 256
        options.n_seq_max = TOGETHER if several else 1
        options.n_batch = options.n_ubatch = PROMPT
        options.n_threads = options.n_threads_batch = self._threads
        options.flash_attn_type = 1 if self._variant == self.variants[0] else 0
        context = self.api.llama_init_from_model(self.model, options)
        if not context:
            raise QuipuError("llama.cpp cannot make a context of this model")
        return context

    def _clear(self) -> None:
        self.api.llama_memory_clear(self.api.llama_get_memory(self._context), True)

    def _logits(self, place: int) -> NDArray[np.float32]:
        row = self.api.llama_get_logits_ith(self._context, place)
        return np.ctypeslib.as_array(row, (self.vocabulary,)).copy()


def requantise(source: str, target: str, form: str, threads: int) -> None:
    """Write ``source`` in another format, as llama.cpp's own program does. Raises QuipuError."""
    import llama_cpp

    api: Any = llama_cpp
    options = api.llama_model_quantize_default_params()
    options.ftype, options.nthread, options.allow_requantize = FORMATS[form], threads, True
    if api.llama_model_quantize(source.encode(), target.encode(), options) != 0:
        raise QuipuError(f"llama.cpp cannot make {form} of {Path(source).name}")


def answer(path: str, question: str, threads: int) -> None:
    """As a program does that asks one thing: until the first token."""
    import llama_cpp

    api: Any = llama_cpp
    model = api.Llama(path, n_ctx=4096, n_threads=threads, n_threads_batch=threads, verbose=False)
    next(model.create_chat_completion([{"role": "user", "content": question}], temperature=0, stream=True))
