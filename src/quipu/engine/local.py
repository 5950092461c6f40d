"""A model on this machine: text in, chunks out. Joins tokenizer, chat format and engine; satisfies types.Generator."""

from __future__ import annotations

import dataclasses
import queue
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from quipu.engine.checked import Checked
from quipu.engine.engine import Engine, Handle
from quipu.engine.memory import peak_memory
from quipu.engine.request import Score
from quipu.engine.text_stream import TextStream
from quipu.errors import ContextLengthExceeded, InvalidRequest, MissingTemplate, QuipuError, UnsupportedCheckpoint
from quipu.model.chat_format import ChatFormat
from quipu.model.tokenizer import Tokenizer
from quipu.types import (
    Chunk,
    Completion,
    Constraint,
    Facts,
    FinishReason,
    Message,
    Prompt,
    Sampling,
    TokenLogprob,
    Usage,
    is_conversation,
)

if TYPE_CHECKING:
    from concurrent.futures import Future

    from quipu.capabilities.base import Output
    from quipu.engine.grammar import Grammar
    from quipu.engine.grammar_compiler import GrammarCompiler

Event = Chunk | QuipuError
"""What a submitted request brings: chunks, or the error that ended one of its answers."""


Embedded = NDArray[np.float32] | QuipuError
TRIMMED = 16
"""A conversation may be so many times longer than the context, if its template leaves out the rest."""
EMBEDDED_AT_ONCE = 8
"""Inputs of one batch of embeddings that are at the engine together: the queue is there for others, too."""


def normalized(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """``vectors``, float32 [n, size], each divided by its length; a vector of zeros stays one."""
    lengths: NDArray[np.float32] = np.linalg.norm(vectors, axis=-1, keepdims=True).astype(np.float32)
    lengths[lengths == 0] = 1
    return vectors / lengths


class LocalModel:
    """A loaded model. Safe from several threads at once; their requests are batched.

    Sampling options are the fields of ``types.Sampling`` by name; what is not given comes from the checkpoint's
    own generation defaults, where it has some. Use as a context manager, or call ``close``.
    """

    def __init__(
        self,
        engine: Engine,
        facts: Facts,
        tokenizer: Tokenizer | None,
        chat_format: ChatFormat | None,
        *,
        sampling_defaults: Mapping[str, Any] | None = None,
        reference: Callable[[Sequence[int]], NDArray[np.float32]] | None = None,
        file_hash: Callable[[], str] | None = None,
        hardware: str = "none",
        runner: str = "none",
        packing_loss: float | None = None,
        peak_memory: Callable[[], int] = peak_memory,
    ) -> None:
        self.engine = engine
        self.facts = facts
        self.sampling_defaults = dict(sampling_defaults or {})
        self._tokenizer = tokenizer
        self._chat_format = chat_format
        self._reference = reference
        self._file_hash = file_hash
        self.hardware = hardware
        """What it computes on: the accelerator, or the processor and how many of its cores."""
        self.runner = runner
        """Whose arithmetic it is, with its version: other kernels round otherwise, so answers may differ."""
        self.packing_loss = packing_loss
        """Relative root mean square error of the weights that were converted to load them: 0 where all are as their
        file has them, None where nobody measured it."""
        self.peak_memory = peak_memory
        """Most bytes in use until now: of the accelerator, or of this process."""
        # A model that nobody holds any more must not keep its weights and its thread.
        weakref.finalize(self, engine.close)

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and answer together."""
        return self.engine.context_length

    @cached_property
    def file_hash(self) -> str:
        """SHA-256 of the model's files, in hex; read from disk when first asked for. Empty for a fake."""
        return self._file_hash() if self._file_hash is not None else ""

    @property
    def chat_template(self) -> str:
        """SHA-256 of the chat template, in hex, the name of Meta's format, or ``none``."""
        return "none" if self._chat_format is None else self._chat_format.name

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer; raises UnsupportedCheckpoint if its files carry none."""
        if self._tokenizer is None:
            raise UnsupportedCheckpoint(
                f"{self.facts.name} has no tokenizer beside its weights, so it reads token ids only; "
                "put its tokenizer.json (or Meta's tokenizer.model) into the folder"
            )
        return self._tokenizer

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of what the model will read: text gets a BOS if the model wants one, a conversation its format."""
        if isinstance(prompt, str):
            return self.tokenizer.prompt_ids(prompt)
        if not isinstance(prompt, Sequence) or not prompt:
            raise InvalidRequest(
                "the prompt must be text, token ids, or a list of messages, not empty", param="messages"
            )
        if not is_conversation(prompt):
            return list(cast("Sequence[int]", prompt))
        conversation = cast("Sequence[Message | Mapping[str, Any]]", prompt)
        messages = [Message.of(message, f"messages[{place}]") for place, message in enumerate(conversation)]
        if self._chat_format is None:
            raise MissingTemplate(
                f"{self.facts.name} has no chat template and is of no family with a known chat format; "
                "use generate (or /v1/completions) with the prompt written out"
            )
        return self._chat_format.encode(messages)

    def check_room(self, answers: int) -> None:
        """Raise what ``submit`` would now raise for so many answers: before their prompts are tokenized, it is cheap.

        Raises Overloaded, or InvalidRequest if they could never start together.
        """
        self.engine.check_room(answers)

    def check_length(self, prompt: Prompt, name: str = "the prompt") -> None:
        """Raise ContextLengthExceeded for a text that cannot fit by its length alone: tokenizing it would take long.

        ``name`` is what the error calls it.
        """
        if not isinstance(prompt, str) and not is_conversation(prompt):
            return  # token ids, whose number the engine looks at
        texts = [prompt] if isinstance(prompt, str) else [_said(message) for message in prompt]
        tokenizer = self._tokenizer
        least = 0 if tokenizer is None else sum(map(tokenizer.least_tokens, texts))
        if tokenizer is not None and least <= self.context_length and not isinstance(prompt, str):
            # What a template may trim or drop is not held against a prompt, unless there is far too much of it.
            least = sum(tokenizer.least_tokens(_content(message)) for message in prompt) // TRIMMED
        if least > self.context_length:
            error = ContextLengthExceeded.of(least, self.context_length, at_least=True, name=name)
            if is_conversation(prompt):
                error.param = "messages"
            raise error

    def count(self, messages: Prompt) -> int:
        """Tokens of the prompt after chat formatting."""
        return len(self.prompt_ids(messages))

    def sampling(self, options: Mapping[str, Any]) -> Sampling:
        """``options`` over the checkpoint's defaults; raises InvalidRequest by field name."""
        return Sampling.of({**self.sampling_defaults, **options})

    def submit(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        on_event: Callable[[Event], None],
        *,
        continues: bool = False,
        grammar: Grammar | None = None,
    ) -> Handle:
        """Start generating from token ids. ``on_event`` hears of it from the engine's thread and must not block.

        The last event of each answer is a Chunk with ``finish_reason`` or an error; the last chunk has ``usage``.
        ``continues``: the text goes on from the prompt's, so a space at its beginning is meant. ``grammar``, from
        ``compile``, constrains the answers; their last events come from another thread, which has checked them.
        """
        guides = [] if grammar is None else [grammar.guide() for _ in range(sampling.n)]
        _check_guided(sampling, grammar)
        answers = _Answers(self._tokenizer, len(prompt), sampling, on_event, continues or bool(guides))
        listener = answers if grammar is None else Checked(answers, guides, on_event, self._compiler.check)
        try:
            return self.engine.submit(prompt, sampling, listener, guides=guides)
        except ContextLengthExceeded as error:
            if not continues and error.param == "prompt":
                error.param = "messages"
            raise

    def compile(self, constraint: Constraint, name: str = "constraint") -> Future[Grammar]:
        """``constraint`` compiled for this model, in a thread that keeps nobody waiting; ``name`` is the field it is.

        The future raises InvalidRequest, by field name, for what cannot be kept or exceeds a limit, and Overloaded when
        too many of unknown cost wait.
        """
        return self._compiler.compile(constraint, name)

    @cached_property
    def _compiler(self) -> GrammarCompiler:
        from quipu.engine.grammar_compiler import GrammarCompiler  # only now: most answers are free

        compiler = GrammarCompiler(self.tokenizer, self.engine.end_ids, self.engine.vocabulary)
        weakref.finalize(self, compiler.close)
        return compiler

    def submit_embedding(self, prompt: Sequence[int], on_done: Callable[[Embedded], None]) -> Handle:
        """Compute the mean of the final hidden states of token ids; see ``embed``.

        ``on_done`` hears float32 [hidden size] or an error from the engine's thread and must not block; nothing if
        the request is aborted.
        """
        return self.engine.submit(prompt, Sampling(max_tokens=0), _Embedding(on_done), embed=on_done)

    def embed(self, prompts: Sequence[str | Sequence[int]], *, normalize: bool = True) -> NDArray[np.float32]:
        """float32 [prompts, hidden size]: the mean of each prompt's final, normed hidden states, of length 1.

        ``prompts`` are texts, which get a BOS if the model wants one, or token ids. ``normalize`` False leaves the
        means as they are. A model that was not trained for it makes embeddings of modest quality. They are computed
        in the engine's batches, so running answers go on.
        """
        if isinstance(prompts, str):
            raise InvalidRequest("prompts must be a list of texts or of token ids, not one text", param="prompts")
        inputs = [self.prompt_ids(prompt) for prompt in prompts]
        vectors = [vector for start in range(0, len(inputs), EMBEDDED_AT_ONCE)
                   for vector in self._embed(inputs[start : start + EMBEDDED_AT_ONCE])]  # fmt: skip
        if not vectors:
            return np.empty((0, self.facts.hidden_size), np.float32)
        return normalized(np.stack(vectors)) if normalize else np.stack(vectors)

    def _embed(self, inputs: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        results: list[queue.SimpleQueue[Embedded]] = [queue.SimpleQueue() for _ in inputs]
        handles = []
        try:
            for ids, result in zip(inputs, results, strict=True):
                handles.append(self.submit_embedding(ids, result.put))
            vectors = []
            for result in results:
                vector = result.get()
                if isinstance(vector, QuipuError):
                    raise vector
                vectors.append(vector)
            return vectors
        finally:
            for handle in handles:
                handle.abort()

    def stream(
        self, prompt: Prompt, sampling: Sampling | None = None, *, constraint: Constraint | None = None, **options: Any
    ) -> Stream:
        """Answer a conversation, or continue text or token ids, chunk by chunk as they are generated.

        With a ``constraint`` the answer is what it says; see ``types.Generator``.
        Raises at once what is wrong with the request. Leaving the loop early and closing the stream aborts it.
        """
        if sampling is None:
            sampling = self.sampling(options)
        elif options:
            Sampling.of(options)  # unknown names and values are refused by name
            sampling = dataclasses.replace(sampling, **options)
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.check_length(prompt)
        ids = self.prompt_ids(prompt)
        grammar = None if constraint is None else self.compile(constraint).result()
        handle = self.submit(ids, sampling, events.put, continues=not is_conversation(prompt), grammar=grammar)
        return Stream(self, handle, events, sampling.n)

    def chat(self, messages: Prompt, sampling: Sampling | None = None, **options: Any) -> Completion:
        """The answer to a conversation: a string that carries choices, log-probabilities and usage."""
        if isinstance(messages, str):
            messages = [Message("user", messages)]
        return self._complete(messages, sampling, options)

    def generate(self, prompt: Prompt, sampling: Sampling | None = None, **options: Any) -> Completion:
        """The continuation of ``prompt``, as a string that carries choices, log-probabilities and usage."""
        return self._complete(prompt, sampling, options)

    def _complete(self, prompt: Prompt, sampling: Sampling | None, options: Mapping[str, Any]) -> Completion:
        # Interrupted (Ctrl-C), the traceback keeps the stream alive: only leaving the block ends the request.
        with self.stream(prompt, sampling, **options) as chunks:
            return Completion.of(chunks)

    def running(self) -> int:
        """Answers that are being generated or wait for it now."""
        stats = self.engine.stats()
        return stats.running + stats.waiting

    def run(self, capability: str, /, *, sampling: Mapping[str, Any] | None = None, **given: Any) -> Output:
        """Call a capability by its identifier, as in ``run("summarize", text=..., words=80)``, and wait for its output.

        ``given`` are the fields of its input. Raises InvalidRequest that names a field, and Unparsed when the model's
        answer cannot be read. ``quipu.capabilities.stream`` tells of progress.
        """
        from quipu import capabilities  # only now: most who load a model never call one

        return capabilities.run(self, capability, sampling=sampling, **given)

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """float32 [tokens, vocabulary]: what the model predicts after each of ``ids``, for tests and research.

        Computed in float32 from the checkpoint itself, whatever ``dtype`` the model serves in, so that it can be
        compared with any other implementation. Raises InvalidRequest for an id outside the vocabulary.
        """
        if self._reference is None:
            raise UnsupportedCheckpoint(
                f"{self.facts.name} was loaded without its network, or is closed; it has no logits"
            )
        ids = [int(token) for token in ids]
        vocabulary = self.facts.vocabulary
        if not ids or not all(0 <= token < vocabulary for token in ids):
            raise InvalidRequest(f"ids must be one or more token ids from 0 to {vocabulary - 1}", param="ids")
        return self._reference(ids)

    def close(self) -> None:
        """Stop the engine and free the weights. What is still running fails with EngineStopped. Idempotent."""
        self.engine.close()
        if "_compiler" in self.__dict__:
            self._compiler.close()
        self._reference = None

    def __enter__(self) -> LocalModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Stream(Iterator[Chunk]):
    """Chunks of one request as they come. Closing it, leaving its ``with`` block, or losing it aborts the request."""

    def __init__(self, model: LocalModel, handle: Handle, events: queue.SimpleQueue[Event], answers: int) -> None:
        self._model = model  # held, so that it is not closed while its answer is still coming
        self._handle = handle
        self._events = events
        self._unfinished = answers

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Chunk:
        if not self._unfinished:
            raise StopIteration
        event = self._events.get()
        if not self._unfinished:  # another thread closed it meanwhile
            raise StopIteration
        if isinstance(event, QuipuError):
            self.close()
            raise event
        if event.finish_reason is not None:
            self._unfinished = max(0, self._unfinished - 1)
        return event

    def close(self) -> None:
        """Abort what is not finished; iterating ends."""
        if self._unfinished:
            self._unfinished = 0
            self._handle.abort()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class _Answers:
    """The engine's listener for one request: turns tokens into text, finds stop strings, counts."""

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        prompt_tokens: int,
        sampling: Sampling,
        on_event: Callable[[Event], None],
        continues: bool,
    ) -> None:
        self._tokenizer = tokenizer
        self._prompt_tokens = prompt_tokens
        self._on_event = on_event
        self._unfinished = sampling.n
        self._generated = 0
        self._cached = 0
        self._answers = [_Answer(tokenizer, sampling.stop, continues) for _ in range(sampling.n)]

    def prompt_scored(self, index: int, scores: list[Score]) -> None:
        if index == 0:
            self._on_event(Chunk(prompt_logprobs=tuple(_named(score, self._tokenizer) for score in scores)))

    def token(self, index: int, token: int, score: Score | None) -> bool:
        answer = self._answers[index]
        text = answer.push(token, None if score is None else _named(score, self._tokenizer))
        if text or answer.text is None:
            self._on_event(answer.chunk(index, text))
        return answer.stopped

    def finished(self, index: int, reason: FinishReason, generated: int, cached: int) -> None:
        self._on_event(self.last(index, reason, generated, cached))

    def last(self, index: int, reason: FinishReason, generated: int, cached: int) -> Chunk:
        self._unfinished -= 1
        self._generated += generated
        if index == 0:
            self._cached = cached
        usage = None if self._unfinished else Usage(self._prompt_tokens, self._generated, self._cached)
        answer = self._answers[index]
        chunk = answer.chunk(index, answer.finish())
        return dataclasses.replace(chunk, finish_reason=reason, usage=usage)

    def text(self, index: int) -> str:
        return self._answers[index].said

    def stopped(self, index: int) -> bool:
        return self._answers[index].stopped

    def failed(self, index: int, error: QuipuError) -> None:
        self._unfinished -= 1
        self._on_event(error)


def _check_guided(sampling: Sampling, grammar: Grammar | None) -> None:
    """Refuse what cannot be had together with ``grammar``, if there is one."""
    if grammar is None:
        return
    for name in ("ignore_eos", "min_tokens"):
        if getattr(sampling, name):
            raise InvalidRequest(f"{name} cannot be kept together with a constraint; leave one of them out", param=name)
    least = len(grammar.shortest)
    if sampling.max_tokens is not None and sampling.max_tokens < least:
        raise InvalidRequest(
            f"max_tokens is {sampling.max_tokens}, and the shortest answer found that keeps to the constraint has "
            f"{least} tokens; ask for at least so many",
            param="max_tokens",
        )


class _Embedding:
    """The engine's listener for an embedding, which generates nothing: only a failure is news."""

    def __init__(self, on_done: Callable[[Embedded], None]) -> None:
        self._on_done = on_done

    def prompt_scored(self, index: int, scores: list[Score]) -> None:
        raise AssertionError("no scores were asked for")

    def token(self, index: int, token: int, score: Score | None) -> bool:
        raise AssertionError("no tokens were asked for")

    def finished(self, index: int, reason: FinishReason, generated: int, cached: int) -> None:
        pass

    def failed(self, index: int, error: QuipuError) -> None:
        self._on_done(error)


class _Answer:
    """Text of one answer, and the tokens that belong to the text not yet shown."""

    def __init__(self, tokenizer: Tokenizer | None, stop: Sequence[str], continues: bool) -> None:
        self.text = None if tokenizer is None else TextStream(tokenizer, stop, continues=continues)
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._texts: list[str] = []

    @property
    def said(self) -> str:
        return "".join(self._texts)

    @property
    def stopped(self) -> bool:
        return self.text is not None and self.text.stopped

    def push(self, token: int, logprob: TokenLogprob | None) -> str:
        self._tokens.append(token)
        if logprob is not None:
            self._logprobs.append(logprob)
        return "" if self.text is None else self.text.push(token)

    def finish(self) -> str:
        return "" if self.text is None else self.text.finish()

    def chunk(self, index: int, text: str) -> Chunk:
        """A chunk of ``text`` with the tokens pushed since the last one."""
        self._texts.append(text)
        chunk = Chunk(text, index, tuple(self._tokens), tuple(self._logprobs))
        self._tokens, self._logprobs = [], []
        return chunk


def _said(message: Any) -> str:
    """What a user says in ``message``, without the spaces that a template may trim; templates drop other texts."""
    role = message.get("role") if isinstance(message, Mapping) else getattr(message, "role", None)
    return _content(message).strip() if role == "user" else ""


def _content(message: Any) -> str:
    """The text of ``message``, a Message or a mapping, if it has one that is plain."""
    content = message.get("content") if isinstance(message, Mapping) else getattr(message, "content", None)
    return content if isinstance(content, str) else ""


def _named(score: Score, tokenizer: Tokenizer | None) -> TokenLogprob:
    """A score with the text of its tokens."""
    top = tuple(_logprob(token, value, tokenizer) for token, value in score.top)
    return _logprob(score.token, score.logprob, tokenizer, top)


def _logprob(
    token: int, value: float | None, tokenizer: Tokenizer | None, top: tuple[TokenLogprob, ...] = ()
) -> TokenLogprob:
    raw = b"" if tokenizer is None else tokenizer.token_bytes(token)
    return TokenLogprob(token, raw.decode(errors="replace"), raw, value, top)
