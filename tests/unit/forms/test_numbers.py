"""Numbers as people write them, in two languages."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponte.forms.numbers import NotANumber, hint, read_number, write_number, write_percent, write_share
from ponte.forms.words import LANGUAGES, Language

#: Text → what it means in English, and in Portuguese; a text says why it means nothing.
MEANINGS: dict[str, tuple[float | str, float | str]] = {
    "1234": (1234, 1234),
    "1,234.5": (1234.5, 1234.5),
    "1.234,5": (1234.5, 1234.5),
    "1,234": (1234, 1.234),
    "1.234": (1.234, 1234),
    "12.5": (12.5, 12.5),
    "12,5": (12.5, 12.5),
    "1,234,567": (1234567, 1234567),
    "1.234.567": (1234567, 1234567),
    "1.234.567,89": (1234567.89, 1234567.89),
    "0,125": (0.125, 0.125),
    "0.125": (0.125, 0.125),
    "1234,567": (1234.567, 1234.567),
    ",5": (0.5, 0.5),
    "5.": (5, 5),
    " -1 234,5 ": (-1234.5, -1234.5),
    "\u22127": (-7, -7),
    "+7": (7, 7),
    "1\u00a0234\u202f567": (1234567, 1234567),
    "\u0661\u0662\u0663": (123, 123),
    "1e5": ("no_number", "no_number"),
    "": ("no_number", "no_number"),
    "--1": ("no_number", "no_number"),
    "1,23,456": ("no_number", "no_number"),
    "1.234.56": ("no_number", "no_number"),
    "12,34.5": ("no_number", "no_number"),
    "1 2": ("no_number", "no_number"),
    "R$ 5": ("no_number", "no_number"),
    "nan": ("no_number", "no_number"),
    "\u00b2": ("no_number", "no_number"),
    "9" * 400: ("too_large", "too_large"),
    "9" * 401: ("no_number", "no_number"),
}


@pytest.mark.parametrize("text", MEANINGS)
def test_a_number_means_the_same_in_both_languages_unless_it_can_mean_two_things(text: str) -> None:
    for language, meaning in zip(LANGUAGES, MEANINGS[text], strict=True):
        try:
            got: float | str = read_number(text, language)
        except NotANumber as error:
            got = str(error)
        assert got == meaning, language


@pytest.mark.parametrize("language", LANGUAGES)
def test_of_whole_numbers_three_digits_behind_a_sign_are_thousands(language: Language) -> None:
    assert [read_number(text, language, whole=True) for text in ("1,234", "1.234", "12.000")] == [1234, 1234, 12000]
    assert read_number("7.0", language, whole=True) == 7
    for text, why in {"7.5": "no_whole", "0,125": "no_whole", str(2**63): "too_large"}.items():
        with pytest.raises(NotANumber, match=why):
            read_number(text, language, whole=True)


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(LANGUAGES))
def test_what_is_written_is_read_again_as_the_same_number(value: float, language: Language) -> None:
    text = write_number(value, language, digits=17)
    if len(text) <= 400:
        assert read_number(text, language) == value


@given(st.integers(-(2**63) + 1, 2**63 - 1), st.sampled_from(LANGUAGES))
def test_what_is_written_is_read_again_as_the_same_whole_number(value: int, language: Language) -> None:
    assert read_number(write_number(value, language), language, whole=True) == value


@given(st.text(max_size=30), st.sampled_from(LANGUAGES), st.booleans())
def test_any_text_is_a_finite_number_or_none(text: str, language: Language, whole: bool) -> None:
    with suppress(NotANumber):
        assert math.isfinite(read_number(text, language, whole=whole))


@pytest.mark.parametrize(
    ("value", "said"),
    [(150_200, "150,000"), (6.4, "6.4"), (0, "0"), (math.nextafter(0, 1), "0"), (math.nextafter(3, 4), "3"),
     (-1234, "\u22121,200"), (0.01234, "0.012"), (99.9, "100")],
)  # fmt: skip
def test_a_hint_has_two_digits_that_count(value: float, said: str) -> None:
    assert hint(value, "en") == said


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.8, "8 of 10"),
        (0.9, "9 of 10"),
        (0.95, "19 of 20"),
        (0.99, "99 of 100"),
        (0.5, "5 of 10"),
        (0.999, "999 of 1,000"),
    ],
)
def test_a_share_is_said_as_so_many_of_so_many(share: float, said: str) -> None:
    assert write_share(share, "en") == said


@pytest.mark.parametrize(("share", "said"), [(0.871, "87\u00a0%"), (0.004, "less than 1 %"), (0.999, "more than 99 %")])
def test_a_probability_is_never_said_to_be_certain(share: float, said: str) -> None:
    assert write_percent(share, "en") == said
