"""``quipu run``: call a capability on a file, on what is piped in, or on every row of a table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from quipu.cli import options
from quipu.cli.answer import usage_dict
from quipu.cli.terminal import faint, print_json, printable, progress
from quipu.errors import InvalidRequest
from quipu.picture import Image

if TYPE_CHECKING:
    from quipu.capabilities.base import Capability, Event, Result
    from quipu.cli.fields import Field
    from quipu.documents import Document

SUMMARY = "call a capability: summarize, translate, ..."
USAGE = "quipu run CAPABILITY [FILE] [--FIELD VALUE ...] [OPTIONS]"
DESCRIPTION = """\
Call a capability. Its text comes from FILE (text, Markdown, HTML or PDF) or
from standard input, its picture from FILE; its other fields are options,
which `quipu run CAPABILITY --help` lists. Piped, only the output is printed.
With --batch, every row of a CSV or JSONL file, or every file of a folder,
is one call."""
EXAMPLES = """\
examples:
  quipu run CAPABILITY --help
  quipu run CAPABILITY report.pdf --json
  quipu run CAPABILITY --batch in.csv --output out.csv --column text=body"""

MOST_PICTURE = 64 << 20
"""Bytes of a picture that are read from standard input; what a model takes may be less."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``run`` reads, but for the fields of a capability."""
    parser.add_argument("capability", metavar="CAPABILITY", help="what to call; comes first (see quipu capabilities)")
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="text, Markdown, HTML, PDF or a picture; - is standard input"
    )
    parser.add_argument(
        "--model", metavar="MODEL", help=f"{options.MODEL_HELP} ({options.DEFAULT_MODEL}); its name at --base-url"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object: output, text, usage ...")
    group = parser.add_argument_group("batch", "a call for each row, its output in new columns")
    group.add_argument("--batch", metavar="FILE", help="rows to read: .csv or .jsonl, or a folder of files")
    group.add_argument("--output", metavar="FILE", help="rows to write, in the same format; goes on where it was ended")
    group.add_argument(
        "--column", action="append", metavar="FIELD=COLUMN", help="a field is in this column; may be repeated"
    )
    options.add_remote(parser)
    options.add_sampling(parser)
    options.add_loading(parser)
    parser.set_defaults(usage_error=parser.error)


def add_fields(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Options for the input of the capability that ``words`` begin with. Raises CapabilityNotFound."""
    if not words or words[0].startswith("-"):
        if len(words) > 1 and not {"-h", "--help"} & set(words):
            parser.error("the capability comes first: quipu run CAPABILITY ...")
        return
    from quipu import capabilities
    from quipu.cli import fields

    capability = capabilities.find(words[0])
    general = set(parser._option_string_actions)
    fields.add_options(parser, capability)
    parser.usage = f"quipu run {capability.id}{' [FILE]' if fields.file_field(capability) else ''} [OPTIONS]"
    parser.description = f"{capability.title}\n\n{capability.description}"
    parser.epilog = f"example:\n  {fields.example(capability, general)}"


def run(arguments: argparse.Namespace) -> None:
    """Call it and print its output. Raises QuipuError, and Unparsed when the model's answer cannot be read."""
    from quipu import capabilities
    from quipu.cli import fields

    capability = capabilities.find(arguments.capability)
    sampling = options.sampling(arguments)
    values = fields.given(arguments, capability)
    if arguments.batch is not None or arguments.output is not None or arguments.column is not None:
        _run_batch(arguments, capability, values, sampling)
        return
    values |= _file(arguments, capability, values)
    given = capability.input.of(values)  # before the model is loaded, which takes a while
    with options.generator(arguments, arguments.model) as model:
        shown = _Shown(capability.title, live=sys.stdout.isatty() and not arguments.json)
        result = shown.watch(capability.events(model, given, sampling))
        if arguments.json:
            print_json({"capability": capability.uri, "model": model.facts.name, **_as_dict(result)})
    for note in _notes(result):
        print(faint(f"note: {note}", sys.stderr), file=sys.stderr)
    if not arguments.json:
        shown.finish(str(result.output))


def _run_batch(
    arguments: argparse.Namespace, capability: Capability, values: dict[str, Any], sampling: dict[str, Any]
) -> None:
    from quipu.cli.batch import Batch

    if arguments.batch is None or arguments.output is None:
        arguments.usage_error("--batch FILE and --output FILE go together; --column goes with them")
    if arguments.file is not None or arguments.json:
        arguments.usage_error("--batch reads its own file and writes one: it takes no FILE and no --json")
    batch = Batch(capability, arguments.batch, arguments.output, arguments.column or (), values, sampling)
    with options.generator(arguments, arguments.model) as model:
        print(batch.run(model), file=sys.stderr)


def _file(arguments: argparse.Namespace, capability: Capability, values: dict[str, Any]) -> dict[str, Any]:
    """What FILE or standard input fills: text, or a picture. Raises InvalidRequest, UnreadableDocument."""
    from quipu.cli import fields

    field = fields.file_field(capability)
    if field is None or field.kind != "pictures":
        return _text(arguments, capability, values)
    pictures = [*_first(arguments.file, field), *values.get(field.name, [])]
    if not pictures and field.required:
        raise InvalidRequest(f"{field.name} is missing; name a FILE, or several with --{field.name}", param=field.name)
    return {field.name: pictures} if pictures else {}


def _first(file: str | None, field: Field) -> list[Any]:
    """The picture FILE, or standard input for "-", as data URLs; none where there is no FILE. Raises InvalidRequest."""
    if file is None:
        return []
    if file != "-" or sys.stdin is None:
        return list(field.opened([file]))
    data = sys.stdin.buffer.read(MOST_PICTURE + 1)
    if len(data) > MOST_PICTURE:
        raise InvalidRequest(f"standard input has more than {MOST_PICTURE >> 20} MiB; make the picture smaller")
    return [Image(data).as_part()["image_url"]["url"]]


def _text(arguments: argparse.Namespace, capability: Capability, values: dict[str, Any]) -> dict[str, str]:
    """The capability's text from FILE or standard input. Raises InvalidRequest, UnreadableDocument."""
    name = capability.text_field
    if arguments.file is not None and (name is None or name in values):
        why = "has no text to read from a file" if name is None else f"has its {name} already, as an option"
        arguments.usage_error(f"{capability.id} {why}; leave {arguments.file!r} out")
    if name is None or name in values:
        return {}
    document = _document(arguments.file)
    if document is None:
        if capability.input.model_fields[name].is_required():
            option = f"--{name.replace('_', '-')}"
            raise InvalidRequest(f"{name} is missing; name a FILE, pipe it in, or give {option} TEXT", param=name)
        return {}
    for note in document.notes:
        print(faint(f"note: {arguments.file or 'standard input'}: {note}", sys.stderr), file=sys.stderr)
    return {name: document.text}


def _document(file: str | None) -> Document | None:
    """FILE, or standard input if somebody pipes something in."""
    from quipu import documents

    if file is not None and file != "-":
        return documents.read(file)
    if sys.stdin is None or (sys.stdin.isatty() and file is None):
        return None
    data = sys.stdin.buffer.read(documents.MOST_BYTES + 1)
    return documents.read_bytes(data, "standard input") if data.strip() or file is not None else None


class _Shown:
    """What a person sees of a call while it goes on: its text on standard output, a bar on standard error."""

    def __init__(self, title: str, *, live: bool) -> None:
        self._title = title
        self._live = live
        self._text = ""
        self._bar = ExitStack()
        self._show: Any = None

    def watch(self, events: Iterator[Event]) -> Result:
        """Follow the call to its end."""
        from quipu.capabilities.base import Delta, Progress, Result

        with self._bar:
            for event in events:
                if isinstance(event, Progress):
                    self._progress(event)
                elif isinstance(event, Delta):
                    self._delta(event.text)
                else:
                    assert isinstance(event, Result)
                    return event
        raise AssertionError("a call ends with a Result")

    def finish(self, output: str) -> None:
        """Print the output, unless it is what was shown already."""
        if self._text and not self._text.endswith("\n"):
            print()
        if self._text.strip() and self._text.strip() == output.strip():
            return
        if self._text:  # what the model wrote, of which the output was made
            print(faint("--", sys.stdout))
        print((printable if sys.stdout.isatty() else str)(output))

    def _progress(self, event: Any) -> None:
        if self._show is None:
            self._show = self._bar.enter_context(progress(self._title))
        self._show(event.done, event.total, event.what)

    def _delta(self, text: str) -> None:
        if self._live:
            self._bar.close()  # a bar and a text cannot share the line
            self._show = None
            self._text += text
            print(printable(text), end="", flush=True)


def _notes(result: Result) -> list[str]:
    cut = (
        ["cut off: the answer reached its longest; --max-tokens allows more"]
        if result.finish_reason == "length"
        else []
    )
    return [*result.notes, *cut]


def _as_dict(result: Result) -> dict[str, Any]:
    return {
        "output": result.output.model_dump(mode="json"),
        "text": result.text,
        "usage": usage_dict(result.usage),
        "finish_reason": result.finish_reason,
        "notes": list(result.notes),
    }
