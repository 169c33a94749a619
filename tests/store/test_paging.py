import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsp.errors import Invalid
from vsp.store.paging import CURSOR_MAX, decode_cursor, encode_cursor

INT64 = st.integers(-(1 << 63) + 1, (1 << 63) - 1)


@given(INT64, st.text(max_size=30))
def test_a_cursor_gives_back_its_key(number: int, text: str):
    cursor = encode_cursor([number, text])

    assert decode_cursor(cursor, (int, str)) == [number, text]
    assert cursor.replace("-", "").replace("_", "").isalnum(), "it goes into a URL as it is"


@given(st.text(max_size=60))
def test_any_other_text_is_invalid(text: str):
    with pytest.raises(Invalid):
        decode_cursor(text + "!", (str,))


@pytest.mark.parametrize(
    "values",
    [b'["a"]', b'["a","b","c"]', b'[1,"b"]', b'["a",true]', b'{"a":1}', b"null", b'["a",null]'],
)
def test_a_cursor_of_another_shape_is_invalid(values: bytes):
    cursor = base64.urlsafe_b64encode(values).decode().rstrip("=")

    with pytest.raises(Invalid):
        decode_cursor(cursor, (str, int))


def test_a_cursor_beyond_what_a_database_counts_is_invalid():
    for number in (1 << 63, -(1 << 63), 1 << 400):
        with pytest.raises(Invalid):
            decode_cursor(encode_cursor([number]), (int,))


def test_a_cursor_has_a_length():
    fits = encode_cursor(["x" * 700])
    beyond = encode_cursor(["x" * CURSOR_MAX])

    assert decode_cursor(fits, (str,)) == ["x" * 700]
    with pytest.raises(Invalid):
        decode_cursor(beyond, (str,))


def test_deep_nesting_is_invalid_and_not_a_crash():
    cursor = base64.urlsafe_b64encode(b"[" * 700).decode().rstrip("=")

    with pytest.raises(Invalid):
        decode_cursor(cursor, (str,))
