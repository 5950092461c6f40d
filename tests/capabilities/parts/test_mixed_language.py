"""Which language a text in two scripts is in: that of the most of it; and what it takes to tell."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from py3langid import langid

from quipu.capabilities.parts import language
from quipu.capabilities.parts.language import language_of

HINDI = "एक सहेली को समुद्र के बारे में एक छोटा संदेश लिखो।"
THAI = "เขียนข้อความสั้น ๆ ถึงเพื่อนเกี่ยวกับสวน"
ENGLISH = "In a country where that is not the language of most people it is easy to learn and very popular. " * 2


@pytest.mark.parametrize(("short", "language"), [(HINDI, "hi"), (THAI, "th")])
def test_the_language_is_that_of_the_most_of_it(short, language):
    assert language_of(short) == language
    assert language_of(short + "\n\n" + ENGLISH) == "en"


def test_a_huge_text_takes_no_time():
    assert language_of(ENGLISH * 500_000) == "en"


def test_answers_of_a_batch_share_one_model(monkeypatch):
    loads, load = [], langid.LanguageIdentifier.from_model_file
    monkeypatch.setattr(langid.LanguageIdentifier, "from_model_file", lambda file: loads.append(file) or load(file))
    language._identifier.cache_clear()
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(language_of, [ENGLISH] * 16)) == {"en"}
    assert len(loads) == 1
