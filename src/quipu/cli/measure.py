"""``quipu measure``: what a model can do, capability by capability, with how sure that is."""

from __future__ import annotations

import argparse
import os
import re
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quipu.cli import options
from quipu.cli.terminal import faint, print_json, print_table, progress
from quipu.errors import InvalidRequest

if TYPE_CHECKING:
    from quipu.capabilities.base import Answering, Measured
    from quipu.engine.local import LocalModel
    from quipu.engine.remote import RemoteModel
    from quipu.evidence.store import Store
    from quipu.evidence.summary import Measurement

SUMMARY = "measure what a model can do"
USAGE = "quipu measure [MODEL] [OPTIONS]"
DESCRIPTION = """\
Ask a model the probes of each capability and score its answers: score, 95 %
interval, answers that could not be read, and the score of a trivial answer to
compare with. Every answer is kept in the log of evidence, so a measurement that
was interrupted goes on where it stopped."""
EXAMPLES = """\
examples:
  quipu measure
  quipu measure ./model.gguf --capability summarize --capability translate
  quipu measure --budget 10m --json > today.json
  quipu measure --evidence-url sqlite:///elsewhere.sqlite
  quipu measure llama3.2 --base-url http://127.0.0.1:11434/v1 --context 8192
  quipu measure --markdown table.md --chart scores.svg"""

UNITS = {"s": 1, "m": 60, "h": 3600}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``run`` reads."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help=f"{options.MODEL_HELP} ({options.DEFAULT_MODEL})")
    parser.add_argument("--capability", action="append", metavar="ID", help="only this one; may be repeated (all)")
    parser.add_argument("--budget", type=duration, metavar="TIME", help="begin no probe after it: 90s, 10m, 2h (none)")
    parser.add_argument("--together", type=options.positive, default=16, metavar="N", help="probes at once (16)")
    parser.add_argument("--fresh", action="store_true", help="ask again what was asked before; the last answer counts")
    options.add_evidence(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a page, too")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="write a chart as SVG, too")
    options.add_remote(parser)
    options.add_sampling(parser)
    options.add_loading(parser)
    parser.set_defaults(usage_error=parser.error)


def duration(text: str) -> float:
    """argparse type: a time above 0, in seconds."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smh])", text, re.ASCII)
    if found is None or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time like 90s, 10m or 2h")
    return float(found[1]) * UNITS[found[2]]


def run(arguments: argparse.Namespace) -> None:
    """Measure, then print what was found. Raises QuipuError."""
    from quipu.engine.remote import RemoteModel
    from quipu.evidence import report
    from quipu.evidence.config import Config
    from quipu.evidence.measure import measure
    from quipu.evidence.summary import about

    sampling = options.sampling(arguments)
    answering, streaming = _chosen(arguments.capability)
    with ExitStack() as opened:
        store = opened.enter_context(options.evidence(arguments, create=True))
        model = options.generator(arguments, arguments.model, concurrency=arguments.together)
        opened.callback(model.close)
        with progress("hashing"):
            config = Config.of(model, sampling)
            if isinstance(model, RemoteModel) and arguments.base_url is None:
                config = replace(config, label=arguments.model)  # the user's card, not what it is called there
        with progress("measuring") as show:
            found = measure(
                model,
                answering,
                store,
                config=config,
                seconds=arguments.budget,
                together=arguments.together,
                sampling=sampling,
                fresh=arguments.fresh,
                report=show,
            )
        service = _stream(model, streaming, store, config.id) if streaming else None
        whole = report.report(about(model, sampling), found, service, getattr(model.facts, "dtype", "elsewhere"))
    if arguments.markdown:
        picture = os.path.relpath(arguments.chart, arguments.markdown.parent) if arguments.chart else None
        write(arguments.markdown, report.markdown(whole, picture))
    if arguments.chart:
        write(arguments.chart, report.chart(whole))
    if arguments.json:
        print_json(whole)
    else:
        _print(whole, found, store.name)


def _chosen(names: list[str] | None) -> tuple[list[Answering], list[Measured]]:
    """The capabilities to measure: those with probes, and those that are the service itself.

    Raises InvalidRequest for one by name that is neither: it can be called only.
    """
    from quipu import capabilities
    from quipu.capabilities.base import Answering, Measured

    chosen = [capabilities.find(name) for name in dict.fromkeys(names or capabilities.names())]
    answering = [each for each in chosen if isinstance(each, Answering)]
    services = [each for each in chosen if isinstance(each, Measured)]
    if names and len(answering) + len(services) < len(chosen):
        [other, *_] = [each.id for each in chosen if not isinstance(each, (Answering, Measured))]
        raise InvalidRequest(
            f"{other} has no probes and no measure(), so there is nothing to measure; quipu run {other} calls it",
            param="capability",
        )
    return answering, services


def _stream(model: LocalModel | RemoteModel, services: list[Measured], store: Store, config: str) -> dict[str, Any]:
    """What the service is measured to do, over HTTP. It is the last thing: a server closes its model when it ends."""
    from quipu.capabilities.base import Progress, Result
    from quipu.engine.local import LocalModel

    with ExitStack() as opened:
        if isinstance(model, LocalModel):
            from quipu.engine.remote import RemoteModel
            from quipu.serve.app import create_app
            from quipu.serve.server import background

            url = opened.enter_context(background(create_app({model.facts.name: model})))
            model = opened.enter_context(RemoteModel(f"{url}/v1"))
        found: dict[str, Any] = {}
        for service in services:
            with progress(service.id) as show:
                for event in service.measure(model, service.input.of({}), {}):
                    if isinstance(event, Progress):
                        show(event.done, event.total, event.what)
                    elif isinstance(event, Result):
                        seen = event.output.model_dump()
                        store.append("service", {"config": config, "capability": service.uri, "found": seen})
                        found |= seen
        return found


def write(path: Path, text: str) -> None:
    """``text`` as a file. Raises InvalidRequest where it cannot be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}") from None


def _print(whole: dict[str, Any], found: list[Measurement], place: str) -> None:
    from quipu.evidence import report

    print_table(report.table(whole))
    for method in sorted({each.interval.method.partition(",")[0] for each in found if each.interval}):
        print(faint(f"intervals by {method}, of the effective number of probes", sys.stderr), file=sys.stderr)
    if whole["streaming"] is not None:
        print()
        print_table([[name.replace("_", " "), str(value)] for name, value in whole["streaming"].items()])
    left = sum(each.probes for each in found) - sum(each.interval.n if each.interval else 0 for each in found)
    left -= sum(each.beyond_context for each in found)
    if left:
        print(
            faint(f"{left} probes were not asked yet; the same command goes on with them", sys.stderr), file=sys.stderr
        )
    print(faint(f"kept in {place}", sys.stderr), file=sys.stderr)
