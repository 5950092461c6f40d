"""Answers under Lark grammars, judged by ``lark`` itself: an Earley parser that shares nothing with llguidance.

The dialects differ, and the grammars here are of what both read alike. llguidance alone has ``%json {...}``, special
tokens (``<|end|>``), ``%lark`` inside ``%lark`` and attributes in brackets (``rule[max_tokens=5]``), and no templates,
no imports of files, no ``~ 2..3`` in the form that ``lark`` prints; ``lark`` alone has look-around in patterns and
``%declare``. llguidance reads terminals greedily, the longest first, as ``lark``'s LALR lexer does: it may refuse a
text that the grammar has, but lets none out that it has not. That is what is tested, with ``lexer="dynamic_complete"``,
under which ``lark`` tries every way to cut a text into terminals.
"""

from __future__ import annotations

import lark
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import quipu
from quipu.engine.fake import fake_model
from quipu.types import Constraint

GRAMMARS = {
    "sum": """
start: sum
sum: product | sum ("+" | "-") product
product: atom | product ("*" | "/") atom
atom: NUMBER | "-" atom | "(" sum ")"
NUMBER: /[0-9]{1,4}/
""",
    "list": """
start: "[" [item ("," item)*] "]"
item: WORD | start
WORD: /[a-z]{1,5}/
%ignore /[ ]{1,2}/
""",
    "order": """
start: greeting? line+ "total " AMOUNT
greeting: "Hello"i ("," " " NAME)? "!\\n"
line: COUNT " x " NAME "\\n"
NAME: /[A-Z][a-zé]{1,6}/
COUNT: /[1-9][0-9]?/
AMOUNT: DIGIT DIGIT* "." DIGIT DIGIT
DIGIT: "0".."9"
""",
    "call": """
start: "f(" arguments ")"
arguments: (argument ", ")* argument |
argument: KEY "=" value
?value: STRING | NUMBER | "[" (value (", " value)*)? "]"
KEY: /[a-z_]{1,4}/
STRING: "\\"" /[^"\\\\\\n]{0,6}/ "\\""
NUMBER: /-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,2})?/
""",
    "empty or balanced": """
start: pair*
pair: "(" pair* ")" | "<" pair* ">"
""",
}
PARSERS = {
    name: lark.Lark(grammar, parser="earley", lexer="dynamic_complete", ambiguity="resolve")
    for name, grammar in GRAMMARS.items()
}
wishes = st.text(alphabet='(1+2)*[ab, ]Hello!x"=f3.5\nTotal -<>é', max_size=40) | st.text(max_size=20)


class Wishing:
    """A fake model, and what it wants to say."""

    wish = ""

    def __init__(self) -> None:
        self.model = fake_model(lambda asked: self.wish, context_length=512)


@pytest.fixture(scope="module")
def wishing():
    made = Wishing()
    with made.model:
        yield made


def judged(name: str, text: str) -> None:
    """Raises what ``lark`` says is wrong with it."""
    PARSERS[name].parse(text)


@pytest.mark.parametrize("name", GRAMMARS)
@settings(max_examples=12, deadline=None)
@given(wish=wishes, most=st.integers(24, 90), heat=st.sampled_from([0, 1, 3]), seed=st.integers(0, 99))
def test_whatever_a_model_wants_to_say_lark_parses_the_answer(wishing, name, wish, most, heat, seed):
    """Also where it is ended by its limit: the tokens to close it are kept."""
    wishing.wish = wish
    asked = [{"role": "user", "content": "?"}]
    options = {"max_tokens": most, "temperature": heat, "seed": seed}
    answer = wishing.model.chat(asked, constraint=Constraint("grammar", GRAMMARS[name]), **options)
    judged(name, str(answer))


SAID = {
    "sum": ["1+2*(3-4)", "-(7)/12", "((((5))))"],
    "list": ["[]", "[ab,[c,d],[]]", "[a, b]"],
    "order": ["Hello, Anna!\n2 x Rosé\n10 x Tea\ntotal 12.50", "1 x Tea\ntotal 0.05", "hELLO!\n3 x Rye\ntotal 1.00"],
    "call": ['f(a="x", b=[1, -2.5, [""]])', "f()", "f(k=0)"],
    "empty or balanced": ["", "(<>())<(())>"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in SAID.items() for text in texts])
def test_what_lark_parses_comes_as_it_is(wishing, name, text):
    judged(name, text)
    wishing.wish = text
    constraint = Constraint("grammar", GRAMMARS[name])
    answer = wishing.model.chat([{"role": "user", "content": "?"}], constraint=constraint, temperature=0)
    assert (str(answer), answer.finish_reason) == (text, "stop")


@pytest.mark.parametrize(
    ("name", "text"),
    [("sum", "1+"), ("sum", "12345"), ("list", "[a,]"), ("order", "total 1.00"), ("call", "f(k=01)"),
     ("empty or balanced", "(<)>")],
)  # fmt: skip
def test_the_judge_says_no(name, text):
    with pytest.raises(lark.exceptions.LarkError):
        judged(name, text)


@pytest.mark.slow
def test_the_real_model_keeps_to_them_too(smollm2_file):
    asked = [{"role": "user", "content": "Write something that is allowed."}]
    with quipu.load(smollm2_file, context=512) as model:
        for seed, (name, grammar) in enumerate(GRAMMARS.items()):
            constraint = Constraint("grammar", grammar)
            judged(name, str(model.chat(asked, constraint=constraint, max_tokens=40, temperature=1, seed=seed)))
