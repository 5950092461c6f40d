"""Short templates that ask for much time or memory: each ends within limits, in a process that has little."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SECONDS, MEMORY = 4, 96 << 20
"""A template may run for 10 s, here for 1.5. Its budget of 8 million characters is 32 MB at four bytes each."""

GROWING = "{% set ns = namespace(s='ab', l=['ab'], n=7) %}{% for i in range(99999) %}STEP{% endfor %}{{ ns.s }}"
BOMBS = {
    "operator *": "{{ 'x' * 10**9 }}",
    "operator * of a list": "{{ [0] * 10**9 }}",
    "operator **": "{{ 10 ** (10 ** 9) }}",
    "operator %": "{{ '%999999999d' % 1 }}",
    "operator % with a star": "{{ '%*d' % (10**9, 1) }}",
    "operator % by name": "{{ ('%(a)s' * 9999) % {'a': 'x' * 99999} }}",
    "center": "{{ 'x' | center(10**9) }}",
    "center method": "{{ 'x'.center(10**9) }}",
    "ljust": "{{ 'x'.ljust(10**9) }}",
    "zfill": "{{ 'x'.zfill(10**9) }}",
    "expandtabs": "{{ ('\t' * 99999).expandtabs(99999) }}",
    "to_bytes": "{{ (5).to_bytes(10**9) }}",
    "format": "{{ '%*d' | format(10**9, 1) }}",
    "str.format": "{{ '{:>999999999}'.format(1) }}",
    "str.format, nested": "{{ '{:>{}}'.format(1, 10**9) }}",
    "str.format, often": "{{ ('{0}' * 9999).format('x' * 99999) }}",
    "str.format_map, often": "{{ ('{a}' * 9999).format_map({'a': 'x' * 99999}) }}",
    "str.format, kept": "{{ (['{:>999999999}'.format] | first)(1) }}",
    "replace": "{{ ('a' * 99999) | replace('a', 'b' * 99999) }}",
    "replace method": "{{ ('a' * 99999).replace('', 'b' * 99999) }}",
    "replace through map": "{{ ['a' * 99999] | map('replace', 'a', 'b' * 99999) | list }}",
    "join": "{{ range(99999) | join('x' * 99999) }}",
    "join method": "{{ ('x' * 99999).join(range(99999) | map('string')) }}",
    "batch": "{{ [1] | batch(10**9, 0) | list }}",
    "slice": "{{ [1] | slice(10**9) | list }}",
    "indent": "{{ ('\n' * 99999) | indent(99999) }}",
    "indent by text": "{{ ('\n' * 99999) | indent('x' * 99999) }}",
    "round": "{{ 1.5 | round(10**9) }}",
    "tojson": "{{ [[[[1]]]] | tojson(indent=10**9) }}",
    "tojson separators": "{{ range(99999) | list | tojson(separators=('x' * 99999, ':')) }}",
    "split": "{{ ('a ' * 3999999).split(' ') | length }}",
    "splitlines": "{{ ('\n' * 3999999).splitlines() | length }}",
    "list": "{{ ('a' * 7999999) | list | length }}",
    "wide characters": "{% set x = '\U0010ffff' * 7999999 %}{{ x | length }}",
    "sum of lists": "{{ ([[1]] * 60000) | sum(start=[]) }}",
    "range": "{{ range(10**18) | list }}",
    "lists of lists": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "set block": GROWING.replace("STEP", "{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}"),
    "set block of text": "{% set x %}{% for i in range(99999) %}{% for j in range(99999) %}"
    + "x" * 9999
    + "{% endfor %}"
    "{% endfor %}{% endset %}",
    "text kept in a list": GROWING.replace(
        "STEP", "{% set x %}" + "x" * 9999 + "{% endset %}{% set ns.l = ns.l + [x] %}"
    ),
    "plus": GROWING.replace("STEP", "{% set ns.s = ns.s + ns.s %}"),
    "tilde": GROWING.replace("STEP", "{% set ns.s = ns.s ~ ns.s %}"),
    "squares": GROWING.replace("STEP", "{% set ns.n = ns.n * ns.n %}"),
    "shared lists, written": GROWING.replace("STEP", "{% set ns.s = [ns.s, ns.s] %}"),
    "shared lists, compared": GROWING.replace(
        "STEP", "{% set ns.s = [ns.s, ns.s] %}{% set ns.l = [ns.l, ns.l] %}{% if ns.s == ns.l %}{% endif %}"
    ),
    "shared dictionaries": GROWING.replace(
        "STEP", "{% set ns.s = {'a': ns.s, 'b': ns.s} %}{{ ns.s | tojson | length }}"
    ),
    "shared by dict()": GROWING.replace("STEP", "{% set ns.s = dict(a=ns.s, b=ns.s) %}"),
    "shared by plus": GROWING.replace("STEP", "{% set ns.l = ns.l + ns.l %}"),
    "shared by filters": GROWING.replace("STEP", "{% set ns.l = (ns.l, ns.l) | list %}{{ ns.l | string | length }}"),
    "shared namespaces": GROWING.replace("STEP", "{% set ns.s = namespace(a=ns.s, b=ns.s) %}"),
    "a namespace in itself": "{% set ns = namespace() %}{% set ns.a = [ns, ns] %}{{ ns }}{{ ns.a | string }}",
    "slices kept": GROWING.replace("STEP", "{% set ns.l = [ns.l, ('x' * 99999)[1:]] %}"),
    "macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "macro that calls itself twice": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% "
    "endmacro %}{{ m(60) }}",
    "macro that holds much at each level": "{% macro m(n) %}{% set x = 'x' * 999999 %}{{ m(n + 1) }}{{ x "
    "}}{% endmacro %}{{ m(1) }}",
    "varargs": "{% macro m(n) %}{% if n < 99 %}{{ m(n + 1, varargs, varargs) }}{% else %}{{ varargs }}{% "
    "endif %}{% endmacro %}"
    "{{ m(0, 1, 2) }}",
    "recursive loop": "{% for x in [1] recursive %}{{ loop([x]) }}{{ loop([x]) }}{% endfor %}",
    "a constant at compile time": "{{ ('x' | center(99999)) | replace('', 'y' | center(99999)) }}",
    "filter block": "{% filter replace('x', 'y' * 99999) %}" + "x" * 9999 + "{% endfilter %}",
    "call block": "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + "{% call m() %}" * 20
    + "x" * 99
    + "{% endcall %}" * 20,
    "markup": "{{ ('x' | safe).center(10**9) }}",
    "nested without end": "{{ " + "(" * 100000 + "1" + ")" * 100000 + " }}",
    "blocks without end": "{% if true %}" * 5000 + "{% endif %}" * 5000,
    "a sum without end": "{{ " + "+".join(["1"] * 50000) + " }}",
    "a long source": "{{ messages }}" * 7000,
}
HARMLESS = {"a long source", "wide characters"}
"""Those that stay within their budget, and are rendered."""

SCRIPT = """
import json, sys, time
from hostile.worker import peak_growth
from quipu.errors import UnsupportedCheckpoint
from quipu.model import chat_template
from quipu.model.chat_template import ChatTemplate

chat_template._SECONDS = 1.5

def render(source):
    try:
        return "rendered " + ChatTemplate(source).render([{"role": "user", "content": "x"}])[:20]
    except UnsupportedCheckpoint as error:
        return str(error)

for name, source in json.load(sys.stdin).items():
    started = time.monotonic()
    said, growth = peak_growth(lambda: render(source))
    print(json.dumps([name, said, growth, time.monotonic() - started]), flush=True)
"""


@pytest.fixture(scope="module")
def results():
    path = os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(BOMBS),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        timeout=280,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"after {found[-1:]}: {done.stderr}"
    return {name: rest for name, *rest in found}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_within_limits(name, results):
    said, growth, seconds = results[name]
    assert growth < MEMORY, f"{growth >> 20} MiB: {said}"
    assert seconds < SECONDS
    assert (name in HARMLESS) == said.startswith("rendered"), said
