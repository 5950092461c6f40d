"""What one server takes from its clients at most: every limit, its default, and the flag that changes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any

from quipu.errors import InvalidRequest, LimitExceeded
from quipu.types import MAX_ANSWERS, MAX_LOGPROBS, Prompt, Sampling, is_conversation


def _limit(default: float, flag: str, unit: str, text: str, most: int | None = None) -> Any:
    return field(default=default, metadata={"flag": flag, "unit": unit, "text": text, "most": most})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Counts are whole numbers of at least 1, times are seconds above 0; ``InvalidRequest`` says which is not.

    The context (prompt tokens), answers at once and the queue belong to the model: ``--context``, ``--concurrency``
    and ``--queue``. What each field means stands in its text, which is also the flag's help.
    """

    body_bytes: int = _limit(8 * 2**20, "--max-body", "BYTES", "bytes of a request's body")
    bodies_bytes: int = _limit(64 * 2**20, "--max-bodies", "BYTES", "bytes of all large bodies of requests in progress")
    json_depth: int = _limit(64, "--max-json-depth", "N", "lists and objects inside each other in a body")
    json_values: int = _limit(150_000, "--max-json-values", "N", "values in a body; a token id is one")
    json_nodes: int = _limit(32_768, "--max-json-nodes", "N", "lists, objects and their names in a body")
    header_bytes: int = _limit(32 * 2**10, "--max-header-bytes", "BYTES", "bytes of a request's address and headers")
    headers: int = _limit(100, "--max-headers", "N", "headers of a request")
    prompts: int = _limit(2048, "--max-prompts", "N", "prompts of one request")
    messages: int = _limit(2048, "--max-messages", "N", "messages of a conversation")
    images: int = _limit(16, "--max-images", "N", "pictures of one request")
    answers: int = _limit(MAX_ANSWERS, "--max-n", "N", "n, the answers to one prompt", MAX_ANSWERS)
    logprobs: int = _limit(20, "--max-logprobs", "N", "alternatives reported for a token", MAX_LOGPROBS)
    stops: int = _limit(16, "--max-stops", "N", "stop strings")
    stop_length: int = _limit(1024, "--max-stop-length", "N", "characters of a stop string")
    inputs: int = _limit(2048, "--max-inputs", "N", "inputs of one request for embeddings")
    input_tokens: int = _limit(300_000, "--max-input-tokens", "N", "tokens of all these inputs together")
    requests: int = _limit(384, "--max-requests", "N", "requests in progress; one more is answered with 503")
    calls: int = _limit(32, "--max-calls", "N", "calls of capabilities in progress; one more is answered with 503")
    connections: int = _limit(1024, "--max-connections", "N", "open connections; beyond, the longest idle is closed")
    receive_seconds: float = _limit(30, "--receive-timeout", "SECONDS", "for headers to arrive, and then for the body")
    send_seconds: float = _limit(30, "--send-timeout", "SECONDS", "that a client may take to read nothing")
    request_seconds: float = _limit(1800, "--request-timeout", "SECONDS", "for an answer, waiting included")

    def __post_init__(self) -> None:
        for each in fields(self):
            _check(each, getattr(self, each.name))
        if self.requests >= self.connections:
            # So that among too many connections there is always one without a request to close.
            raise InvalidRequest(
                f"--max-requests {self.requests} must be less than --max-connections {self.connections}",
                param="requests",
            )
        if self.bodies_bytes < self.body_bytes:
            raise InvalidRequest(
                f"--max-bodies {self.bodies_bytes} must be at least --max-body {self.body_bytes}", param="bodies_bytes"
            )

    def check(self, sampling: Sampling, prompts: Sequence[Prompt]) -> None:
        """Raise LimitExceeded if what a request asks for is beyond a limit; it names the field, limit and flag."""
        self._compare(len(prompts), "prompts", "prompt", "{} prompts were sent")
        for prompt in prompts:
            self.check_messages(prompt)
        self._compare(sampling.n, "answers", "n", "n is {}")
        for scores in (sampling.logprobs, sampling.prompt_logprobs):
            self._compare(scores or 0, "logprobs", "logprobs", "{} alternatives were asked for at each token")
        self._compare(len(sampling.stop), "stops", "stop", "{} stop strings were given")
        longest = max(map(len, sampling.stop), default=0)
        self._compare(longest, "stop_length", "stop", "a stop string has {} characters")

    def check_messages(self, prompt: Prompt) -> None:
        """Raise LimitExceeded if ``prompt`` is a conversation of too many messages or pictures."""
        if is_conversation(prompt):
            self._compare(len(prompt), "messages", "messages", "{} messages were sent")
            self._compare(_pictures(prompt), "images", "messages", "{} pictures were sent")

    def check_inputs(self, count: int) -> None:
        """Raise LimitExceeded for a request for that many embeddings."""
        self._compare(count, "inputs", "input", "input has {} parts")

    def check_input_tokens(self, count: int) -> None:
        """Raise LimitExceeded for a request for embeddings of that many tokens."""
        self._compare(count, "input_tokens", "input", "the inputs have {} tokens together")

    def told(self, name: str) -> str:
        """How an error names the limit in the field ``name``."""
        return f"at most {getattr(self, name):g} ({flag(name)} sets it)"

    def _compare(self, given: int, name: str, param: str, said: str) -> None:
        if given > getattr(self, name):
            raise LimitExceeded(f"{said.format(given)}; this server takes {self.told(name)}", param=param)


def _pictures(messages: Sequence[Any]) -> int:
    """How many pictures ``messages`` show, told without looking at any."""
    contents = [message.get("content") for message in messages if isinstance(message, Mapping)]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return sum(isinstance(part, Mapping) and part.get("type") in ("image", "image_url") for part in parts)


def flag(name: str) -> str:
    """The option of ``quipu serve`` for the field ``name`` of Limits."""
    [found] = [each.metadata["flag"] for each in fields(Limits) if each.name == name]
    return str(found)


def _check(each: Field[Any], value: Any) -> None:
    seconds, most = each.metadata["unit"] == "SECONDS", each.metadata["most"]
    kind = (int, float) if seconds else int
    if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value < float("inf"):
        wanted = "a number of seconds above 0" if seconds else "a whole number above 0"
        raise InvalidRequest(f"{each.metadata['flag']} must be {wanted}, got {value!r:.80}", param=each.name)
    if most is not None and value > most:
        raise InvalidRequest(f"{each.metadata['flag']} can be at most {most}, got {value}", param=each.name)
