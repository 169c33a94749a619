import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsp.errors import Invalid
from vsp.store.timeline import (
    FIND_MAX,
    FRAGMENTS_MAX,
    pack_fragments,
    rows_answered,
    unpack_fragments,
)

U32 = st.integers(0, (1 << 32) - 1)


@given(st.lists(st.tuples(U32, U32, U32), max_size=20))
def test_fragments_come_back_as_they_were(fragments: list[tuple[int, int, int]]):
    packed = pack_fragments(fragments)

    assert len(packed) == 12 * len(fragments)
    assert unpack_fragments(packed) == tuple(fragments)


@pytest.mark.parametrize("wrong", [-1, 1 << 32])
def test_what_32_bits_do_not_hold_is_refused(wrong: int):
    with pytest.raises(Invalid):
        pack_fragments([(0, 0, 0), (0, wrong, 0)])


def test_a_segment_has_a_bounded_number_of_fragments():
    assert pack_fragments([(0, 0, 0)] * FRAGMENTS_MAX)
    with pytest.raises(Invalid):
        pack_fragments([(0, 0, 0)] * (FRAGMENTS_MAX + 1))


@pytest.mark.parametrize(
    ("limit", "rows"), [(-1, 0), (0, 0), (1, 1), (FIND_MAX, FIND_MAX), (FIND_MAX + 1, FIND_MAX)]
)
def test_an_answer_holds_a_bounded_number_of_rows(limit: int, rows: int):
    assert rows_answered(limit) == rows
