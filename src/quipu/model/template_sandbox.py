"""The environment in which a stranger's chat template runs: no way to Python, and a budget of time and of values.

jinja2's sandbox closes the first door only: a template of twenty characters can still ask for terabytes. Here whatever
makes a value (an operator, a filter, a method, a literal, an output) first pays for it out of one budget, so that the
memory of a whole rendering is bounded; and as no single step can work on more than the budget, the deadline, looked
at between steps, is kept.
"""

from __future__ import annotations

import functools
import operator
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2 import nodes
from jinja2.environment import Template
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from quipu.model.template_json import to_json

_ITEM, _POINTER = 64, 8  # what one item of a list counts, in characters, and what a copy of the list does for each
_MOST_BITS = 10_000  # of an integer
_MOST_COUNT = 100_000  # what a filter may be told to do that often, as range() may
_MOST_WIDTH = re.compile(r"\d{4}|\*")  # in a format


class Budget:
    """What one rendering may still use: ``size`` characters (an item of a list counts 64) and ``seconds``."""

    def __init__(self, size: int, seconds: float) -> None:
        self.left = size
        self._seconds, self._deadline = seconds, time.monotonic() + seconds

    def tick(self) -> None:
        """Raise SecurityError when the time is over."""
        if time.monotonic() > self._deadline:
            raise SecurityError(f"it ran for more than {self._seconds:.0f} s")

    def spend(self, size: int, what: str) -> None:
        """Pay for a value before it is made. Raises SecurityError when the budget does not reach."""
        self.tick()
        if size > self.left:
            raise SecurityError(f"{what} would make a value of size {size}, and {self.left} is left of its budget")
        self.left -= size

    def measure(self, value: Any) -> int:
        """Size of ``value`` with all that is in it, shared parts as often as they occur; not beyond what is left."""
        size, stack = 0, [value]
        while stack and size <= self.left:
            value = stack.pop()
            if isinstance(value, str):
                size += len(value)
            elif isinstance(value, int):
                size += value.bit_length() // 8
            elif isinstance(value, list | tuple):
                size += _ITEM * (len(value) + 1)
                stack += value if size <= self.left else ()
            elif isinstance(value, Mapping):
                size += 2 * _ITEM * (len(value) + 1)
                stack += (part for pair in value.items() for part in pair) if size <= self.left else ()
            elif isinstance(value, Namespace):
                size += _ITEM
                stack.append(value._Namespace__attrs)
        return size


_budget: ContextVar[Budget] = ContextVar("budget")


@contextmanager
def spending(budget: Budget) -> Iterator[None]:
    """Let everything that templates do in this block, and in this thread, be paid out of ``budget``."""
    entered = _budget.set(budget)
    try:
        yield
    finally:
        _budget.reset(entered)


def _paid(value: Any, what: str) -> Any:
    """``value``, after paying for all that is in it."""
    budget = _budget.get()
    budget.spend(budget.measure(value), what)
    return value


def _text(value: Any) -> str:
    """``str(value)``; a list is measured first: one of thirty lists, each twice in the next, is spelled out in full."""
    return value if isinstance(value, str) else str(_paid(value, "a text"))


# ---- Filters and methods. Each estimate gets the arguments of its filter and returns the size of the result.


def _count(value: Any) -> int:
    count = operator.index(value)
    if abs(count) > _MOST_COUNT:
        raise SecurityError(f"{count} is more than the {_MOST_COUNT} that a template may ask for")
    return abs(count)


def _width(value: Any, width: Any = 80, *_: Any) -> int:
    return len(_text(value)) + _count(width)


def _indent(value: Any, width: Any = 4, *_: Any, **__: Any) -> int:
    text = _text(value)
    return len(text) + (text.count("\n") + 2) * (len(width) if isinstance(width, str) else _count(width))


def _replace(value: Any, old: Any, new: Any, *_: Any) -> int:
    text = _text(value)
    return len(text) + text.count(_text(old)) * len(_text(new))


def _pieces(value: str, separator: str | None = None, maxsplit: int = -1) -> int:
    found = value.count(separator) if separator else sum(1 for _ in re.finditer(r"\s+", value))
    return len(value) + _ITEM * (1 + (found if maxsplit < 0 else min(found, maxsplit)))


def _lines(value: str, *_: Any) -> int:
    return len(value) + _ITEM * (1 + sum(1 for _ in re.finditer(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]", value)))


def _tabs(value: str, size: Any = 8) -> int:
    return len(value) + value.count("\t") * _count(size)


def _joined(separator: str, values: list[Any]) -> int:
    return 2 * _budget.get().measure(values) + len(values) * len(separator)


def _percent(template: str, *values: Any, **named: Any) -> int:
    if any(_MOST_WIDTH.search(each) for each in re.findall(r"%(?:\(.*?\))?([^a-zA-Z%]*)", template)):
        raise SecurityError("a format may ask for at most 999 characters")
    # A name may be written out as often as the format says, other values are written once.
    times = template.count("%") if named or any(isinstance(value, Mapping) for value in values) else 1
    return len(template) + times * 2 * _budget.get().measure([*values, named])


def _list_of(value: Any, *_: Any) -> int:
    return _ITEM * len(value) if isinstance(value, str | range) else 0


def _counted(value: Any, count: Any = 0, *_: Any, **__: Any) -> int:
    return _list_of(value) + _ITEM * _count(count)


def _numbers(value: Any, attribute: Any = None, start: Any = 0) -> int:
    if not isinstance(start, int | float):  # adding lists copies them at every step
        raise SecurityError("sum adds numbers only")
    return 0


def _plain(names: str) -> dict[str, None]:
    return dict.fromkeys(names.split())


_FILTERS: dict[str, Callable[..., int] | None] = {
    **_plain(
        """abs attr capitalize count d default dictsort e escape first float groupby int items last length lower map max
        min reject rejectattr safe select selectattr string title trim truncate upper wordcount"""
    ),
    **dict.fromkeys(["list", "reverse", "sort", "unique"], _list_of),
    **dict.fromkeys(["batch", "slice", "round"], _counted),
    "center": _width,
    "format": _percent,
    "indent": _indent,
    "replace": _replace,
    "sum": _numbers,
}
"""Filters of jinja2 that a template may use, with the estimates of those that can make much out of little."""

_TEXT_METHODS: dict[str, Callable[..., int] | None] = {
    **_plain(
        """capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit isidentifier islower
        isnumeric isprintable isspace istitle isupper lower lstrip partition removeprefix removesuffix rfind rindex
        rpartition rstrip startswith strip swapcase title upper"""
    ),
    **dict.fromkeys(["center", "ljust", "rjust", "zfill"], _width),
    **dict.fromkeys(["split", "rsplit"], _pieces),
    "expandtabs": _tabs,
    "join": _joined,
    "replace": _replace,
    "splitlines": _lines,
}
_METHODS: list[tuple[type, Mapping[str, Callable[..., int] | None]]] = [
    (str, _TEXT_METHODS),
    (dict, dict.fromkeys(["copy", "get", "items", "keys", "values"])),
    (list, dict.fromkeys(["copy", "count", "index"])),
    (tuple, dict.fromkeys(["count", "index"])),
]


def _bounded(name: str, function: Callable[..., Any], estimate: Callable[..., int] | None) -> Callable[..., Any]:
    skipped = 1 if hasattr(function, "jinja_pass_arg") else 0  # the environment or context, put first by jinja2

    @functools.wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        _budget.get().tick()
        if estimate is not None:
            _budget.get().spend(estimate(*args[skipped:], **kwargs), f"the filter {name}")
        return _paid(function(*args, **kwargs), f"the filter {name}")

    return bounded


def _join(context: Any, values: Any, d: Any = "", attribute: Any = None) -> Any:
    """jinja2's filter, on a list that can be measured before it is joined."""
    values, separator = _paid(list(values), "the filter join"), _text(d)
    _budget.get().spend(_joined(separator, values), "the filter join")
    return FILTERS["join"](context, values, separator, attribute)


_join.jinja_pass_arg = FILTERS["join"].jinja_pass_arg  # type: ignore[attr-defined]  # how jinja2 marks its own


def _tojson(value: Any, *args: Any, **kwargs: Any) -> str:
    budget = _budget.get()
    _paid(value, "the filter tojson")
    return to_json(value, *args, spend=lambda size: budget.spend(size, "the filter tojson"), **kwargs)


class _Formatter(SandboxedFormatter):
    """str.format, each field of it paid for."""

    def convert_field(self, value: Any, conversion: Any) -> Any:
        return super().convert_field(value if conversion is None else _paid(value, "format"), conversion)

    def format_field(self, value: Any, format_spec: str) -> str:
        if _MOST_WIDTH.search(format_spec):
            raise SecurityError("a format may ask for at most 999 characters")
        text: str = super().format_field(_paid(value, "format"), format_spec)
        return text


# ---- The environment


class Sandbox(ImmutableSandboxedEnvironment):
    """Everything that templates of checkpoints use, and a limit to each of it.

    ``compiled`` and the rendering of what it returns must happen inside ``spending``.
    """

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self, **functions: Callable[..., Any]) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], finalize=_output)
        self.filters = {name: _bounded(name, FILTERS[name], estimate) for name, estimate in _FILTERS.items()}
        self.filters |= {"join": _join, "tojson": _tojson}
        del self.globals["lipsum"]  # unlimited filler text
        self.globals.update(functions)

    def compiled(self, source: str) -> Template:
        """The template of ``source``, limits built in. Raises TemplateError, or what Python's compiler raises."""
        tree = _Limits().visit(self.parse(source))
        tree.set_environment(self)
        code = self.compile(tree, name="chat_template", filename="chat_template")
        return Template.from_code(self, code, self.make_globals(None))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """The operators that make large values of small ones."""
        budget = _budget.get()
        budget.spend(_operated(budget, operator, left, right), f"the operator {operator}")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Macros, jinja2's own objects, and of Python's types those methods that are known to be harmless."""
        owner = getattr(function, "__self__", None)
        if owner is self:  # put there by _Limits; a template cannot reach its environment
            return function(*args)
        budget = _budget.get()
        budget.tick()
        if not self.is_safe_callable(function):
            raise SecurityError(f"{function!r:.80} is not safely callable")
        if owner is not None and not type(owner).__module__.startswith("jinja2."):
            name = function.__name__
            methods: Mapping[str, Any] = next((known for kind, known in _METHODS if isinstance(owner, kind)), {})
            if name not in methods:
                raise SecurityError(f"the method {name} of {type(owner).__name__} is unsafe")
            if name == "join":
                args = (list(*args),)  # what is made only while it is read cannot be measured
            if methods[name] is not None:
                named = {key: value for key, value in kwargs.items() if key not in ("_loop_vars", "_block_vars")}
                budget.spend(methods[name](owner, *args, **named), f"the method {name}")
                return context.call(function, *args, **kwargs)
        return _paid(context.call(function, *args, **kwargs), "a call")

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """str.format and format_map, which jinja2 keeps from private attributes, kept from large results as well."""
        if super().wrap_str_format(value) is None:
            return None
        text, by_map = str(value.__self__), value.__name__ == "format_map"

        def wrapper(*args: Any, **kwargs: Any) -> str:
            return _Formatter(self).vformat(text, () if by_map else args, args[0] if by_map else kwargs)

        return wrapper

    def tick(self) -> None:
        """At the start of each turn of a loop and of each macro."""
        _budget.get().tick()

    def wrote(self, size: int) -> None:
        """Before text of the template itself."""
        _budget.get().spend(size, "the text")

    def glue(self, *values: Any) -> str:
        """The operator ``~``."""
        texts = [_text(value) for value in values]
        _budget.get().spend(sum(map(len, texts)), "the operator ~")
        return "".join(texts)

    def held(self, value: Any) -> Any:
        """A literal, a slice, or a macro's arguments: its parts were paid for, yet they may be in it many times."""
        budget = _budget.get()
        size = budget.measure(value)
        own = size if isinstance(value, str) else _ITEM * len(value) if isinstance(value, list | tuple | dict) else 0
        budget.spend(size if size > budget.left else own, "a list")
        return value


def _output(value: Any) -> str:
    text = _text(value)
    _budget.get().spend(len(text), "the output")
    return text


def _operated(budget: Budget, operator: str, left: Any, right: Any) -> int:
    if isinstance(left, int) and isinstance(right, int):
        bits = {"*": left.bit_length() + right.bit_length(), "**": left.bit_length() * abs(right)}.get(operator, 0)
        if bits > _MOST_BITS:
            raise SecurityError(f"the operator {operator} would make a value of size {bits} bits")
        return bits // 8
    if operator == "%":
        return _percent(left, *(right if isinstance(right, tuple) else (right,))) if isinstance(left, str) else 0
    if operator == "*":
        times = left if isinstance(left, int) else right if isinstance(right, int) else 0
        return abs(times) * budget.measure(right if isinstance(left, int) else left)
    size = budget.measure(left) + budget.measure(right)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple) and size <= budget.left:
        return _POINTER * (len(left) + len(right))  # what is in them is not copied
    return size


class _Generation(Extension):
    """``{% generation %}`` marks what a trainer learns; for a prompt only its content matters."""

    tags = {"generation"}  # noqa: RUF012 - declared so by the base class

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _Limits(NodeTransformer):
    """Puts calls of the sandbox's ``tick``, ``wrote``, ``glue`` and ``held`` into a template."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - named by jinja2 for the node
        return self._ticking(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        return self._ticking(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802
        return self._ticking(node)

    def visit_Output(self, node: nodes.Output) -> list[nodes.Node]:  # noqa: N802
        self.generic_visit(node)
        size = sum(len(each.data) for each in node.nodes if isinstance(each, nodes.TemplateData))
        return [_statement("wrote", [nodes.Const(size)], node.lineno), node] if size else [node]

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _call("glue", node.nodes, node.lineno)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        return self._held(node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        return self._held(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        return self._held(node) if node.ctx == "load" else node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        return self._held(node) if isinstance(node.arg, nodes.Slice) else self.generic_visit(node)

    def visit_Name(self, node: nodes.Name) -> nodes.Node:  # noqa: N802
        return self._held(node) if node.ctx == "load" and node.name in ("varargs", "kwargs") else node

    def _held(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return _call("held", [node], node.lineno)

    def _ticking(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, _statement("tick", [], node.lineno))
        return node


def _call(name: str, arguments: list[nodes.Expr], line: int) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name, lineno=line), arguments, [], None, None, lineno=line)


def _statement(name: str, arguments: list[nodes.Expr], line: int) -> nodes.ExprStmt:
    return nodes.ExprStmt(_call(name, arguments, line), lineno=line)
