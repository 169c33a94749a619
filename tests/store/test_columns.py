import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from vsp.store.columns import Pairs, Words, clean

DIALECT = sqlite.dialect()


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("", ""),
        ("plain", "plain"),
        ("北门", "北门"),
        ("a\x00b", "a\ufffdb"),
        ("a\ud800b", "a?b"),
        ("abcdef", "abcdef"),
        ("abcdefg", "abcdef"),
    ],
)
def test_text_is_cleaned_and_cut(text: str, stored: str):
    assert clean(text, 6) == stored


@given(st.text(alphabet=st.characters(), max_size=50), st.integers(0, 60))
def test_clean_text_is_storable_bounded_and_stays_clean(text: str, length_max: int):
    cleaned = clean(text, length_max)

    assert len(cleaned) <= length_max
    assert "\x00" not in cleaned
    cleaned.encode("utf-8")
    assert clean(cleaned, length_max) == cleaned


def test_words_let_nothing_through_uncleaned_but_keep_null_apart():
    column = Words(3)

    assert column.process_bind_param("\x00bcd", DIALECT) == "\ufffdbc"
    assert column.process_bind_param(None, DIALECT) is None


@given(st.lists(st.tuples(st.text(), st.integers())))
def test_pairs_come_back_as_they_were(pairs: list[tuple[str, int]]):
    column = Pairs()

    stored = column.process_bind_param(pairs, DIALECT)

    assert stored is not None
    assert stored.isascii()
    assert column.process_result_value(stored, DIALECT) == tuple(pairs)


def test_no_pairs_are_an_empty_tuple():
    assert Pairs().process_result_value(None, DIALECT) == ()
    assert Pairs().process_bind_param(None, DIALECT) is None
