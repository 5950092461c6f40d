"""A model on this machine: text in, chunks out. Joins tokenizer, chat format and engine; satisfies types.Generator."""

from __future__ import annotations

import dataclasses
import queue
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from quipu.engine.answers import Answers, Event
from quipu.engine.checked import Checked
from quipu.engine.embedding import EMBEDDED_AT_ONCE, Embedded, EmbeddingListener, normalized
from quipu.engine.engine import Engine, Handle
from quipu.engine.memory import peak_memory
from quipu.engine.prompt_length import least_tokens
from quipu.engine.stream import Stream
from quipu.errors import ContextLengthExceeded, InvalidRequest, MissingTemplate, QuipuError, UnsupportedCheckpoint
from quipu.model.chat_format import ChatFormat
from quipu.model.config import VisionConfig
from quipu.model.image_tokens import PromptIds
from quipu.model.tokenizer import Tokenizer
from quipu.tools.tool import ToolUse
from quipu.types import Completion, Constraint, Facts, Message, Prompt, Sampling, conversation, is_conversation

if TYPE_CHECKING:
    from concurrent.futures import Future

    from quipu.capabilities.base import Output
    from quipu.engine.grammar import Grammar
    from quipu.engine.grammar_compiler import GrammarCompiler


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
        reference: Callable[[Sequence[int], NDArray[np.float32] | None], NDArray[np.float32]] | None = None,
        file_hash: Callable[[], str] | None = None,
        hardware: str = "none",
        runner: str = "none",
        packing_loss: float | None = None,
        peak_memory: Callable[[], int] = peak_memory,
        vision: VisionConfig | None = None,
    ) -> None:
        self.engine = engine
        self.facts = facts
        self.sampling_defaults = dict(sampling_defaults or {})
        self._tokenizer = tokenizer
        self._chat_format = chat_format
        self.vision = vision
        """What the model sees pictures with; None if it reads text only."""
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
    def sees(self) -> bool:
        """It takes pictures in its prompts."""
        return self.vision is not None

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

    def prompt_ids(self, prompt: Prompt, use: ToolUse | None = None) -> list[int]:
        """Token ids of what the model will read: text gets a BOS if the model wants one, a conversation its format.

        ``use`` says which tools the model is told of.
        """
        if use is not None and not is_conversation(prompt):
            raise InvalidRequest("tools are for conversations, not for a text to continue", param="tools")
        if isinstance(prompt, str):
            return self.tokenizer.prompt_ids(prompt)
        if not isinstance(prompt, Sequence) or not prompt:
            raise InvalidRequest(
                "the prompt must be text, token ids, or a list of messages, not empty", param="messages"
            )
        if not is_conversation(prompt):
            return prompt if isinstance(prompt, PromptIds) else list(cast("Sequence[int]", prompt))
        messages = conversation(cast("Sequence[Message | Mapping[str, Any]]", prompt))
        if self._chat_format is None:
            raise MissingTemplate(
                f"{self.facts.name} has no chat template and is of no family with a known chat format; "
                "use generate (or /v1/completions) with the prompt written out"
            )
        return self._chat_format.encode(messages, tools=() if use is None else use.tools)

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
        tokenizer = self._tokenizer
        least = 0 if tokenizer is None else least_tokens(prompt, tokenizer, self.context_length)
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
        use: ToolUse | None = None,
        continues: bool = False,
        grammar: Grammar | None = None,
    ) -> Handle:
        """Start generating from token ids. ``on_event`` hears of it from the engine's thread and must not block.

        The last event of each answer is a Chunk with ``finish_reason`` or an error; the last chunk has ``usage``.
        ``use`` says which calls an answer may make, ``grammar``, from ``compile``, what it is; the last events of a
        constrained answer come from another thread, which has checked it. ``continues``: the text goes on from the
        prompt's, so a space at its beginning is meant.
        """
        guides = []
        if grammar is not None:
            grammar.check_sampling(sampling)
            guides = [grammar.guide() for _ in range(sampling.n)]
        images = prompt.images if isinstance(prompt, PromptIds) else ()
        answers = Answers(self._tokenizer, len(prompt), sampling, on_event, continues or bool(guides), use, images)
        listener = answers if grammar is None else Checked(answers, guides, on_event, self._compiler.check)
        try:
            return self.engine.submit(prompt, sampling, listener, guides=guides, images=images)
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

    def compile_for(
        self, use: ToolUse | None, constraint: Constraint | None = None, name: str = "constraint"
    ) -> Future[Grammar] | None:
        """What keeps answers to what ``use`` lets them call, or to ``constraint``; see ``compile``.

        None for answers that are free. Raises InvalidRequest, by field name, for a schema that cannot be kept.
        """
        if use is None:
            return None if constraint is None else self.compile(constraint, name)
        if constraint is not None:
            raise InvalidRequest(
                f"an answer can be kept to {name} or be given tools, not both; leave one of them out", param="tools"
            )
        from quipu.engine.calling import call_constraint  # only now: most answers are free

        return self.compile(call_constraint(use, self._chat_format), "tools")

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
        return self.engine.submit(prompt, Sampling(max_tokens=0), EmbeddingListener(on_done), embed=on_done)

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
        self,
        prompt: Prompt,
        sampling: Sampling | None = None,
        *,
        constraint: Constraint | None = None,
        tools: Sequence[Any] | None = None,
        tool_choice: Any = None,
        parallel_tool_calls: bool | None = None,
        **options: Any,
    ) -> Stream:
        """Answer a conversation, or continue text or token ids, chunk by chunk as they are generated.

        With a ``constraint`` the answer is what it says; see ``types.Generator``. ``tools`` are definitions as the
        OpenAI API has them, or Python functions; what the answer calls is in the chunks' ``tool_calls``.
        Raises at once what is wrong with the request. Leaving the loop early and closing the stream aborts it.
        """
        if sampling is None:
            sampling = self.sampling(options)
        elif options:
            Sampling.of(options)  # unknown names and values are refused by name
            sampling = dataclasses.replace(sampling, **options)
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        use = ToolUse.of(tools, tool_choice, parallel_tool_calls)
        self.check_length(prompt)
        ids = self.prompt_ids(prompt, use)
        compiling = self.compile_for(use, constraint)
        grammar = None if compiling is None else compiling.result()
        continues = not is_conversation(prompt)
        handle = self.submit(ids, sampling, events.put, use=use, continues=continues, grammar=grammar)
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

    def logits(self, ids: Sequence[int], pixels: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """float32 [tokens, vocabulary]: what the model predicts after each of ``ids``, for tests and research.

        Computed in float32 from the checkpoint itself, whatever ``dtype`` the model serves in, so that it can be
        compared with any other implementation. ``pixels``: tiles of the prompt's pictures, float32
        [tiles, 3, height, width] from -1 to 1, those of all pictures one after the other; ``ids`` has a patch token for
        each of their vectors. Raises InvalidRequest for an id outside the vocabulary, or pixels that do not fit.
        """
        if self._reference is None:
            raise UnsupportedCheckpoint(
                f"{self.facts.name} was loaded without its network, or is closed; it has no logits"
            )
        ids = [int(token) for token in ids]
        vocabulary = self.facts.vocabulary
        if not ids or not all(0 <= token < vocabulary for token in ids):
            raise InvalidRequest(f"ids must be one or more token ids from 0 to {vocabulary - 1}", param="ids")
        if pixels is not None:
            self._check_pixels(pixels)
        return self._reference(ids, pixels)

    def _check_pixels(self, pixels: NDArray[np.float32]) -> None:
        if self.vision is None:
            raise InvalidRequest("this model reads text only: it has no use for pixels", param="pixels")
        side = self.vision.tile_size
        if pixels.dtype != np.float32 or pixels.ndim != 4 or pixels.shape[1:] != (3, side, side):
            raise InvalidRequest(
                f"pixels are {pixels.dtype} {list(pixels.shape)}; this model wants float32 [tiles, 3, {side}, {side}]",
                param="pixels",
            )

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
