"""Templates of checkpoints, as transformers renders them; hostile ones end in a clear error."""

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from quipu.errors import InvalidRequest, UnsupportedCheckpoint
from quipu.model import chat_template
from quipu.model.chat_template import ChatTemplate

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "  <b>Hé</b> & 'you'  "},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": [1, None], "é": "<>"}}}],
    },
    {"role": "tool", "content": "{}"},
]

TEMPLATES = [
    "{% for m in messages %}{{ bos_token }}[{{ m.role }}]{{ m['content'] | trim }}\n{% endfor %}",
    "{%- for m in messages -%}\n    {%- if m.tool_calls %}\n{{ m.tool_calls | tojson(indent=4) }}"
    "{{ m.tool_calls[0].function.arguments|tojson }}\n    {%- endif %}\n"
    "    {% if loop.last %}last{% endif %}\n{%- endfor %}",
    "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}"
    "{{ m.role ~ ': ' ~ loop.index ~ m.content }}"
    "{% if m.role == 'tool' %}{% break %}{% endif %}{% endfor %}{{ eos_token }}",
    "{% macro turn(m, n=2) %}<{{ m.role * n }}|{{ m.content + '!' }}>{% endmacro %}{% for m in messages %}{{ turn(m) }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '>' * 3 }}{% endif %}{{ 2 ** 10 }}",
    "{% set ns = namespace(n=0) %}{% for m in messages if m.content %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}"
    "{{ tools is none }}{{ missing }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
    "{% for m in messages recursive %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}none{% endfor %}"
    "{{ {'é': 1} | tojson }}{{ 'é' | tojson(ensure_ascii=true) }}{{ range(3) | list }}",
    "{% set text %}{{ messages[0].content }}{% endset %}{{ text | upper }}"
    "{{ messages[1:] | map(attribute='role') | join(', ') }}",
]


@pytest.mark.parametrize("source", TEMPLATES)
@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("messages", [CHAT, CHAT[:1], CHAT[:0]])
def test_equals_transformers(source, prompt, messages):
    def ours():
        return ChatTemplate(source, bos_token="<s>", eos_token="</s>").render(messages, prompt)

    try:
        [expected], _ = render_jinja_template(
            [messages], chat_template=source, add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>"
        )
    except Exception:
        with pytest.raises(UnsupportedCheckpoint):
            ours()
    else:
        assert ours() == expected


def test_the_date_is_pinned():
    source = "{{ strftime_now('%d %b %Y') }}|{{ date_string }}|{{ strftime_now('%Y-%m-%d') }}"
    assert ChatTemplate(source).render([]) == "26 Jul 2024|26 Jul 2024|2024-07-26"
    assert ChatTemplate(source, date="01 Feb 2030").render([]) == "01 Feb 2030|01 Feb 2030|2030-02-01"
    with pytest.raises(InvalidRequest, match="date is '2024-07-26'; write it as '26 Jul 2024'"):
        ChatTemplate(source, date="2024-07-26")


def test_a_refusal_is_the_callers_to_mend():
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(InvalidRequest, match="refuses this: roles must alternate") as error:
        template.render([])
    assert error.value.param == "messages"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for %}", "does not compile, line 1"),
        ("a\n{{ x", "does not compile, line 2"),
        ("{% mystery %}", "unknown tag 'mystery'"),
        ("{{ x | mystery }}", "No filter named 'mystery'"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "does not compile"),
    ],
)
def test_templates_that_do_not_compile(source, message):
    with pytest.raises(UnsupportedCheckpoint, match=message):
        ChatTemplate(source)


DOUBLING = "{% set ns = namespace(s='aa') %}{% for i in range(60) %}{% set ns.s = ns.s ? ns.s %}{% endfor %}"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ missing.field.deeper }}", "'missing' is undefined"),
        ("{{ messages.append(1) }}", "is not safely callable|unsafe"),
        ("{{ ''.__class__.__mro__ }}", "__class__|unsafe"),
        ("{{ messages.__init__.__globals__ }}", "unsafe"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ 1 + 'a' }}", "unsupported operand"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
        ("{{ range(10 ** 9) }}", "Range too big"),
        ("{{ 'a' * 10 ** 9 }}", r"operator \* would make a value of size"),
        ("{{ 10 ** (10 ** 10) }}", r"operator \*\* would make"),
        (DOUBLING.replace("?", "+"), r"operator \+"),
        (DOUBLING.replace("?", "~"), "operator ~"),
        ("{% for i in range(9999) %}{{ 'a' * 99999 }}{% endfor %}", "wrote more than"),
        ("{{ lipsum(9) }}", "'lipsum' is undefined"),
        ("{{ '%9999d' % 1 }}", "a format may ask for at most 999 characters"),
        ("{{ '{:9999}'.format(1) }}", "a format may ask for at most 999 characters"),
        ("{{ [[1]] | sum(start=[]) }}", "sum adds numbers only"),
        ("{{ messages | tojson(indent=101) }}", "tojson indents and separates by at most 100 characters"),
        ("{{ 'x' | center(100001) }}", "100001 is more than the 100000 that a template may ask for"),
        ("{{ 'x'.encode() }}", "the method encode of str is unsafe"),
        ("{{ 'x' | pprint }}", "No filter named 'pprint'"),
    ],
)
def test_templates_that_fail(source, message):
    with pytest.raises(UnsupportedCheckpoint, match=message):
        ChatTemplate(source).render([])


def test_a_template_of_absurd_length():
    with pytest.raises(UnsupportedCheckpoint, match="chat template has 100001 characters; at most 100000 are read"):
        ChatTemplate("x" * 100001)


def test_long_conversations_fit_the_budget():
    """Every message of 1,000 measured, sliced, joined, collected and written: more than any real template does."""
    source = (
        "{% set ns = namespace(texts=[]) %}{% macro turn(m) %}{{ m.content | trim | replace('a', 'bb') }}{% endmacro %}"
        "{% for m in messages[0:] %}{% set ns.texts = ns.texts + [m.content] %}{{ turn(m) }}{{ m | tojson }}"
        "{{ m.content.split(' ')[0] }}{{ '%s' | format(m.role) }}{% endfor %}{{ ','.join(ns.texts | map('upper')) }}"
        "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join('\n') }}"
    )
    messages = [{"role": "user", "content": "a b c d e f g h " * 60} for _ in range(1000)]
    assert len(ChatTemplate(source).render(messages)) > 3_000_000


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    ],
)
def test_endless_work_ends(source, monkeypatch):
    monkeypatch.setattr(chat_template, "_SECONDS", 0.3)
    with pytest.raises(UnsupportedCheckpoint, match="it ran for more than"):
        ChatTemplate(source).render([])
