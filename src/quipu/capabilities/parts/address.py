"""How a reader is addressed: what to ask a model for, and whether a text does it."""

from __future__ import annotations

import re
from typing import Literal

Formality = Literal["formal", "informal"]

WANTED: dict[Formality, dict[str, str]] = {
    "formal": {
        "en": "Use polite, formal English.",
        "de": "Use the formal address Sie.",
        "fr": "Use the formal address vous.",
        "it": "Use the formal address Lei.",
        "pt": "Use the formal address o senhor or a senhora.",
        "hi": "Use the formal address आप.",
        "es": "Use the formal address usted.",
        "th": "Use formal Thai with คุณ.",
    },
    "informal": {
        "en": "Use casual, informal English.",
        "de": "Use the informal address du.",
        "fr": "Use the informal address tu.",
        "it": "Use the informal address tu.",
        "pt": "Use the informal address você.",
        "hi": "Use the informal address तुम.",
        "es": "Use the informal address tú.",
        "th": "Use casual Thai.",
    },
}
"""A line that asks for it, by language of the text."""

_START, _END = r"(?<![\w\u0900-\u0963])", r"(?![\w\u0900-\u0963])"
"""The signs of Hindi vowels are no letters to Python, but parts of words."""
_MARKS: dict[str, tuple[str, str]] = {
    # Formal, informal: pronouns and possessives, which no short text that addresses someone is without.
    "de": (r"Sie|Ihnen|Ihr(?:e[mnrs]?)?", r"[dD](?:u|ich|ir|ein(?:e[mnrs]?)?)|[eE]uch|[eE]ure?[mnrs]?"),
    "fr": (r"(?i:vous|votre|vos)", r"(?i:tu|te|toi|ton|ta|tes|t['’]\w+)"),
    "it": (r"(?i:lei|suo|sua|suoi|sue)", r"(?i:tu|te|ti|tuo|tua|tuoi|tue)"),
    "es": (r"(?i:usted|ustedes|su|sus)", r"(?i:tú|tu|tus|te|ti|contigo)"),
    "hi": (r"आप|आपका|आपकी|आपके|आपको|आपने|आपसे", r"तुम|तुम्हारा|तुम्हारी|तुम्हारे|तुम्हें|तुमको|तुमने|तू|तेरा|तेरी|तेरे|तुझे"),
}


def is_addressed(text: str, language: str, formality: Formality) -> bool:
    """Whether ``text`` addresses its reader so, and never the other way. True for languages that are not looked into.

    Pronouns and possessives are looked for (German, French, Italian, Spanish, Hindi); a verb's form alone is not seen.
    """
    if language not in _MARKS:
        return True
    formal, informal = (bool(re.search(f"{_START}(?:{marks}){_END}", text)) for marks in _MARKS[language])
    return (formal and not informal) if formality == "formal" else (informal and not formal)
