"""Repetition against a count by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipu.capabilities.parts.repetition import STUCK, copied, repetition

PROSE = "The lamp was lit at six. Nobody came up the hill that night, and the keeper read until the oil was gone."
THAI = "เช้าวันนี้อากาศเย็นสบายมาก แม่ไปตลาดซื้อผักสดกับปลา แล้วกลับมาทำกับข้าวให้ทุกคนในบ้านกินพร้อมกัน"


def test_it_is_the_share_of_runs_seen_before():
    # Runs of four: abcd bcda cdab dabc abcd; the last was there before.
    assert repetition("a b c d A b c d") == pytest.approx(1 / 5)


@pytest.mark.parametrize("text", [PROSE, THAI, "", "no", "one two three four", "๏ " * 2])
def test_what_people_write_does_not(text):
    assert repetition(text) < 0.05


@pytest.mark.parametrize(
    "text", [PROSE + " " + PROSE, THAI * 2, "ha " * 50, "a" * 400, "word, " * 9, (PROSE + "\n") * 30]
)
def test_a_loop_does(text):
    assert repetition(text) > 2 * STUCK


def test_a_third_said_again_is_a_loop():
    words = [f"w{number}" for number in range(90)]
    assert repetition(" ".join(words + words[:30])) > STUCK
    assert repetition(" ".join(words + words[:10])) < STUCK


def test_what_is_copied():
    assert copied(PROSE, PROSE.upper()) == 1
    assert copied(PROSE, THAI) == 0
    assert copied("เล่านิทานสั้น ๆ เกี่ยวกับทะเลให้ฟังหน่อย", "เล่านิทานสั้น ๆ เกี่ยวกับทะเลให้ฟังหน่อย") == 1
    assert copied("", PROSE) == 0
    assert 0.3 < copied(PROSE + " " + "And then it was morning, and the ships were home again at last.", PROSE) < 0.8


@given(st.text(), st.text())
def test_shares_are_shares(text, other):
    assert 0 <= repetition(text) < 1
    assert 0 <= copied(text, other) <= 1
