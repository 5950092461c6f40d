"""Nothing of a text is lost, every section fits, and cuts are where a reader would make them."""

from hypothesis import given, settings
from hypothesis import strategies as st

from quipu.capabilities.parts.sections import sections


def by_words(text):
    return len(text.split()) + 1


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(alphabet=st.sampled_from("ab .\n#!?\t।ก\x00"), max_size=600) | st.text(max_size=300),
    size=st.integers(16, 100),
)
def test_sections_joined_are_the_text_and_each_fits(text, size):
    found = list(sections(text, size, len))
    assert "".join(found) == text
    assert all(0 < len(section) <= size for section in found)


def test_a_text_that_fits_is_one_section():
    assert list(sections("One. Two.", 16, by_words)) == ["One. Two."]
    assert list(sections("", 16, by_words)) == []


def test_cuts_are_at_headings_then_paragraphs_then_sentences():
    sentence = "The cook slept well. "
    chapters = [f"# Chapter {number}\n\n{sentence * 8}\n" for number in range(3)]
    assert list(sections("".join(chapters), 60, by_words)) == chapters
    paragraphs = [f"{sentence * 8}\n\n" for _ in range(3)]
    assert list(sections("".join(paragraphs), 60, by_words)) == paragraphs
    assert all(section.endswith("well. ") for section in sections(sentence * 40, 45, by_words))


def test_a_text_without_any_boundary_is_cut_all_the_same():
    found = list(sections("x" * 1000, 64, len))
    assert all(32 <= len(section) <= 64 for section in found[:-1])


def test_counting_is_linear_and_lazy():
    counted = []

    def count(piece):
        counted.append(len(piece))
        return len(piece) // 5

    text = "word " * 1_000_000
    first = next(sections(text, 1000, count))
    assert sum(counted) <= 3 * len(first)
    counted.clear()
    assert "".join(sections(text, 1000, count)) == text
    assert sum(counted) <= 2.5 * len(text)
