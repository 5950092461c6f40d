"""Options that several verbs share: how a model is loaded, and how its tokens are chosen."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from quipu.cli.terminal import progress
from quipu.errors import InvalidRequest, ModelNotFound
from quipu.types import Sampling

if TYPE_CHECKING:
    from quipu.engine.local import LocalModel
    from quipu.engine.remote import RemoteModel
    from quipu.evidence.cards import Endpoint
    from quipu.evidence.store import Store

DEFAULT_MODEL = "smollm2-135m-instruct"
MODEL_HELP = "a .gguf file, a Hugging Face or Meta folder, a known name, or OWNER/NAME that was pulled"
DTYPES = ("auto", "bfloat16", "float16", "float32")
SPECULATE = ("auto", "on", "off")
KV_DTYPES = ("auto", "f16", "int8", "f32")
QUANTIZATIONS = ("q8", "q4")
RUNNERS = ("auto", "native", "torch")
"""As quipu.engine.backends has them; repeated because importing that takes a second."""


def positive(text: str) -> int:
    """argparse type: an integer of at least 1."""
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def gibibytes(text: str) -> float:
    """argparse type: a size in GiB above 0."""
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII) or float(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of GiB above 0")
    return float(text)


def add_loading(parser: argparse.ArgumentParser) -> None:
    """Options of quipu.load."""
    group = parser.add_argument_group("loading")
    group.add_argument("--context", type=positive, metavar="TOKENS", help="prompt and answer together (the model's)")
    group.add_argument("--dtype", choices=DTYPES, default="auto", help="what weights are converted to (as stored)")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... (auto)")
    group.add_argument("--threads", type=positive, metavar="N", help="processor threads (one per core)")
    group.add_argument("--adapter", metavar="FOLDER", help="a LoRA adapter in PEFT's format")
    group.add_argument("--kv-memory", type=gibibytes, metavar="GIB", help="memory for keys and values")
    group.add_argument("--kv-dtype", choices=KV_DTYPES, default="auto", help="how keys and values are kept (f16)")
    group.add_argument("--quantize", choices=QUANTIZATIONS, help="make 8 or 4 bits of weights stored as floats")
    group.add_argument("--runner", choices=RUNNERS, default="auto", help="quipu's CPU kernels, or torch (auto)")
    group.add_argument("--speculate", choices=SPECULATE, help="guess tokens ahead and verify them together (auto)")
    group.add_argument("--draft", metavar="MODEL", help="a smaller model of the same vocabulary that guesses")


def loading(arguments: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments for quipu.load; what was not given is left to it."""
    names = (
        "context",
        "dtype",
        "device",
        "threads",
        "adapter",
        "kv_memory",
        "kv_dtype",
        "quantize",
        "runner",
        "speculate",
        "draft",
    )
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


def add_remote(parser: argparse.ArgumentParser) -> None:
    """Options that name a model elsewhere."""
    group = parser.add_argument_group("a model that runs elsewhere")
    group.add_argument("--base-url", metavar="URL", help="an OpenAI-compatible API, as in http://127.0.0.1:8000/v1")
    group.add_argument("--key-variable", metavar="NAME", help="the environment variable that holds its key")


def remote(arguments: argparse.Namespace, model: str | None) -> RemoteModel | None:
    """The model at --base-url, called ``model`` there, or where the user's card ``model`` says; None without either.

    Wrong usage ends the program; raises what RemoteModel does, and InvalidRequest for a variable that is not set.
    """
    at, why = _endpoint(arguments, model)
    if at is None:
        return None
    for name in sorted(loading(arguments).keys() - {"context", "dtype", "device", "kv_dtype", "runner"}):
        arguments.usage_error(f"--{name.replace('_', '-')} is about loading a model here; {why} names another's")
    if at.key_variable is not None and not os.environ.get(at.key_variable):
        where = "--key-variable names" if arguments.base_url else f"{why} has its key in"
        raise InvalidRequest(f"{where} {at.key_variable}, which is not set", param="key_variable")
    from quipu.engine.remote import RemoteModel

    key = os.environ[at.key_variable] if at.key_variable else None
    return RemoteModel(at.base_url, at.model, key=key, context_length=arguments.context or at.context_length)


def _endpoint(arguments: argparse.Namespace, model: str | None) -> tuple[Endpoint | None, str]:
    """Where a model is served, and what says so."""
    from quipu.evidence.cards import Endpoint, endpoint

    if arguments.base_url is not None:
        return Endpoint(arguments.base_url, model, arguments.key_variable), "--base-url"
    if arguments.key_variable is not None:
        arguments.usage_error("--key-variable goes with --base-url")
    return (None if model is None else endpoint(model)), f"the card {model}"


def generator(arguments: argparse.Namespace, model: str | None, **more: Any) -> LocalModel | RemoteModel:
    """The model that the options name: at --base-url, where the user's card says, else loaded here (None: the default).

    ``more`` are arguments of quipu.load that no option sets.
    """
    elsewhere = remote(arguments, model)
    if elsewhere is not None:
        return elsewhere
    import quipu

    name = model or DEFAULT_MODEL
    with progress(name) as show:
        try:
            return quipu.load(name, progress=show, **more, **loading(arguments))
        except ModelNotFound:
            _refuse_card(name)
            raise


def _refuse_card(name: str) -> None:
    """Raise ModelNotFound for a model that has a card, and no weights that quipu runs; return for any other name."""
    from quipu.evidence.cards import built_in
    from quipu.evidence.measuring import measuring

    if name in built_in() and "--of" in measuring(name):
        raise ModelNotFound(f"quipu runs no weights of {name} here; ask an endpoint: {measuring(name)}", param="model")


def add_evidence(parser: argparse.ArgumentParser) -> None:
    """The option that names the log of evidence."""
    parser.add_argument("--evidence-url", metavar="URL", help="the log: sqlite:///FILE or postgresql://... (your own)")


def evidence(arguments: argparse.Namespace, *, create: bool = False) -> Store:
    """The log that the options name. Without ``create``, a file that is not there yet is an empty log."""
    from quipu.evidence.store import Store

    return Store.at(arguments.evidence_url, create=create)


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Options of Sampling by their API names. Those that ask for several answers or scores are for programs."""
    group = parser.add_argument_group("sampling", "what is not given comes from the model's own defaults")
    group.add_argument("--max-tokens", type=int, metavar="N", help="longest answer (until the context is full)")
    group.add_argument("--min-tokens", type=int, metavar="N", help="shortest answer")
    group.add_argument("--temperature", type=float, metavar="T", help="0 always takes the likeliest token")
    group.add_argument("--top-p", type=float, metavar="P", help="likeliest tokens that make up P")
    group.add_argument("--top-k", type=int, metavar="K", help="the K likeliest tokens; 0 is all")
    group.add_argument("--min-p", type=float, metavar="P", help="tokens at least P times as likely as the best")
    group.add_argument("--seed", type=int, metavar="N", help="the same answer again")
    group.add_argument("--stop", action="append", metavar="TEXT", help="end before TEXT; may be repeated")
    group.add_argument("--presence-penalty", type=float, metavar="X", help="-2 to 2; against tokens said before")
    group.add_argument("--frequency-penalty", type=float, metavar="X", help="-2 to 2; by how often they were said")
    group.add_argument("--repetition-penalty", type=float, metavar="X", help="above 1 against repetition")
    group.add_argument("--logit-bias", metavar="JSON", help="token ids to bias, e.g. '{\"42\": -100}'")
    group.add_argument("--ignore-eos", action="store_true", default=None, help="go on where the model would end")


SAMPLING = (
    "max_tokens",
    "min_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "ignore_eos",
)
"""Fields of Sampling that make sense for one answer shown as text."""


def sampling(arguments: argparse.Namespace) -> dict[str, Any]:
    """Sampling options that were given, checked. Raises InvalidRequest by name."""
    return checked({name: getattr(arguments, name) for name in SAMPLING if getattr(arguments, name) is not None})


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` if each makes sense for one answer shown as text. Raises InvalidRequest by name.

    Only what was given is kept: the rest comes from the model's own defaults.
    """
    result = {name: _logit_bias(value) if name == "logit_bias" else value for name, value in options.items()}
    stop = result.get("stop", ())
    if not isinstance(stop, str | list | tuple):
        raise InvalidRequest(f"stop must be a string or a list of strings, got {stop!r:.80}", param="stop")
    Sampling.of(result)
    for name in result:
        if name not in SAMPLING:
            raise InvalidRequest(f"{name} is for programs; a chat shows one answer as text", param=name)
    return result


def _logit_bias(given: Any) -> dict[int, float]:
    """Token id -> bias, from JSON or from what it holds; its keys are strings."""
    try:
        value = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"logit_bias is not JSON: {error}", param="logit_bias") from None
    if not isinstance(value, dict) or not all(re.fullmatch(r"[0-9]{1,9}", str(token)) for token in value):
        raise InvalidRequest(f"logit_bias must map token ids to numbers, got {value!r:.80}", param="logit_bias")
    return {int(token): bias for token, bias in value.items()}
