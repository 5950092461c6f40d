"""Code: finding it in answers, taking tests apart, comparing values; references against solutions of another hand."""

import ast
import re
import time
from functools import cache
from itertools import combinations, groupby, product

import pytest
from oracle import Oracle, saying

from quipu import capabilities
from quipu.capabilities.code import check, same, tried
from quipu.capabilities.parts import sandbox
from quipu.errors import InvalidRequest, SandboxUnavailable, Unparsed

CODE = capabilities.find("code")
ADD = "def add(a, b):\n    return a + b"
ASKED = CODE.input(task="Add two numbers.", signature="def add(a, b)", examples=[], tests=[])


@pytest.mark.parametrize(
    "answer",
    [
        ADD,
        f"```python\n{ADD}\n```",
        f"Sure, here is the function:\n\n```py\n{ADD}\n```\nIt adds.",
        f"```\n{ADD}\n```",
        f"~~~python\n{ADD}\n~~~",
        f"```python\n{ADD}",
        f"Here it is:\n{ADD}\n\nThis function adds two numbers.",
        f"Here it is:\n\n{ADD}\n\nprint(add(1, ",
        f"First a try:\n```python\nadd(1, 2)\n```\nand the function:\n```python\n{ADD}\n```",
        "```python\nimport math\n```\n```python\n" + ADD + "\n```",
        "1. Like this:\n\n   ```python\n   def add(a, b):\n       return a + b\n   ```",
        ADD + "\n\n# Example\nadd(1, 2)  # 3\nadd(1,",
        "```python\n" + ADD.replace("return", "x = '\\d'\n    return") + "\n```",
    ],
)
def test_code_is_found(answer: str) -> None:
    output = CODE.parse(answer, ASKED)
    [outcome] = sandbox.evaluate(output.code, ["add(2, 3)"])
    assert outcome.value == 5


@pytest.mark.parametrize(
    "answer",
    [
        "I cannot do that.",
        "```python\ndef subtract(a, b):\n    return a - b\n```",
        "```python\ndef add(a, b):\n    return a +\n```",
        "```python\ndef add(a, b):\n```",
        "class Add:\n    def add(self, a, b):\n        return a + b",
        "def add(a, b): \0",
        "def " * 100_000,
        "```\n" * 50_000,
        "(" * 100_000,
        "def add(a, b):\n" + " x\n" * 200_000,
    ],
)
def test_what_is_no_such_function_is_unparsed(answer: str) -> None:
    start = time.monotonic()
    with pytest.raises(Unparsed, match="no Python in the answer that defines add") as raised:
        CODE.parse(answer, ASKED)
    assert raised.value.text == answer
    assert time.monotonic() - start < 10


def test_tests_of_a_caller_are_run_and_not_shown() -> None:
    model = saying(f"```python\n{ADD}\n```")
    tests = [
        "add(1, 2) == 3",
        "assert add('a', 'b') == 'ab'",
        "add(1, 1) == 3",
        "add(1, '') == 0",
        "not add(0, 0)",
        "add(0, 1)",
    ]
    output = capabilities.run(model, "code", task="Add two numbers.", examples=["add(0, 0) == 0"], tests=tests)
    assert output.passed == [*tests[:2], *tests[4:]]
    assert [(each.test, each.why[:9]) for each in output.failed] == [(tests[2], "it gave 2"), (tests[3], "TypeError")]
    [[message]] = model.asked
    assert "add(0, 0) == 0" in message.content
    assert "Name of the function: add" in message.content
    assert "'ab'" not in message.content
    assert str(output) == ADD


@pytest.mark.parametrize(
    "test",
    [
        "",
        "add(1, 2)[0]",
        "add(1) == x",
        "add(1) < 3",
        "import os",
        "1 ==",
        "a == b == c",
        "x" * 10**6,
        "f(" * 200,
        "x = 1",
    ],
)
def test_tests_that_compare_nothing_are_refused_before_the_model_is_asked(test: str) -> None:
    model = Oracle(lambda messages: ADD)
    for field in ("tests", "examples"):
        with pytest.raises(InvalidRequest, match=rf"{field}\[1\] must compare a call with a constant") as raised:
            capabilities.run(model, "code", task="Add.", **{field: ["add(1, 2) == 3", test]})
        assert raised.value.param == f"{field}[1]"
    assert model.asked == []


def test_a_signature_without_a_name_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="signature must be as def add"):
        CODE.run(saying(ADD), CODE.input(task="Add.", signature="add", examples=[], tests=[]))


def test_without_a_signature_any_function_will_do() -> None:
    asked = CODE.input.of({"task": "Add."})
    assert CODE.parse(ADD, asked).code == ADD
    with pytest.raises(Unparsed, match="defines a function"):
        CODE.parse("x = 1", asked)


def test_tests_where_code_cannot_be_locked_in_are_refused_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    model = saying(ADD)
    with pytest.raises(SandboxUnavailable, match="leave out tests"):
        capabilities.run(model, "code", task="Add.", tests=["add(1, 2) == 3"])
    assert model.asked == []
    assert capabilities.run(model, "code", task="Add.").code == ADD


def test_a_task_beyond_every_context_is_an_error() -> None:
    model = saying(ADD)
    model.context_length = 100
    capabilities.run(model, "code", task="long " * 10)
    assert model.options[-1]["max_tokens"] > 0
    capabilities.run(model, "code", task="long " * 10_000_000)  # 50 MB; the model refuses what does not fit
    assert model.options[-1]["max_tokens"] is None


@pytest.mark.parametrize(
    ("value", "expected", "equal"),
    [
        (1, 1.0, True), (0.1 + 0.2, 0.3, True), (0.31, 0.3, False), ([0.1 + 0.2], [0.3], True),
        ((1, 2), [1, 2], False),
        ({1: 0.1 + 0.2}, {1: 0.3}, True), ({1: 2}, {1: 2, 3: 4}, False), ({1, 2}, {2, 1}, True), (True, 1, True),
        (10**400, 0.5, False), (float("nan"), 1.0, False), ("1", 1, False), (None, False, False),
        ([1, 2, 3], [1, 2], False),
        (sandbox.Unknown("Anything"), 1, False), ([], (), False), (0, None, False),
    ],
)  # fmt: skip
def test_values_are_compared(value: object, expected: object, equal: bool) -> None:
    assert same(value, expected) is equal


EQUALS_EVERYTHING = """
class Everything(int):
    __eq__ = lambda self, other: True
    __hash__ = int.__hash__
def f(x): return Everything(7)
"""
SEARCHES = """
import gc, sys
needle = 'zxq' + '-right'
def f(x):
    frame, seen = sys._getframe(), []
    while frame:
        seen += [*frame.f_locals.values(), *frame.f_globals.values()]
        frame = frame.f_back
    for held in gc.get_objects():
        seen += gc.get_referents(held)
    found = [each for each in seen if type(each) is str and each == needle and each is not needle]
    return 'found' if found else 'nothing'
"""
CHEATS = {
    "everything is equal": EQUALS_EVERYTHING,
    "searches for the answer": SEARCHES,
    "leaves": "import os\ndef f(x): os._exit(0)",
    "leaves politely": "import sys\ndef f(x): sys.exit(0)",
    "prints": "def f(x):\n    print('6 of 6 tests passed')\n    print('{\"value\":42}')",
    "forges lines": "import os\ndef f(x):\n    os.write(1, b'{\"value\":true}\\n')\n    return True",
    "breaks assert": "import builtins\nbuiltins.AssertionError = None\ndef f(x): return None",
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_cheating_passes_nothing(cheat: str) -> None:
    tests = [f"f({n}) == {right!r}" for n, right in enumerate((42, "zxq-right", [1], 2.5))]
    passed, failed = tried(CHEATS[cheat], [check(test, "tests") for test in tests])
    assert passed == []
    assert len(failed) == 4
    assert "found" not in str(failed)


def test_bad_answers_score_nothing() -> None:
    for probe in CODE.probes[:12]:
        asked = CODE.input.of(probe.given)
        signature = probe.given["signature"]
        for body in (
            "pass",
            "while True: pass" if probe is CODE.probes[0] else "return None",
            f"return {signature[4:]}",
        ):
            score = CODE.score(CODE.parse(f"{signature}:\n    {body}", asked), probe)
            assert not score.passed
            assert re.match(r"\d of \d tests passed; ", score.why)


def test_knowing_the_examples_is_not_enough() -> None:
    """A function that has learned the two shown ones by heart fails the others."""
    learned = 0
    for probe in CODE.probes[::4]:
        shown = [check(test, "tests") for test in probe.expected["tests"][:2]]
        table = [(ast.unparse(ast.parse(each.call, mode="eval").body.args[0]), each.expected) for each in shown]
        lines = "".join(f"    if x == {argument}: return {value!r}\n" for argument, value in table)
        name = shown[0].call.partition("(")[0]
        output = CODE.parse(f"def {name}(x):\n{lines}", CODE.input.of(probe.given))
        learned += CODE.score(output, probe).passed
    assert learned == 0


# ---- references against other solutions, written from the task alone


def _runs(text):
    return [(key, len(list(group))) for key, group in groupby(text)]


def _base(n, b):
    return [n] if n < b else [*_base(n // b, b), n % b]


def _josephus(n, k):
    last = 0
    for size in range(2, n + 1):
        last = (last + k) % size
    return last + 1


def _merge(intervals, gap):
    if not intervals:
        return []
    covered = {2 * x + step for a, b in intervals for x in range(a, b) for step in (0, 1, 2)} | {
        2 * a for a, _ in intervals
    }
    ends = sorted(intervals)
    for (_, b), (c, _) in product(ends, ends):
        if 0 < c - b <= gap:
            covered |= set(range(2 * b, 2 * c + 1))
    merged = []
    for x in sorted(covered):
        if merged and x == merged[-1][1] + 1:
            merged[-1][1] = x
        else:
            merged.append([x, x])
    return [[a // 2, b // 2] for a, b in merged]


def _balanced(text, pairs):
    text = "".join(letter for letter in text if letter in "".join(pairs))
    while any(pair in text for pair in pairs):
        for pair in pairs:
            text = text.replace(pair, "")
    return text == ""


def _coins(amount, coins):
    reached, count = {0}, 0
    while amount not in reached and reached and min(reached) <= amount:
        reached, count = {have + coin for have in reached for coin in coins if have + coin <= amount}, count + 1
    return count if amount in reached else -1


@cache
def _ways(n, steps):
    return 1 if n == 0 else sum(_ways(n - step, steps) for step in steps if step <= n)


def _depth(items, depth):
    found, level = [], 0
    for token in re.findall(r"\[|\]|-?\d+", repr(items)):
        level += {"[": 1, "]": -1}.get(token, 0)
        if token not in "[]" and level >= depth:
            found.append(int(token))
    return found


OTHERS = {
    "count_divisible": lambda xs, k: len([x for x in xs if x / k == x // k]),
    "sum_above": lambda xs, k: sum(max(x - k, 0) and x for x in xs),
    "digit_sum_in_base": lambda n, b: sum(_base(n, b)),
    "power_sum": lambda n, p: 0 if n == 0 else n**p + OTHERS["power_sum"](n - 1, p),
    "last_remaining": _josephus,
    "merge_intervals": _merge,
    "chunks": lambda xs, k: [] if not xs else [xs[:k], *OTHERS["chunks"](xs[k:], k)],
    "caesar": lambda text, k: text.translate({97 + n: 97 + (n + k) % 26 for n in range(26)}),
    "at_most_times": lambda xs, k: [x for place, x in enumerate(xs) if xs[:place].count(x) < k],
    "pairs_with_sum": lambda xs, k: sum(x + y == k for x, y in combinations(xs, 2)),
    "longest_stretch": lambda xs, d: max(
        (
            n
            for n in range(len(xs) + 1)
            for s in range(len(xs) - n + 1)
            if all(xs[s + i] == xs[s] + i * d for i in range(n))
        ),
        default=0,
    ),
    "long_words": lambda text, n: re.findall(rf"\b\w{{{n + 1},}}\b", text),
    "vowel_words": lambda text, k: sum(len(re.findall("[aeiou]", word, re.IGNORECASE)) == k for word in text.split()),
    "flatten": _depth,
}


@pytest.mark.parametrize("family", OTHERS)
def test_references_agree_with_other_solutions(family: str) -> None:
    probes = [probe for probe in CODE.probes if probe.group == family]
    assert len(probes) == 5
    for probe in probes:
        [number] = {int(each) for each in re.findall(r"_(\d+)", probe.given["signature"])}
        for test in probe.expected["tests"]:
            [argument] = ast.parse(check(test, "tests").call, mode="eval").body.args
            assert same(OTHERS[family](ast.literal_eval(argument), number), check(test, "tests").expected), test


PARTS = {
    "fewest_coins": (r"values ([\d, ]+),", lambda x, found: _coins(x, [int(n) for n in found[1].split(", ")])),
    "stairs": (r"taking ([\d, or]+) steps", lambda x, found: _ways(x, tuple(map(int, re.findall(r"\d+", found[1]))))),
    "brackets": (r"brackets (..) and (..) in", lambda x, found: _balanced(x, found.groups())),
    "run_lengths": (
        r"then '(.)', .* with '(.)'",
        lambda x, found: found[2].join(f"{letter}{found[1]}{count}" for letter, count in _runs(x)),
    ),
    "to_base": (r"base (\d+), .* '(\w+)'", lambda x, found: "".join(found[2][n] for n in _base(x, int(found[1])))),
    "recurrence": (
        r"f\(0\) = (\d+) and f\(1\) = (\d+)\..* \+ (\d+) \*",
        lambda x, found: (
            int(found[1 + x])
            if x < 2
            else PARTS["recurrence"][1](x - 1, found) + int(found[3]) * PARTS["recurrence"][1](x - 2, found)
        ),
    ),
    "clamp": (
        r"less than (\d+) and not more than (\d+)",
        lambda x, found: sorted([x, int(found[1]), int(found[2])])[1],
    ),
    "linear": (r"multiplied by (\d+), plus (\d+)", lambda x, found: sum([x] * int(found[1])) + int(found[2])),
    "split_units": (r"There are (\d+)", lambda x, found: divmod(x, int(found[1]))),
}


@pytest.mark.parametrize("family", PARTS)
def test_references_agree_with_what_the_task_says(family: str) -> None:
    pattern, solve = PARTS[family]
    probes = [probe for probe in CODE.probes if probe.group == family]
    assert len(probes) == 5
    for probe in probes:
        found = re.search(pattern, probe.given["task"])
        for test in probe.expected["tests"]:
            [argument] = ast.parse(check(test, "tests").call, mode="eval").body.args
            assert same(solve(ast.literal_eval(argument), found), check(test, "tests").expected), test
