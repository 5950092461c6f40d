"""``quipu chat``: talk to a model, or ask it one thing from a script."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quipu.cli import options
from quipu.cli.answer import Answer
from quipu.cli.conversation import Conversation
from quipu.cli.terminal import faint, piped_text, print_json, printable, progress
from quipu.errors import InvalidRequest
from quipu.picture import Image
from quipu.tools.closing import shown
from quipu.tools.tool import ToolUse
from quipu.types import Constraint, Prompt

if TYPE_CHECKING:
    from quipu.engine.local import LocalModel

SUMMARY = "talk to a model"
USAGE = "quipu chat [MODEL] [OPTIONS]"
DESCRIPTION = """\
Talk to a model at the terminal: answers stream, Ctrl-C stops one, /help lists
the commands. With -p, or when text is piped in, ask one thing and print only
the answer. With both, the piped text follows the prompt after a blank line."""
EXAMPLES = """\
examples:
  quipu chat
  quipu chat ./model.gguf --system "Answer in one sentence." --temperature 0
  quipu chat -p "What is the capital of Japan?" --temperature 0
  quipu chat -p "Summarize this:" < report.txt
  quipu chat -p "Once upon a time" --raw --max-tokens 50
  quipu chat -p "Name a colour." --json
  quipu chat -p "A red chair and two tables." --json-schema order.json
  quipu chat --tools tools.json
  quipu chat ./Llama-4-Scout -p "What is on the table?" --image photo.jpg"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``run`` reads."""
    parser.add_argument(
        "model", nargs="?", default=options.DEFAULT_MODEL, metavar="MODEL", help=f"{options.MODEL_HELP} (%(default)s)"
    )
    parser.add_argument("-p", "--prompt", metavar="TEXT", help="ask this, print the answer, leave")
    parser.add_argument("--system", metavar="TEXT", help="tell the model how to behave")
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="FILE",
        help="show this picture with the first question; may be repeated",
    )
    parser.add_argument(
        "--tools",
        metavar="FILE",
        help="functions that it may call, a list as the OpenAI API has it; you type the results",
    )
    parser.add_argument("--raw", action="store_true", help="continue the text as it is, without a chat template")
    parser.add_argument("--json", action="store_true", help="print one JSON object: text, tool_calls, usage, timings")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json-schema", metavar="FILE", help="answer with JSON that validates against this schema")
    form.add_argument("--regex", metavar="PATTERN", help="answer with a text that the whole pattern matches")
    options.add_sampling(parser)
    options.add_loading(parser)
    parser.set_defaults(usage_error=parser.error)


def run(arguments: argparse.Namespace) -> None:
    """Chat until the user leaves, or answer one prompt. Raises QuipuError."""
    if arguments.raw and arguments.system is not None:
        arguments.usage_error("--system is part of a chat; --raw has none")
    if arguments.raw and arguments.image:
        arguments.usage_error("--image is part of a chat; --raw has none")
    if arguments.raw and arguments.tools is not None:
        arguments.usage_error("--tools are part of a chat; --raw has none")
    sampling = options.sampling(arguments)
    tools = _tools(arguments.tools)
    images = tuple(Image.of(Path(file), "--image") for file in arguments.image)
    prompt = _prompt(arguments.prompt, piped_text(), raw=arguments.raw)
    if prompt is None and (arguments.raw or arguments.json):
        arguments.usage_error("--raw and --json need -p TEXT or piped text")
    constraint = _constraint(arguments)
    if prompt is None and constraint is not None:
        arguments.usage_error("--json-schema and --regex need -p TEXT or piped text")
    with _load(arguments) as model:
        if images and not model.sees:
            raise InvalidRequest(f"{model.facts.name} reads text only; --image is for models that see pictures")
        conversation = Conversation(arguments.system, sampling, showing=images, tools=tools)
        if prompt is None:
            _interact(model, conversation)
        else:
            asked = prompt if arguments.raw else conversation.messages(prompt)
            told = {"tools": tools} if tools else {}
            _answer(model, asked, sampling | {"constraint": constraint} | told, arguments.json)


def _constraint(arguments: argparse.Namespace) -> Constraint | None:
    """What the answer must look like. Raises InvalidRequest where the file holds no JSON."""
    if arguments.regex is not None:
        return Constraint("regex", arguments.regex)
    if arguments.json_schema is None:
        return None
    try:
        return Constraint("json_schema", json.loads(Path(arguments.json_schema).read_bytes()))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{arguments.json_schema} is no JSON Schema: {error}", param="json_schema") from None


def _tools(file: str | None) -> list[Any]:
    """The definitions in ``file``, or in its field ``tools``. Raises InvalidRequest for what is none of a tool."""
    if file is None:
        return []
    try:
        given = json.loads(Path(file).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{file} is no list of tools: {error}", param="tools") from None
    given = given.get("tools", given) if isinstance(given, dict) else given
    if not isinstance(given, list) or not given:
        raise InvalidRequest(
            f'{file} is no list of tools: [{{"type": "function", "function": {{"name": ..., "parameters": ...}}}}]',
            param="tools",
        )
    try:
        ToolUse.of(given)
    except InvalidRequest as error:
        raise InvalidRequest(f"{file}: {error}", param="tools") from None
    return given


def _prompt(given: str | None, piped: str | None, *, raw: bool) -> str | None:
    """The text to answer, None to ask a person. Raises InvalidRequest when there is nothing in it."""
    if given is None and piped is None:
        return None
    if piped is not None and not raw:
        piped = piped.rstrip("\r\n")  # the last line's end is the file's, not the question's
    text = "\n\n".join(part for part in (given, piped) if part)
    if not text.strip():
        raise InvalidRequest("there is nothing to answer: the prompt is empty; give -p TEXT or pipe text in")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"the prompt is not UTF-8 text ({error.reason} at {error.start})") from None
    return text


def _load(arguments: argparse.Namespace) -> LocalModel:
    import quipu

    with progress(arguments.model) as show:
        return quipu.load(arguments.model, concurrency=1, progress=show, **options.loading(arguments))


def _interact(model: LocalModel, conversation: Conversation) -> None:
    from quipu.cli.interactive import Interactive
    from quipu.cli.line_input import LineInput, history_file

    lines = LineInput(history_file())
    try:
        Interactive(model, conversation, lines).run()
    finally:
        lines.close()


def _answer(model: LocalModel, prompt: Prompt, sampling: dict[str, Any], as_json: bool) -> None:
    """Print one answer, as it comes or as JSON."""
    here = sys.stdout.isatty()
    show = printable if here else str
    free = "tools" not in sampling and sampling["constraint"] is None and not isinstance(prompt, str)
    # Calls that nobody asked for are text to programs: what is piped on is what the model wrote.
    answer = Answer(reading=free and (here or as_json))
    with model.stream(prompt, **sampling) as stream:
        for text in answer.watch(stream):
            if not as_json:
                print(show(text), end="", flush=True)
    rest = show(answer.rest())
    if as_json:
        print_json({"model": model.facts.name, **answer.as_dict()})
        return
    print(rest, end="")
    if answer.line_open or not (answer.text or answer.calls):
        print()
    for call in answer.calls:
        print(faint(f"calls {show(shown(call))}", sys.stdout))
    if sys.stderr.isatty():
        print(faint(answer.summary(model.context_length), sys.stderr), file=sys.stderr)
