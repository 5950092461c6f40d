"""Mutations of a file, decided by a seed alone: the same kind, bytes and seed always give the same file."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

NUMBERS = [
    0,
    1,
    2,
    3,
    7,
    8,
    31,
    32,
    255,
    256,
    65535,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
]
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 2**31, 2**53, 2**63, 2**64, 10**400, 0.5, -0.0, 1e-320, 1e308, float("nan"),
    float("inf"), "", "x", "0", "x" * 5000, "\ud800", "\x00", "..", "../../etc/passwd", "/etc/passwd", [], {}, [[]],
    [None], {"": None}, [1, 2], ["a", "b"], {"type": "Sequence"}, {"type": "llama3"}, "BPE", "llama", "ByteLevel",
    "Metaspace", "(a+)+$", "(",
]  # fmt: skip
SNIPPETS = [
    "{{ 'x' * 10**9 }}", "{{ 'x'|center(10**9) }}", "{{ '%999999999d' % 1 }}", "{{ '%*d'|format(10**9, 1) }}",
    "{{ '{:>999999999}'.format(1) }}", "{{ 'x'.ljust(10**9) }}", "{{ '\\t'.expandtabs(10**9) }}",
    "{{ (5).to_bytes(10**9) }}", "{{ 1|round(10**9) }}", "{{ [1]|batch(10**9, 0)|list }}",
    "{{ [1]|slice(10**9)|list }}", "{{ messages|tojson(indent=10**9) }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ messages|attr('__class__') }}",
    "{{ '{0.__class__}'.format(1) }}", "{% set ns = namespace(s='ab') %}", "{% for i in range(99999) %}",
    "{% endfor %}", "{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}", "{% set ns.s = [ns.s, ns.s] %}", "{{ ns.s }}",
    "{{ ns.s == ns.s }}", "{{ ns.s|tojson }}", "{{ ns|string }}", "{% set ns.n = ns %}",
    "{% macro m(n) %}{{ m(n) }}{% endmacro %}", "{{ m(1) }}", "{{ m }}", "{% if true %}", "{% endif %}", "{% else %}",
    "{{ self }}", "{{ loop }}", "{% break %}", "{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}",
    "{% block b %}", "{% endblock %}", "{% filter upper %}", "{% endfilter %}", "{% call m(1) %}", "{% endcall %}",
    "{% autoescape true %}", "{% endautoescape %}", "{%- raw %}", "{{ 9**9**9 }}", "{{ messages.append(1) }}",
    "{{ messages|map('upper')|list }}", "{{ cycler }}", "{{ dict(a=messages) }}", "{#", "{{", "%}",
    "{{ 'a'|replace('', 'b'*99999) }}", "{{ range(99999)|join(',') }}", "{{ range(9)|sum(start=[]) }}",
    "{{ '\U0010ffff' * 999 }}", "{{ tools.x }}",
]  # fmt: skip


def mutated(kind: str, data: bytes, random: Random) -> bytes:
    """``data``, a sound file of ``kind``, changed in its structure, in its bytes, or in both."""
    changed = data
    structural = STRUCTURAL[kind.split("-")[0]]
    choice = random.random()
    if choice < 0.8:
        for _ in range(random.choice([1, 1, 1, 2, 4])):
            changed = structural(changed, random)
    if choice > 0.7 or changed == data:
        for _ in range(random.choice([1, 1, 2, 8])):
            changed = bytewise(changed, random)
    return changed


def bytewise(data: bytes, random: Random) -> bytes:
    if not data:
        return b"\0"
    # Headers are at the beginning (and, in a zip, at the end); that is where it matters.
    size = len(data)
    at = random.randrange(min(size, random.choice([16, 256, 4096, size])))
    if random.random() < 0.2:
        at = size - 1 - at
    end = min(size, at + random.choice([1, 2, 4, 8, 64, 1000]))
    match random.randrange(8):
        case 0:
            return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
        case 1:
            return data[:at] + random.randbytes(end - at) + data[end:]
        case 2:
            return data[:at] + data[end:]
        case 3:
            return data[:at] + data[at:end] * 2 + data[end:]
        case 4:
            return data[:at]
        case 5:
            number = random.choice(NUMBERS).to_bytes(8, "little")[: random.choice([1, 2, 4, 8])]
            return data[:at] + number + data[at + len(number) :]
        case 6:
            return data[:at] + bytes(end - at) + data[end:]
        case _:
            return (
                data[:at] + random.choice([b'"', b"{", b"[", b",", b":", b"\\", b"\xff", b"9" * 30, b"\n"]) + data[at:]
            )


# ---- JSON


def json_text(data: bytes, random: Random) -> bytes:
    try:
        return json.dumps(json_value(json.loads(data), random)).encode()
    except (ValueError, RecursionError):  # a file mutated before
        return bytewise(data, random)


def json_value(document: Any, random: Random) -> Any:
    if random.random() < 0.02:
        return random.choice(ODD)
    places = list(_places(document))
    if not places:
        return random.choice(ODD)
    # The big lists of a tokenizer would else take nearly all mutations.
    depth = random.choice(sorted({len(place) for place in places}))
    *path, last = random.choice([place for place in places if len(place) == depth])
    parent = document
    for step in path:
        parent = parent[step]
    value = parent[last]
    match random.randrange(9):
        case 0:
            del parent[last]
        case 1 if isinstance(parent, dict):
            parent[random.choice([*parent, "x", "type"])] = parent.pop(last)
        case 1:
            parent.insert(last, value)
        case 2:
            parent[last] = random.choice([[value], {"x": value}, [value, value], {str(last): value}])
        case 3 if isinstance(value, int | float):
            parent[last] = random.choice([value + 1, value - 1, -value, value * 2, value / 2, str(value), float(value)])
        case 4:
            other = random.choice(places)
            parent[last] = json.loads(json.dumps(_at(document, other)))
        case 5:
            nested: Any = value
            for _ in range(random.choice([10, 200, 900])):
                nested = [nested] if random.random() < 0.5 else {"type": "Sequence", "pretokenizers": [nested]}
            parent[last] = nested
        case _:
            parent[last] = random.choice(ODD)
    return document


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if len(path) > 40:
        return
    for key, child in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from _places(child, (*path, key))


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def duplicated_key(data: bytes, random: Random) -> bytes:
    """A member of an object once more, with another value: something that json.dumps never writes."""
    members = list(re.finditer(rb'"\w+": ', data))
    if not members:
        return bytewise(data, random)
    member = random.choice(members)
    return data[: member.start()] + member[0] + json.dumps(random.choice(ODD)).encode() + b", " + data[member.start() :]


def any_json(data: bytes, random: Random) -> bytes:
    return duplicated_key(data, random) if random.random() < 0.1 else json_text(data, random)


# ---- safetensors


def safetensors(data: bytes, random: Random) -> bytes:
    size = int.from_bytes(data[:8], "little")
    if size > len(data):
        return bytewise(data, random)
    header = any_json(data[8 : 8 + size], random)
    said = len(header) if random.random() < 0.8 else random.choice([*NUMBERS, size + 1, size - 1, len(data)])
    return said.to_bytes(8, "little") + header + data[8 + size :]


# ---- GGUF

_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def gguf(data: bytes, random: Random) -> bytes:
    """One field of the header (a count, length, type, dimension, offset or value), or one whole entry."""
    try:
        numbers, entries = _gguf_fields(data)
    except (struct.error, KeyError, IndexError, MemoryError):
        return bytewise(data, random)
    if entries and random.random() < 0.15:
        start, end = random.choice(entries)
        return random.choice([data[:start] + data[end:], data[:end] + data[start:end] + data[end:]])
    at, width = random.choice(numbers)
    value = int.from_bytes(data[at : at + width], "little")
    options = [
        *NUMBERS,
        value + 1,
        value - 1,
        value * 2,
        value ^ 1 << random.randrange(8 * width),
        random.randrange(16),
    ]
    if random.random() < 0.2:
        options = [int.from_bytes(data[a : a + w], "little") for a, w in numbers]
    return data[:at] + (random.choice(options) % (1 << 8 * width)).to_bytes(width, "little") + data[at + width :]


def _gguf_fields(data: bytes) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(position, width) of numbers, those inside long lists left out; (start, end) of metadata and tensor entries."""
    numbers, entries = [(4, 4), (8, 8), (16, 8)], []
    at = 24

    def number(width: int) -> int:
        nonlocal at
        numbers.append((at, width))
        at += width
        return int.from_bytes(data[at - width : at], "little")

    def value(kind: int) -> None:
        nonlocal at
        if kind == 8:
            at += number(8)
        elif kind == 9:
            of, count = number(4), number(8)
            before = len(numbers)
            if count > 100_000:
                raise KeyError(count)
            for _ in range(count):
                value(of)
            del numbers[before + 6 :]
        else:
            number(_WIDTHS[kind])

    for _ in range(min(int.from_bytes(data[16:24], "little"), 1000)):
        start = at
        at += number(8)
        value(number(4))
        entries.append((start, at))
    for _ in range(min(int.from_bytes(data[8:16], "little"), 1000)):
        start = at
        at += number(8)
        for _ in range(min(number(4), 8)):
            number(8)
        number(4), number(8)
        entries.append((start, at))
    if at > len(data):
        raise KeyError(at)
    return numbers, entries


# ---- .pth


def pth(data: bytes, random: Random) -> bytes:
    """Members of the zip: mutated, dropped, doubled, renamed; written back with sound checksums."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(each.filename, archive.read(each)) for each in archive.infolist()]
    except Exception:  # a file mutated before need not be a zip any more
        return bytewise(data, random)
    pickles = [i for i, (name, _) in enumerate(members) if name.endswith("data.pkl")]
    i = random.choice(pickles) if pickles and random.random() < 0.7 else random.randrange(len(members))
    name, content = members[i]
    match random.randrange(8):
        case 0:
            del members[i]
        case 1:
            members.append((name + random.choice(["", "x", "/../../x"]), content))
        case 2:
            members[i] = (random.choice(["/etc/x", "../x", "x", "x" * 300, name.upper()]), content)
        case 3:
            members[i] = (name, content[: random.randrange(len(content) + 1)])
        case 4:
            members[i] = (name, _pickle_number(content, random))
        case _:
            members[i] = (name, bytewise(content, random))
    stream = io.BytesIO()
    with zipfile.ZipFile(
        stream, "w", random.choice([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    ) as archive:
        for member, content in members:
            # As torch writes it: one entry per name, whatever it is called.
            archive.NameToInfo.pop(member, None)
            archive.writestr(member, content)
    return stream.getvalue()


def _pickle_number(content: bytes, random: Random) -> bytes:
    """A number of the pickle (shape, stride, offset): K byte, M two bytes, J four bytes."""
    found = [match.start() for match in re.finditer(rb"[KMJ]", content)]
    if not found:
        return bytewise(content, random)
    at = random.choice(found)
    width = {ord("K"): 2, ord("M"): 3, ord("J"): 5}[content[at]]
    number = random.choice([0, 1, 2, 255, 65535, 2**31 - 1, -1, -(2**31)])
    return content[:at] + b"J" + struct.pack("<i", number) + content[at + width :]


# ---- Meta's tokenizer.model, and templates


def tiktoken(data: bytes, random: Random) -> bytes:
    lines = data.split(b"\n")
    i = random.randrange(len(lines))
    match random.randrange(6):
        case 0:
            del lines[i]
        case 1:
            lines.insert(random.randrange(len(lines)), lines[i])
        case 2:
            lines[i] = (
                lines[i].split(b" ")[0]
                + b" "
                + str(random.choice([*NUMBERS, -1, "x", "1e3", "\u0663", "9" * 5000])).encode()
            )
        case 3:
            lines[i] = random.choice(
                [b"= 3", b"!!!! 1", b"a 1", b"YQ== 1 2", b" ", b"\0", b"YQ==", b"A" * 4096 + b" 264"]
            )
        case 4:
            lines = lines * 2
        case _:
            return bytewise(data, random)
    return b"\n".join(lines)


def template(data: bytes, random: Random) -> bytes:
    parts = re.split(rb"(\{[%{].*?[%}]\})", data)
    i = random.randrange(len(parts))
    match random.randrange(6):
        case 0 | 1 | 2:
            parts.insert(i, random.choice(SNIPPETS).encode())
        case 3:
            del parts[i]
        case 4:
            parts.insert(i, random.choice(parts))
        case _:
            words = re.split(rb"(\W+)", parts[i])
            words[random.randrange(len(words))] = random.choice(
                [b"messages", b"|", b"10**9", b"'x'", b"(", b"~", b"loop", b"none"]
            )
            parts[i] = b"".join(words)
    return b"".join(parts)


STRUCTURAL: dict[str, Callable[[bytes, Random], bytes]] = {
    "gguf": gguf,
    "safetensors": safetensors,
    "index": any_json,
    "config": any_json,
    "generation_config": any_json,
    "tokenizer": any_json,
    "tokenizer_config": any_json,
    "tiktoken": tiktoken,
    "params": any_json,
    "pth": pth,
    "template": template,
}  # fmt: skip
