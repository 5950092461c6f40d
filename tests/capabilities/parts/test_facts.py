"""Numbers in digits and words, names, and what a text has made up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipu.capabilities.parts.facts import invented, kept, numbers


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("4,250 people and 12 dogs", [4250, 12]),
        ("on the 3rd of June 2031, at 1.5 percent", [3, 2031, 1.5]),
        ("two hundred and forty-one", [241]),
        ("Twelve thousand three hundred and five, or nineteen", [12305, 19]),
        ("1.5 million and 3 thousand", [1_500_000, 3000]),
        ("one two three", [1, 2, 3]),
        ("twenty twelve", [20, 12]),
        ("five and six", [5, 6]),
        ("a hundred", []),  # nothing counts it
        ("seven hundred", [700]),
        ("€4,250.50 for A4", [4250.5, 4]),
        ("no number", []),
        ("", []),
    ],
)
def test_numbers_are_read_in_digits_and_words(text, values):
    assert [value for value, _ in numbers(text)] == values


SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen"""
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"


def spelled(value):
    """English, by the rules of a school book: the oracle."""
    if value < 20:
        return SMALL.split()[value]
    if value < 100:
        return TENS.split()[value // 10 - 2] + (f"-{spelled(value % 10)}" if value % 10 else "")
    if value < 1000:
        return f"{spelled(value // 100)} hundred" + (f" and {spelled(value % 100)}" if value % 100 else "")
    rest = value % 1000
    joined = " and " if 0 < rest < 100 else " "
    return f"{spelled(value // 1000)} thousand" + (f"{joined}{spelled(rest)}" if rest else "")


@given(st.integers(0, 999_999))
def test_every_number_in_words_is_the_number(value):
    assert numbers(f"There were {spelled(value)} of them.") == [(value, True)]
    assert numbers(f"There were {value:,} of them.") == [(value, False)]


def test_a_fact_is_kept_when_all_of_it_is_there():
    text = "The Port Ellery bridge, VARGA's work, has 412 lamps since 3 June."
    facts = [["Varga"], [412], [3, "June"], [3, "July"], ["Port Ellery"], ["Port Ell"], [41], ["lamp"]]
    assert kept(text, facts) == [True, True, True, False, True, False, False, False]
    assert kept("four hundred and twelve", [[412]]) == [True]
    assert kept("", [["Varga"], [0]]) == [False, False]


SOURCE = "Ilse Varga paid 4,250 euros in Ellerby on 3 June. The US firm's dog slept."


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("Varga paid 4250 euros in June.", []),
        ("In Ellerby, Ilse Varga's dog slept. Two people saw it.", []),
        ("- The US firm\n- Ellerby", []),
        ("She paid 4,300 euros.", ["4300"]),
        ("On Monday Ilse Brown paid.", ["Monday", "Brown"]),
        ("It was forty euros.", ["40"]),
        ("It took 7 days.", ["7"]),
        ("TL;DR: I paid.", []),
    ],
)
def test_what_is_not_in_the_source_is_made_up(text, made):
    assert sorted(invented(text, SOURCE)) == sorted(made)
