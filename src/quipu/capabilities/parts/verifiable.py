"""Instructions whose following a program can check, after IFEval (Zhou et al., 2023, arXiv:2311.07911).

Each check takes the answer and the options of the instruction, and says whether it is followed. A last one says whether
there is an answer at all: text about the subject, not the instruction again and not loose words.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from quipu.capabilities.parts.language import language_of

BREAK = re.compile(r"[\s'’]+")
SENTENCE_END = re.compile(r"[.!?।]+[\"'”’)\]]*(?=\s|$)")
BULLET = re.compile(r"\s*[-*•]\s+\S")
NUMBERED = re.compile(r"\s*(\d+)[.)]\s+\S")
FENCE = re.compile(r"\s*```\w*\n(.*?)\n?```\s*", re.DOTALL)

JOINING = """
    a an the and or of to in on at is are was be it its this that with for from by as you we they not can have has
    der die das und ist ein eine einer in auf zu mit von den dem für nicht es sie er wir sich bei im aus
    le la les un une des et est de du dans il elle que pour avec sur nous qui ne pas à en l d
    il lo gli i è e di che per con una un del della non si sono nel
    o os as um uma e é do da em no na para com que não se
    el los las y es una de del que en con por no se para al su
    है और का की के में से को पर एक यह हैं नहीं वह
"""
FUNCTION_WORDS = frozenset(JOINING.split())
FEWEST_DISTINCT = 0.35
"""Share of words that differ; a loop is below it."""
FEWEST_FUNCTION_WORDS = 0.12
"""Share of words that only join others: prose has 0.3 to 0.5, loose words have none."""


def followed(text: str, check: Mapping[str, Any]) -> bool:
    """Whether ``text`` follows ``check``: a kind (see CHECKS) and its options."""
    options = {name: value for name, value in check.items() if name != "kind"}
    return CHECKS[check["kind"]](text, **options)


def words_of(text: str) -> list[str]:
    """The words of ``text`` in lower case, without what stands around them; an apostrophe parts two."""
    words = (word.strip(string.punctuation + "“”„«»…।–—¿¡").casefold() for word in BREAK.split(text))
    return [word for word in words if word]


def lines_of(text: str) -> list[str]:
    """The lines of ``text`` that are not blank."""
    return [line for line in text.splitlines() if line.strip()]


def _count(text: str) -> int:
    """Words between spaces; a hyphen that begins a line is none."""
    return sum(any(map(str.isalnum, piece)) for piece in text.split())


def _words_at_most(text: str, number: int) -> bool:
    return _count(text) <= number


def _words_at_least(text: str, number: int) -> bool:
    return _count(text) >= number


def _sentences(text: str, number: int) -> bool:
    parts = [part for part in SENTENCE_END.split(text) if words_of(part)]
    return len(parts) == number


def _paragraphs(text: str, number: int) -> bool:
    return len([part for part in re.split(r"\n\s*\n", text) if part.strip()]) == number


def _bullets(text: str, number: int) -> bool:
    return sum(BULLET.match(line) is not None for line in lines_of(text)) == number


def _numbered(text: str, number: int) -> bool:
    found = [match[1] for match in map(NUMBERED.match, lines_of(text)) if match]
    return found == [str(place) for place in range(1, number + 1)]


def _lines_start(text: str, prefix: str) -> bool:
    lines = lines_of(text)
    return bool(lines) and all(line.startswith(prefix.strip()) for line in lines)


def _json_keys(text: str, keys: Sequence[str]) -> bool:
    fenced = FENCE.fullmatch(text)
    try:
        value = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and list(value) == list(keys) and all(map(_said, value.values()))


def _said(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _title(text: str) -> bool:
    lines = lines_of(text)
    return len(lines) > 1 and re.fullmatch(r"\s*\[[^\[\]\n]+\]\s*", lines[0]) is not None


def _include(text: str, words: Sequence[str]) -> bool:
    return all(_has(text, word) for word in words)


def _exclude(text: str, words: Sequence[str]) -> bool:
    return not any(_has(text, word) for word in words)


def _has(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


def _no_commas(text: str) -> bool:
    return "," not in text


def _upper(text: str) -> bool:
    return text.isupper()


def _lower(text: str) -> bool:
    return text.islower()


def _title_case(text: str) -> bool:
    first = [next(filter(str.isalnum, word), "") for word in text.split()]
    return any(map(str.isupper, first)) and not any(map(str.islower, first))


def _language(text: str, language: str) -> bool:
    return language_of(text) == language


def _starts(text: str, phrase: str) -> bool:
    return text.casefold().startswith(phrase.casefold())


def _ends(text: str, phrase: str) -> bool:
    return text.rstrip().casefold().endswith(phrase.casefold())


def _quoted(text: str) -> bool:
    return len(text) > 2 and text[0] == text[-1] == '"'


CHECKS: Mapping[str, Callable[..., bool]] = {
    "words_at_most": _words_at_most,
    "words_at_least": _words_at_least,
    "sentences": _sentences,
    "paragraphs": _paragraphs,
    "bullets": _bullets,
    "numbered": _numbered,
    "lines_start": _lines_start,
    "json_keys": _json_keys,
    "title": _title,
    "quoted": _quoted,
    "include": _include,
    "exclude": _exclude,
    "no_commas": _no_commas,
    "upper": _upper,
    "lower": _lower,
    "title_case": _title_case,
    "language": _language,
    "starts": _starts,
    "ends": _ends,
}


def no_answer(text: str, about: Sequence[str], instruction: str) -> str:
    """Why ``text`` is no answer, whatever else it follows; empty if it is one.

    ``about`` are beginnings of words of which one has to be there.
    """
    words = words_of(text)
    told = words_of(instruction)
    if not any(word.startswith(stem) for word in words for stem in about):
        return "it is not about the subject"
    if " ".join(told) in " ".join(words) or _share(_triples(words), set(_triples(told))) > 0.5:
        return "it is the instruction again"
    if len(set(words)) < FEWEST_DISTINCT * len(words):
        return "it repeats itself"
    if _share(words, FUNCTION_WORDS) < FEWEST_FUNCTION_WORDS:
        return "it is loose words"
    return ""


def _triples(words: Sequence[str]) -> list[tuple[str, ...]]:
    return list(zip(words, words[1:], words[2:], strict=False))


def _share(items: Sequence[Any], known: set[Any] | frozenset[Any]) -> float:
    return sum(item in known for item in items) / len(items) if items else 0.0
