"""Which language a text in two scripts is in: that of the most of it."""

import pytest

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
