"""Write a small Python function from a description of it, and try it on tests, locked in by the kernel.

Tests are Python: ``add(1, 2) == 3``, with or without ``assert``. What is called runs in ``parts/sandbox.py``; what it
should give stays here and is compared here, so code cannot know, print or fake its way to a passed test.
"""

from __future__ import annotations

import ast
import itertools
import math
import re
import textwrap
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from pydantic import Field

from quipu.capabilities import base
from quipu.capabilities.base import Probe, Score, Source
from quipu.capabilities.parts.sandbox import LONGEST_CODE, check_available, evaluate, parsed
from quipu.errors import InvalidRequest, Unparsed
from quipu.types import Message

FAMILIES = Path(__file__).parent / "probes" / "code.toml"
EXAMPLES = 2
"""Tests of a probe that its prompt shows."""
FENCED = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n`]*\n(.*?)(?:^[ \t]*\1|\Z)", re.MULTILINE | re.DOTALL)
BEGINS_CODE = re.compile(r"^(?:def|import|from|class|@\w)", re.MULTILINE)
BEGINS_STATEMENT = re.compile(r"^[^\s)\]}#]", re.MULTILINE)
MOST_CUTS = 40
"""Statements at the end that are left out, one by one, to find code before words or before where it was cut off."""


class Input(base.Input):
    """What the function shall do, and how one sees that it does."""

    task: str = Field(min_length=1, description="What the function shall do")
    signature: str | None = Field(None, description="Its name and parameters, as def add(a, b)")
    examples: list[str] = Field([], description="Examples that the model sees, as add(1, 2) == 3")
    tests: list[str] = Field(
        [], description="Tests that the model does not see, run on its function, as add(2, 2) == 4"
    )


class Failure(base.Typed):
    """A test that did not pass."""

    test: str = Field(description="The test")
    why: str = Field(description="What came instead")


class Output(base.Output):
    """The function, and what became of the tests."""

    code: str = Field(description="Python source")
    passed: list[str] = Field(description="Tests that passed")
    failed: list[Failure] = Field(description="Tests that did not, and why")


class Check(NamedTuple):
    """A test taken apart: what the code is asked, and what it should say."""

    test: str
    call: str
    expected: Any


class Code(base.Answering):
    """Code for a task."""

    title = "Code"
    description = (
        "Write a small Python function from a description of it: programming, coding, algorithms, a script or a code "
        "snippet, checked against unit tests in a sandbox."
    )
    phrases = (
        "write a Python function",
        "implement this algorithm in code",
        "program a function that passes these unit tests",
        "code a helper that parses a string",
        "coding assistant",
        "generate source code from a description",
        "schreibe eine Python-Funktion",
        "programmiere diesen Algorithmus",
        "écris une fonction Python",
        "escribe una función en Python",
        "scrivi una funzione Python",
        "escreva uma função em Python",
    )
    input = Input
    output = Output
    text_field = "task"
    metric = "share of functions that pass all of their tests, of which two are shown"
    binary = True
    baseline = 0.0
    baseline_name = "return the first argument"
    sources = (Source("families of small functions with parameters, written for quipu", "Apache-2.0"),)

    def messages(self, given: Input) -> list[Message]:
        """The task; the name that tests call; examples."""
        for field, tests in (("examples", given.examples), ("tests", given.tests)):
            for place, test in enumerate(tests):
                check(test, f"{field}[{place}]")
        if given.tests:
            check_available()
        lines = ["Write a Python function.", given.task]
        if given.signature is not None:
            lines.append(f"Signature: {given.signature.strip().rstrip(':')}:")
        elif name := function_name(given):
            lines.append(f"Name of the function: {name}")
        if given.examples:
            lines.append("\n".join(["Examples:", *given.examples]))
        lines.append("Answer with the function in one ```python block, without explanation.")
        return [Message("user", "\n\n".join(lines))]

    def parse(self, text: str, given: Input) -> Output:
        """The first code of the answer that is Python and defines the function; tests, if there are, are run."""
        required_text = base.required_text(text, "function")
        name = function_name(given)
        for candidate in candidates(required_text):
            code = python_with(name, candidate)
            if code is not None:
                passed, failed = tried(code, [check(test, "tests") for test in given.tests])
                return Output(code=code, passed=passed, failed=failed)
        raise Unparsed(f"there is no Python in the answer that defines {name or 'a function'}", text=text)

    def render(self, output: Output, given: Input) -> str:
        """The code in a block."""
        return f"```python\n{output.code}\n```"

    def longest(self, given: Input) -> int:
        """A small function."""
        return 200

    def make_probes(self) -> Iterator[Probe]:
        """Each family with each of its parameters; what the reference gives is what is expected."""
        for family in tomllib.loads(FAMILIES.read_text("utf-8"))["family"]:
            for variant in family["variants"]:
                task, signature, body, *arguments = (
                    Template(text).substitute(variant).strip()
                    for text in (family["task"], family["signature"], family["code"], *family["arguments"])
                )
                code = f"{signature}:\n{textwrap.indent(body, '    ')}"
                tests = expected(code, signature, arguments)
                yield Probe(
                    given={"task": task, "signature": signature, "examples": tests[:EXAMPLES]},
                    expected={"tests": tests},
                    answer=f"```python\n{code}\n```",
                    group=family["name"],
                    difficulty=family["difficulty"],
                )

    def score(self, output: Output, probe: Probe) -> Score:
        """Right if every test passes."""
        checks = [check(test, "tests") for test in probe.expected["tests"]]
        passed, failed = tried(output.code, checks)
        why = f"; {failed[0].test}: {failed[0].why}" if failed else ""
        return Score.right(not failed, f"{len(passed)} of {len(checks)} tests passed{why}")

    def trivial(self, probe: Probe) -> str:
        """The function that gives back its first argument."""
        signature = probe.given["signature"]
        first = re.split(r"[(,)]", signature)[1].strip()
        return f"{signature}:\n    return {first}"


def expected(code: str, signature: str, arguments: Sequence[str]) -> list[str]:
    """Tests that say what ``code``, a reference of ours, gives."""
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    name = name_in(signature)
    tests = []
    for text in arguments:
        argument = eval(text)
        tests.append(f"{name}({argument!r}) == {namespace[name](argument)!r}")
    return tests


def function_name(given: Input) -> str | None:
    """The name that the function must have, if anything says so. Raises InvalidRequest for a signature without one."""
    if given.signature is not None:
        return name_in(given.signature)
    for test in itertools.chain(given.examples, given.tests):
        for node in ast.walk(ast.parse(check(test, "tests").call, mode="eval")):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                return node.func.id
    return None


def name_in(signature: str) -> str:
    """The name that ``signature`` gives the function. Raises InvalidRequest if it gives none."""
    found = re.match(r"\s*(?:def\s+)?([^\W\d]\w*)\s*\(", signature)
    if found is None:
        raise InvalidRequest(f"signature must be as def add(a, b), got {signature[:80]!r}", param="signature")
    return found[1]


def check(test: str, where: str) -> Check:
    """``test`` taken apart. Raises InvalidRequest, which names ``where``, if it compares no call with a constant."""
    try:
        [statement] = parsed(test.strip().removeprefix("assert ")).body
    except (SyntaxError, ValueError):
        statement = ast.Pass()
    match statement:
        case ast.Expr(ast.Compare(left, [ast.Eq() | ast.Is()], [right])):
            try:
                return Check(test, ast.unparse(left), ast.literal_eval(right))
            except (ValueError, TypeError, RecursionError, MemoryError):
                pass  # no constant
        case ast.Expr(ast.Call() as call):
            return Check(test, f"bool({ast.unparse(call)})", True)
        case ast.Expr(ast.UnaryOp(ast.Not(), ast.Call() as call)):
            return Check(test, f"bool({ast.unparse(call)})", False)
    raise InvalidRequest(
        f"{where} must compare a call with a constant, as add(1, 2) == 3, got {test[:80]!r}", param=where
    )


def candidates(text: str) -> Iterator[str]:
    """Where code may be: fenced blocks, all of them together, and what begins as code does."""
    blocks = [textwrap.dedent(found[2]) for found in FENCED.finditer(text)]
    yield from blocks
    if len(blocks) > 1:
        yield "\n".join(blocks)
    if not blocks and (begin := BEGINS_CODE.search(text)):
        yield text[begin.start() :]


def python_with(name: str | None, text: str) -> str | None:
    """``text``, or as many statements of its beginning as are Python, if they define the function."""
    if len(text) > LONGEST_CODE:
        return None
    starts = [found.start() for found in BEGINS_STATEMENT.finditer(text)][-MOST_CUTS:]
    for end in [len(text), *reversed(starts)]:
        try:
            body = parsed(text[:end]).body
        except SyntaxError:
            continue
        if any(isinstance(node, ast.FunctionDef) and name in (None, node.name) for node in body):
            return text[:end].strip()
        return None
    return None


def tried(code: str, checks: Sequence[Check]) -> tuple[list[str], list[Failure]]:
    """Which of the tests pass. Raises SandboxUnavailable where code cannot be locked in."""
    passed: list[str] = []
    failed: list[Failure] = []
    outcomes = evaluate(code, [each.call for each in checks]) if checks else []
    for each, outcome in zip(checks, outcomes, strict=True):
        if outcome.error:
            failed.append(Failure(test=each.test, why=outcome.error))
        elif same(outcome.value, each.expected):
            passed.append(each.test)
        else:
            failed.append(Failure(test=each.test, why=f"it gave {outcome.value!r:.200}"))
    return passed, failed


def same(value: Any, expected: Any) -> bool:
    """Whether values are equal as Python's ``==`` says, but for the last digits of numbers with a decimal point."""
    numbers = (int, float)
    if isinstance(value, numbers) and isinstance(expected, numbers) and float in (type(value), type(expected)):
        try:
            return math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-12)
        except OverflowError:  # an integer beyond every float
            return False
    if isinstance(expected, (list, tuple)):
        return type(value) is type(expected) and len(value) == len(expected) and all(map(same, value, expected))
    if isinstance(expected, dict):
        return (
            isinstance(value, dict)
            and value.keys() == expected.keys()
            and all(same(value[key], expected[key]) for key in expected)
        )
    return bool(value == expected)
