"""A checkpoint's own chat template: Jinja from a file that strangers wrote, run in a sandbox and with limits."""

from __future__ import annotations

import json
import operator
import re
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.environment import Template
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from quipu.errors import InvalidRequest, UnsupportedCheckpoint

PINNED_DATE = "26 Jul 2024"
"""What templates that ask for today's date are told: the fallback written in Llama 3.2's own template. A date that
moves would change every prompt at midnight: no cached prefix and no repeatable answer."""

_SECONDS = 10.0
_MAX_VALUE = 10_000_000  # characters, items or bits that one operator may make

_deadline: ContextVar[float] = ContextVar("deadline")


class _Refusal(TemplateError):
    """Raised by ``raise_exception``: the template refuses the conversation; it is the caller who can change that."""


class ChatTemplate:
    """A compiled template; rendering is safe from several threads.

    The variables and functions are those that transformers gives: ``messages``, ``add_generation_prompt``,
    ``bos_token``, ``eos_token``, ``tools`` (none), ``raise_exception``, ``strftime_now``, ``tojson``. ``date`` is
    written as "26 Jul 2024". Raises UnsupportedCheckpoint for a template that does not compile.
    """

    def __init__(self, source: str, *, bos_token: str = "", eos_token: str = "", date: str = PINNED_DATE) -> None:
        try:
            today = datetime.strptime(date, "%d %b %Y")
        except ValueError:
            raise InvalidRequest(f"date is {date!r:.40}; write it as {PINNED_DATE!r}", param="date") from None
        environment = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        environment.filters["tojson"] = _tojson
        environment.globals.update(raise_exception=_refuse, strftime_now=today.strftime)
        del environment.globals["lipsum"]  # unlimited filler text
        self.source = source
        self._variables = {"bos_token": bos_token, "eos_token": eos_token, "date_string": date, "tools": None}
        try:
            self._template = _compile(environment, source)
        except (TemplateError, RecursionError, SyntaxError, ValueError) as error:
            line = f", line {error.lineno}" if isinstance(error, TemplateSyntaxError) else ""
            raise UnsupportedCheckpoint(
                f"the checkpoint's chat template does not compile{line}: {error}. Give another template"
            ) from error

    def render(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True) -> str:
        """The prompt as text.

        Raises InvalidRequest with the template's own words where it refuses the conversation, and
        UnsupportedCheckpoint where the template itself fails, runs for 10 s, or writes without end.
        """
        limit = 1_000_000 + 8 * len(repr(messages))
        written, length = [], 0
        entered = _deadline.set(time.monotonic() + _SECONDS)
        try:
            for text in self._template.generate(
                self._variables, messages=messages, add_generation_prompt=add_generation_prompt
            ):
                written.append(text)
                length += len(text)
                if length > limit:
                    raise SecurityError(f"it wrote more than {limit} characters")
        except _Refusal as error:
            raise InvalidRequest(f"the model's chat template refuses this: {error}", param="messages") from error
        except Exception as error:  # any Python error can come out of a template's expressions
            raise UnsupportedCheckpoint(
                f"the checkpoint's chat template fails on this conversation: {error or type(error).__name__}. "
                "Give another template"
            ) from error
        finally:
            _deadline.reset(entered)
        return "".join(written)


def _refuse(message: str) -> None:
    raise _Refusal(message)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """As transformers' filter: plain JSON, no HTML escapes. Private-use characters are never escaped, because
    ``Shield`` stands them in for others and must find them again."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys)
    if not ensure_ascii:
        return text
    return re.sub("[^\x00-\x7f\ue000-\uf8ff\U000f0000-\U0010ffff]", lambda match: json.dumps(match[0])[1:-1], text)


class _Generation(Extension):
    """``{% generation %}`` marks what a trainer learns; for a prompt only its content matters."""

    tags = {"generation"}  # noqa: RUF012 - declared so by the base class

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox keeps a template away from Python; this adds limits on work and on the size of values."""

    intercepted_binops = frozenset(["+", "*", "**"])

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+":
            size = _size(left) + _size(right)
        elif operator == "*":
            size = max(_size(left) * _count(right), _size(right) * _count(left))
        else:
            size = _count(left).bit_length() * _count(right)
        if size > _MAX_VALUE:
            raise SecurityError(f"the operator {operator} would make a value of size {size}")
        return super().call_binop(context, operator, left, right)

    def tick(self) -> None:
        """Called at the start of each turn of a loop and of each macro."""
        if time.monotonic() > _deadline.get():
            raise SecurityError(f"it ran for more than {_SECONDS:.0f} s")

    def glue(self, *values: Any) -> str:
        """The operator ``~``."""
        texts = [str(value) for value in values]
        if sum(map(len, texts)) > _MAX_VALUE:
            raise SecurityError("the operator ~ would make too long a text")
        return "".join(texts)


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple) else 0


def _count(value: Any) -> int:
    return abs(operator.index(value)) if isinstance(value, int) else 0


class _Limits(NodeTransformer):
    """Puts ``tick`` into every loop and macro, and ``glue`` in place of ``~``."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - named by jinja2 for the node
        return self._ticking(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        return self._ticking(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _call("glue", node.nodes, node.lineno)

    def _ticking(self, node: nodes.For | nodes.Macro) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_call("tick", [], node.lineno), lineno=node.lineno))
        return node


def _call(name: str, arguments: list[nodes.Expr], line: int) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name, lineno=line), arguments, [], None, None, lineno=line)


def _compile(environment: _Environment, source: str) -> Template:
    tree = _Limits().visit(environment.parse(source))
    tree.set_environment(environment)
    code = environment.compile(tree, name="chat_template", filename="chat_template")
    return Template.from_code(environment, code, environment.make_globals(None))
