"""The translation in an answer, without what models say around one."""

from __future__ import annotations

import re

from quipu.capabilities.parts.language import NAMES

_OWN_NAMES = ("Deutsch", "Français", "Italiano", "Português", "हिन्दी", "हिंदी", "Español", "ไทย")
_LANGUAGE = "|".join((*NAMES.values(), *_OWN_NAMES))
_ANNOUNCED = re.compile(
    rf"\**(?:(?:sure|certainly|of course|okay)\b[,.!]?\s*)?"
    rf"(?:here(?:'s|’s| is)\b[^\n:]{{0,60}}\b(?:translat\w+|text|{_LANGUAGE})\b[^\n:]{{0,60}}"
    rf"|(?:the )?translat(?:ion|ed)\b[^\n:]{{0,60}}|(?:in )?(?:{_LANGUAGE})(?: translation)?):(?:\*\*)?\s*",
    re.IGNORECASE,
)
_FENCED = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)
_NOTE = re.compile(
    r"\n\s*\n\s*[(*]*"
    rf"(?:note|explanation|translation notes?|please note|let me know|in (?:this translation|{_LANGUAGE}))\b.*",
    re.DOTALL | re.IGNORECASE,
)
_QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»", "'": "'", "`": "`", "**": "**"}


def translation_in(answer: str, source: str) -> str:
    """``answer`` without a fence, an announcement, a note after it, or quotes, where ``source`` has none of these.

    What is nothing but such is taken at its word: ``Sure!`` is a translation too. Empty only if ``answer`` is.
    """
    text = answer.strip()
    while text:
        bare = _without_one(text, source).strip()
        if bare in ("", text):
            break
        text = bare
    return text


def _without_one(text: str, source: str) -> str:
    if "```" not in source and (fenced := _FENCED.search(text)):
        return fenced[1]
    if (announced := _ANNOUNCED.match(text)) and ":" not in source.split("\n", 1)[0]:
        return text[announced.end() :]
    if noted := _NOTE.search(text):
        return text[: noted.start()]
    for opening, closing in _QUOTES.items():
        inner = text[len(opening) : -len(closing)]
        quoted = len(text) > 2 and text.startswith(opening) and text.endswith(closing)
        if quoted and opening not in inner and closing not in inner and not source.strip().startswith(tuple(_QUOTES)):
            return inner
    return text
