"""``quipu serve``: models behind the OpenAI API."""

from __future__ import annotations

import argparse
import re
import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from quipu.cli import guarding, options
from quipu.cli.terminal import progress
from quipu.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from quipu.engine.local import LocalModel
    from quipu.serve.residents import Source

LOG_FORMATS = ("text", "json", "none")
DEFAULT_KEEP_ALIVE = 300.0
"""Seconds, where several models are served."""

SUMMARY = "serve models over HTTP, as the OpenAI API"
USAGE = "quipu serve [MODEL ...] [OPTIONS]"
DESCRIPTION = """\
Serve one or more models over HTTP, so that programs written for the OpenAI API
work unchanged. Each model is reached under its own name."""
EXAMPLES = """\
examples:
  quipu serve
  quipu serve ./model.gguf --name assistant --port 9000
  quipu serve smollm2-135m-instruct ./other.gguf --context 4096
  curl http://127.0.0.1:8000/v1/models"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``run`` reads."""
    parser.add_argument(
        "models",
        nargs="*",
        default=[options.DEFAULT_MODEL],
        metavar="MODEL",
        help=f"{options.MODEL_HELP} ({options.DEFAULT_MODEL})",
    )
    parser.add_argument("--name", metavar="NAME", help="what the model is called in requests; for one MODEL")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=port, default=8000, help="port to listen on (%(default)s)")
    parser.add_argument(
        "--concurrency", type=options.positive, default=16, metavar="N", help="answers generated at once (%(default)s)"
    )
    parser.add_argument(
        "--keep-alive",
        type=seconds,
        metavar="SECONDS",
        help="load each model when first asked for, unload it after so long without a request; 0 at once, -1 never "
        "(one MODEL: loaded at the start, kept; several: 300)",
    )
    parser.add_argument("--queue", type=int, default=256, metavar="N", help="requests that may wait (%(default)s)")
    guarding.add_arguments(parser)
    parser.add_argument(
        "--log-format", choices=LOG_FORMATS, default="text", help="a line for each request, on standard error (text)"
    )
    parser.add_argument(
        "--allow-remote-images",
        action="store_true",
        help="fetch pictures that requests name by an address on the open internet",
    )
    parser.add_argument("--log-prompts", action="store_true", help="with what was asked, for debugging")
    options.add_evidence(parser)
    options.add_loading(parser)
    parser.set_defaults(usage_error=parser.error)


def port(text: str) -> int:
    """argparse type: a TCP port; 0 takes a free one."""
    if not (text.isascii() and text.isdigit() and int(text[:6]) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def seconds(text: str) -> float:
    """argparse type: a number of seconds from 0, or -1."""
    if text != "-1" and not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0, nor -1 for never")
    return float(text)


def checkpoint_name(model: str) -> str:
    """What the model is called; opens its files, so that what cannot be a model is refused now."""
    from quipu.model.checkpoint import open_checkpoint

    return open_checkpoint(model).name


def loaded_line(model: LocalModel) -> str:
    """What was loaded, and how much of its context; less than the model's own only where memory is short."""
    facts = model.facts
    context = f"context {model.context_length} of {facts.context_length} tokens"
    loss = f", packing loss {model.packing_loss:.1e}" if model.packing_loss else ""
    return f"loaded {facts.name} ({context}, {facts.dtype}{loss}) from {facts.file}"


def run(arguments: argparse.Namespace) -> None:
    """Load the models, then serve until interrupted. Raises QuipuError."""
    limits = guarding.limits(arguments)
    if arguments.name is not None and len(arguments.models) > 1:
        arguments.usage_error("--name goes with one MODEL")
    from quipu.serve.app import create_app
    from quipu.serve.remote_images import RemoteImages
    from quipu.serve.request_log import WRITERS
    from quipu.serve.server import bind
    from quipu.serve.server import run as run_server

    keep_alive: float | None = arguments.keep_alive
    on_demand = len(arguments.models) > 1 or keep_alive is not None
    with ExitStack() as loaded:
        listener = loaded.enter_context(bind(arguments.host, arguments.port))
        key, made = guarding.find_key(arguments, listener.getsockname()[0])
        models: dict[str, Source] = {}
        for model in arguments.models:
            if on_demand:
                name = arguments.name or checkpoint_name(model)
                source: Source = partial(load_quietly, arguments, model, name)
            else:
                with progress(model) as show:
                    source = loaded.enter_context(load(arguments, model, arguments.name, show))
                name = source.facts.name
            if name in models:
                raise InvalidRequest(f"two models are called {name}; serve one of them alone with --name", param="name")
            models[name] = source
        idle = DEFAULT_KEEP_ALIVE if keep_alive is None else None if keep_alive < 0 else keep_alive
        app = create_app(
            models,
            unload_after_seconds=idle,
            limits=limits,
            key=key,
            allowed_hosts=arguments.allowed_host,
            cors_origins=arguments.cors_origin,
            log=WRITERS.get(arguments.log_format),
            log_prompts=arguments.log_prompts,
            evidence_url=arguments.evidence_url,
            remote_images=RemoteImages() if arguments.allow_remote_images else None,
        )
        if made is not None:
            print(made, flush=True)
        # Flushed, so that the address is in a log file while the server runs.
        run_server(app, listener, announce=partial(print, flush=True))


def load(
    arguments: argparse.Namespace, model: str, name: str | None, progress: Callable[[int, int, str], None] | None
) -> LocalModel:
    """Load ``model`` as the options say, and say that it is."""
    import quipu

    result = quipu.load(
        model,
        name=name,
        concurrency=arguments.concurrency,
        queue=arguments.queue,
        progress=progress,
        **options.loading(arguments),
    )
    print(loaded_line(result), file=sys.stderr)
    return result


def load_quietly(arguments: argparse.Namespace, model: str, name: str) -> LocalModel:
    """Load ``model`` while the server runs: a progress bar would write over what else is logged."""
    return load(arguments, model, name, None)
