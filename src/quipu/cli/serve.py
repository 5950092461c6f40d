"""``quipu serve``: models behind the OpenAI API."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from quipu.cli import guarding, options
from quipu.cli.terminal import progress
from quipu.errors import InvalidRequest

if TYPE_CHECKING:
    from quipu.engine.local import LocalModel

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
    parser.add_argument("--queue", type=int, default=256, metavar="N", help="requests that may wait (%(default)s)")
    guarding.add_arguments(parser)
    options.add_loading(parser)
    parser.set_defaults(usage_error=parser.error)


def port(text: str) -> int:
    """argparse type: a TCP port; 0 takes a free one."""
    if not (text.isascii() and text.isdigit() and int(text[:6]) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def loaded_line(model: LocalModel) -> str:
    """What was loaded, and how much of its context; less than the model's own only where memory is short."""
    facts = model.facts
    context = f"context {model.context_length} of {facts.context_length} tokens"
    return f"loaded {facts.name} ({context}, {facts.dtype}) from {facts.file}"


def run(arguments: argparse.Namespace) -> None:
    """Load the models, then serve until interrupted. Raises QuipuError."""
    limits = guarding.limits(arguments)
    if arguments.name is not None and len(arguments.models) > 1:
        arguments.usage_error("--name goes with one MODEL")
    import quipu
    from quipu.serve.app import create_app
    from quipu.serve.server import bind
    from quipu.serve.server import run as run_server

    with ExitStack() as loaded:
        listener = loaded.enter_context(bind(arguments.host, arguments.port))
        key, made = guarding.find_key(arguments, listener.getsockname()[0])
        models: dict[str, LocalModel] = {}
        for model in arguments.models:
            with progress(model) as show:
                each = quipu.load(
                    model,
                    name=arguments.name,
                    concurrency=arguments.concurrency,
                    queue=arguments.queue,
                    progress=show,
                    **options.loading(arguments),
                )
            loaded.enter_context(each)
            name = each.facts.name
            if name in models:
                raise InvalidRequest(f"two models are called {name}; serve one of them alone with --name", param="name")
            print(loaded_line(each), file=sys.stderr)
            models[name] = each
        app = create_app(
            models,
            limits=limits,
            key=key,
            allowed_hosts=arguments.allowed_host,
            cors_origins=arguments.cors_origin,
        )
        if made is not None:
            print(made, flush=True)
        # Flushed, so that the address is in a log file while the server runs.
        run_server(app, listener, announce=partial(print, flush=True))
