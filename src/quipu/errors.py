"""Every error quipu raises on purpose. Each knows the HTTP status it becomes and names the cause and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class QuipuError(Exception):
    """Root of the tree. ``str(error)`` is one or two sentences a user can act on.

    Class attributes follow the error object of the OpenAI API: ``status`` (HTTP), ``type`` and ``code``
    (machine-readable names). ``param`` is the request field at fault, where there is one; ``retry_after`` a hint in
    seconds, where waiting helps.
    """

    status = 500
    type = "server_error"
    code: str | None = None
    retry_after: int | None = None

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class InvalidRequest(QuipuError):
    """The caller asked for something that cannot be done as asked; ``param`` names the field."""

    status = 400
    type = "invalid_request_error"


class ContextLengthExceeded(InvalidRequest):
    """The prompt, or the prompt plus the tokens asked for, does not fit the context. Nothing is truncated."""

    code = "context_length_exceeded"

    @classmethod
    def of(
        cls, tokens: int, context: int, *, asked: int | None = None, at_least: bool = False, name: str = "the prompt"
    ) -> ContextLengthExceeded:
        """``name`` has ``tokens`` tokens, or at least so many, and max_tokens ``asked`` for more than ``context``."""
        fits = tokens < context
        had = f"{name} has {'at least ' if at_least else ''}{tokens} tokens"
        more = f" and max_tokens asks for {asked} more" if asked else ""
        advice = "Ask for fewer tokens or shorten it" if fits else "Shorten it"
        return cls(
            f"{had}{more}; the context of this model, as loaded, is {context} tokens. {advice}, or load the model with "
            "a larger --context if it allows one.",
            param="max_tokens" if fits else name.removeprefix("the "),
        )


class CannotSee(InvalidRequest):
    """A picture was shown to a model that reads text only."""

    def __init__(self, param: str = "messages") -> None:
        super().__init__(
            "this model reads text only; ask one that sees pictures, as llama-4-scout and llama-4-maverick do",
            param=param,
        )


class LimitExceeded(InvalidRequest):
    """More than this server takes of something; whoever runs it can raise the limit, whose flag is named."""

    code = "limit_exceeded"


class ModelNotFound(InvalidRequest):
    """No model of that name is known, installed or served here."""

    status = 404
    code = "model_not_found"


class CapabilityNotFound(InvalidRequest):
    """No file defines a capability of that name."""

    status = 404
    code = "capability_not_found"


class UnreadableDocument(InvalidRequest):
    """A file has no text that could be read: missing, damaged, encrypted, too large, or of a kind that is not read."""

    status = 422
    code = "unreadable_document"


class Unparsed(QuipuError):
    """A model's answer is not of the form that was asked for; ``text`` is the answer. Another try may succeed."""

    status = 422
    type = "unparsed_answer"
    code = "unparsed_answer"

    def __init__(self, message: str, *, text: str) -> None:
        super().__init__(message)
        self.text = text


class CapabilityFailed(QuipuError):
    """A fault in the file of a capability, not in what was asked of it."""

    code = "capability_failed"


class RequestTooLarge(InvalidRequest):
    """The body of a request has more bytes than the server reads."""

    status = 413
    code = "request_too_large"


class HeadersTooLarge(InvalidRequest):
    """The address and headers of a request have more bytes, or are more, than the server reads."""

    status = 431
    code = "headers_too_large"


class SlowRequest(InvalidRequest):
    """The body of a request took longer to arrive than the server waits."""

    status = 408
    code = "request_timeout"


class WrongKey(InvalidRequest):
    """The server wants a key and the request has none, or another one."""

    status = 401
    code = "invalid_api_key"


class Forbidden(InvalidRequest):
    """A web page, or a name of this machine, from which the server was not told to take requests."""

    status = 403
    code = "forbidden"


class Overloaded(QuipuError):
    """The queue is full; ``retry_after`` is a hint in seconds."""

    status = 429
    type = "rate_limit_error"
    code = "queue_full"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ServerBusy(Overloaded):
    """As many requests or connections as the server takes at once."""

    status = 503
    type = "server_error"
    code = "server_busy"


class TookTooLong(QuipuError):
    """The answer was not complete within the time that a request may take."""

    status = 503
    code = "time_limit"

    @classmethod
    def of(cls, seconds: float, advice: str, what: str = "the answer") -> TookTooLong:
        """``what`` took longer than ``seconds``; ``advice`` is what its client can do."""
        return cls(
            f"{what} was not complete after {seconds:g} seconds; {advice}, or start the server with a larger "
            "--request-timeout"
        )


class NotEnoughMemory(InvalidRequest):
    """A model does not fit the memory that is free; the message has the numbers."""

    status = 503
    type = "server_error"
    code = "not_enough_memory"

    def __init__(self, message: str, *, param: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message, param=param)
        self.retry_after = retry_after


class LoadFailed(QuipuError):
    """A model that is loaded when first asked for could not be, for a reason that its files do not explain."""

    status = 503
    code = "load_failed"


class HungUp(QuipuError):
    """Whoever asked is gone, or was told already that it failed; nobody reads this."""

    status = 499
    code = "hung_up"


class SandboxUnavailable(QuipuError):
    """Code of a model was to be run, and this machine cannot lock it in. It was not run."""

    status = 501
    code = "sandbox_unavailable"


class EngineStopped(QuipuError):
    """The engine was closed, or failed, while the request was waiting or running."""

    status = 503
    code = "engine_stopped"


class InvalidConfiguration(QuipuError):
    """The configuration file or an environment variable says something that no option means."""

    code = "invalid_configuration"


class CannotListen(QuipuError):
    """The server cannot have the address it was asked to listen on: taken, not of this machine, or forbidden."""

    code = "cannot_listen"


class CheckpointError(QuipuError):
    """The files of a checkpoint cannot be read as a model: missing, damaged, or of a kind not supported."""

    status = 422
    type = "checkpoint_error"


class DamagedCheckpoint(CheckpointError):
    """A file is truncated, has the wrong magic, or contradicts itself."""

    code = "damaged_checkpoint"


class UnsupportedCheckpoint(CheckpointError):
    """A sound file of an architecture, quantization or option that quipu does not run."""

    code = "unsupported_checkpoint"


class MissingTemplate(InvalidRequest):
    """A chat was asked of a checkpoint that carries no chat template and whose family has no known format."""

    code = "missing_chat_template"


class Offline(QuipuError):
    """A download was asked for and the hub cannot be reached."""

    status = 502
    code = "offline"


class StorageFailed(QuipuError):
    """A file that keeps results cannot be written: a full disk, or no permission."""

    code = "storage_failed"


class DamagedLog(StorageFailed):
    """The log of evidence is not what was written: an entry was altered, removed or replaced."""

    code = "damaged_log"


class MissingLibrary(QuipuError):
    """An optional library is needed; the message says how to install it."""

    code = "missing_library"


class RemoteFailed(QuipuError):
    """A model that runs elsewhere did not answer, or its answer broke off."""

    status = 502
    code = "remote_failed"


class MeasurementFailed(QuipuError):
    """An engine that was to be measured ended or refused; the message has what it said."""

    code = "measurement_failed"


class DownloadError(QuipuError):
    """The hub was reached, yet the download cannot be made as asked: gated, refused, no such file, a full disk."""

    status = 502
    code = "download_failed"


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """The end of a complaint about an unknown ``name``: the nearest of ``known``, ``otherwise`` if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else otherwise


def check_fields(value: Mapping[Any, Any], known: Sequence[str], where: str) -> None:
    """Raise InvalidRequest unless all names in the object ``value``, which stands at ``where``, are ``known``."""
    for given in value:
        if given not in known:
            name = f"{given!s:.80}"
            hint = did_you_mean(name, known, f"known: {', '.join(known)}")
            raise InvalidRequest(f"{where} has no field {name!r}; {hint}", param=f"{where}.{name}")


def field_path(parts: Sequence[str | int]) -> str:
    """Where a field is, as in ``messages[2].content``; empty for the whole."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
