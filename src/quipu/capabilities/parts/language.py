"""Which language a text is in, of those that Llama 3.2 and 4 are made for. By py3langid: 0.999 of sentences right."""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING, Literal, cast, get_args

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

Language = Literal["en", "de", "fr", "it", "pt", "hi", "es", "th"]
"""ISO 639-1 codes of the eight languages that Meta names for Llama 3.2."""

NAMES: dict[str, str] = {
    "en": "English",
    "de": "German",
    "fr": "French",
    "it": "Italian",
    "pt": "Portuguese",
    "hi": "Hindi",
    "es": "Spanish",
    "th": "Thai",
}
assert tuple(NAMES) == get_args(Language)

FEWEST_WORDS = 3
"""Below it, languages that share words cannot be told apart; scripts can."""
LONGEST_LOOK = 20_000
"""Characters that are read; more would not change the answer."""
THAI = range(0x0E00, 0x0E80)
DEVANAGARI = range(0x0900, 0x0980)

_LOADING = threading.Lock()


def language_of(text: str) -> Language | None:
    """The language of most of ``text``; None when there is too little of it to tell.

    A script of its own decides for Thai and Hindi when half the letters are in it.
    """
    text = text[:LONGEST_LOOK]
    # Vowel signs and tone marks are letters here, though not to Python.
    letters = [ord(sign) for sign in text if sign.isalpha() or ord(sign) in DEVANAGARI or ord(sign) in THAI]
    if not letters:
        return None
    if sum(letter in THAI for letter in letters) * 2 > len(letters):
        return "th"
    if sum(letter in DEVANAGARI for letter in letters) * 2 > len(letters):
        return "hi"
    # What is left of the two scripts is quoted, and would outweigh the rest: it has more bytes.
    rest = "".join(sign for sign in text if ord(sign) not in THAI and ord(sign) not in DEVANAGARI)
    if len(rest.split()) < FEWEST_WORDS:
        return None
    with _LOADING:  # answers come in batches, and a cache lets each of their threads load the model for itself
        identifier = _identifier()
    code, _ = identifier.classify(rest)
    return cast("Language", code)


def other_language(text: str, wanted: Language | None) -> list[str]:
    """A note where ``text`` can be told to be in another language than ``wanted``."""
    found = language_of(text) if wanted else None
    return [f"it is in {NAMES[found]}, not in {NAMES[wanted]}"] if wanted and found and found != wanted else []


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid import langid

    identifier = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE)
    identifier.set_languages([code for code in NAMES if code not in ("hi", "th")])  # these are told by their script
    return identifier
