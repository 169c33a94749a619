from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vsp.media.core.jitter import (
    DROPOUT_MAX,
    PAYLOAD_TYPES_MAX,
    WINDOW_PACKETS,
    ReorderBuffer,
    Sorter,
)
from vsp.media.core.rtp import Burst, Packet


def burst(seq: int, count: int = 1, ts: int = 0, pt: int = 96, marker: bool = False) -> Burst:
    parts = [memoryview(((seq + i) & 0xFFFF).to_bytes(2, "big")) for i in range(count)]
    return Burst(seq & 0xFFFF, ts, 7, pt, marker, parts)


def numbers(packets: list[Packet]) -> list[int]:
    data = b"".join(packet.payload for packet in packets)
    return [data[i] << 8 | data[i + 1] for i in range(0, len(data), 2)]


def test_packets_in_order_pass_straight_through():
    buffer = ReorderBuffer()

    out = buffer.push_batch([burst(10, 5), burst(15, 3)], now=0.0)

    assert [packet.count for packet in out] == [5, 3]
    assert numbers(out) == list(range(10, 18))
    assert (buffer.lost, buffer.next_deadline()) == (0, None)


def test_the_payload_is_owned_after_the_call():
    received = bytearray(b"before")
    buffer = ReorderBuffer()
    (packet,) = buffer.push(Burst(1, 0, 7, 96, True, [memoryview(received)]), 0.0)

    received[:] = b"after!"

    assert packet.payload == b"before"


def test_two_swapped_packets_are_put_right():
    buffer = ReorderBuffer()
    buffer.push(burst(1), 0.0)

    assert buffer.push(burst(3), 0.0) == []
    out = buffer.push(burst(2), 0.01)

    assert numbers(out) == [2, 3]
    assert (buffer.lost, buffer.reordered) == (0, 1)


def test_what_is_held_survives_the_reuse_of_the_receive_buffer():
    received = bytearray(b"three")
    buffer = ReorderBuffer()
    buffer.push(burst(1), 0.0)
    buffer.push(Burst(3, 0, 7, 96, False, [memoryview(received)]), 0.0)
    received[:] = b"XXXXX"

    out = buffer.push(burst(2), 0.0)

    assert out[1].payload == b"three"


def test_a_duplicate_is_dropped_and_counted():
    buffer = ReorderBuffer()

    out = buffer.push_batch([burst(1, 3), burst(2), burst(4), burst(1, 3)], 0.0)

    assert numbers(out) == [1, 2, 3, 4]
    assert buffer.duplicates == 4


def test_a_burst_that_is_half_old_gives_its_new_half():
    buffer = ReorderBuffer()

    out = buffer.push_batch([burst(1, 3), burst(2, 4)], 0.0)

    assert numbers(out) == [1, 2, 3, 4, 5]
    assert buffer.duplicates == 2


def test_duplicates_of_held_packets_come_out_once():
    buffer = ReorderBuffer()
    buffer.push(burst(1), 0.0)

    out = buffer.push_batch([burst(3), burst(3, 2), burst(3), burst(4), burst(2)], 0.0)

    assert numbers(out) == [2, 3, 4]


def test_a_hole_is_given_up_when_the_window_is_full():
    buffer = ReorderBuffer(window=8)
    buffer.push(burst(0), 0.0)

    before = buffer.push_batch([burst(i) for i in range(2, 9)], 0.0)
    after = buffer.push(burst(9), 0.0)

    assert before == []
    assert numbers(after) == list(range(2, 10))
    assert [packet.lost for packet in after] == [1] + [0] * 7
    assert buffer.lost == 1


def test_a_hole_is_given_up_when_it_is_old():
    buffer = ReorderBuffer(wait_s=0.1)
    buffer.push(burst(0), 5.0)
    buffer.push(burst(4), 5.0)
    assert buffer.next_deadline() == 5.1

    assert buffer.advance(5.09) == []
    out = buffer.advance(5.1)

    assert (numbers(out), out[0].lost) == ([4], 3)
    assert buffer.next_deadline() is None


def test_a_packet_later_than_its_hole_is_no_duplicate():
    buffer = ReorderBuffer()
    buffer.push(burst(0), 0.0)
    buffer.push(burst(2), 0.0)
    buffer.advance(1.0)

    assert buffer.push(burst(1), 1.1) == []

    assert (buffer.lost, buffer.reordered, buffer.duplicates) == (1, 1, 0)


def test_the_sequence_number_wraps():
    buffer = ReorderBuffer()

    out = buffer.push_batch([burst(65534), burst(0), burst(65535), burst(1)], 0.0)

    assert numbers(out) == [65534, 65535, 0, 1]
    assert buffer.lost == 0


def test_a_restarted_sender_is_followed_after_two_packets():
    buffer = ReorderBuffer()
    buffer.push(burst(100), 0.0)

    assert buffer.push(burst(30_000), 0.0) == []
    out = buffer.push(burst(30_001), 0.0)

    assert numbers(out) == [30_000, 30_001]
    assert out[0].lost == 1
    assert (buffer.restarts, buffer.lost) == (1, 0)


def test_a_single_stray_packet_does_not_disturb_the_sequence():
    buffer = ReorderBuffer()

    out = buffer.push_batch([burst(100), burst(40_000), burst(101)], 0.0)

    assert numbers(out) == [100, 101]
    assert buffer.restarts == 0


def test_the_largest_step_that_is_loss_and_the_smallest_that_is_a_restart():
    loss, restart = ReorderBuffer(), ReorderBuffer()
    loss.push(burst(0), 0.0)
    restart.push(burst(0), 0.0)

    loss.push(burst(1 + DROPOUT_MAX), 0.0)
    restart.push(burst(1 + DROPOUT_MAX + 1, 2), 0.0)

    assert (loss.lost, loss.restarts) == (DROPOUT_MAX, 0)
    assert (restart.lost, restart.restarts) == (0, 1)


def test_payload_types_that_are_not_joined_keep_their_packets():
    buffer = ReorderBuffer(joined=())

    out = buffer.push(burst(1, 3, marker=True), 0.0)

    assert [(p.seq, p.count, p.marker) for p in out] == [(1, 1, False), (2, 1, False), (3, 1, True)]


def test_flush_gives_what_is_held_with_its_holes():
    buffer = ReorderBuffer()
    buffer.push_batch([burst(0), burst(2), burst(5)], 0.0)

    out = buffer.flush()

    assert [(packet.seq, packet.lost) for packet in out] == [(2, 1), (5, 2)]


@given(st.permutations(range(20)), st.integers(0, 65535))
def test_any_order_within_the_window_comes_out_sorted(order: list[int], start: int):
    buffer = ReorderBuffer()
    out = buffer.push(burst(start - 1), 0.0)

    for i in order:
        out += buffer.push(burst(start + i), 0.0)

    assert numbers(out) == [(start - 1 + i) & 0xFFFF for i in range(21)]
    assert (buffer.lost, buffer.duplicates) == (0, 0)


@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(1, 20)), max_size=60))
def test_any_sequence_numbers_are_bounded_and_end_empty(pieces: list[tuple[int, int]]):
    buffer = ReorderBuffer()
    given_packets = sum(count for _, count in pieces)

    out = buffer.push_batch([burst(seq, count) for seq, count in pieces], 0.0)
    held = buffer.held_packets
    out += buffer.flush()

    assert held <= WINDOW_PACKETS + 20
    assert sum(packet.count for packet in out) <= given_packets
    assert buffer.next_deadline() is None


def test_sound_with_numbers_of_its_own_is_no_loss_for_the_picture():
    sorter = Sorter()

    out = sorter.push_batch([burst(10), burst(9000, pt=8), burst(11), burst(9001, pt=8)], 0.0)

    assert [(packet.pt, packet.seq) for packet in out] == [
        (96, 10),
        (8, 9000),
        (96, 11),
        (8, 9001),
    ]
    assert sorter.lost == 0


def test_sound_that_shares_the_numbers_is_no_loss_either():
    sorter = Sorter()

    out = sorter.push_batch([burst(10), burst(11, pt=8), burst(12), burst(13, pt=8)], 0.0)

    assert [packet.lost for packet in out] == [0, 0, 0, 0]
    assert sorter.next_deadline() is None


def test_a_loss_in_a_shared_space_is_told_to_both_types():
    sorter = Sorter(wait_s=0.1)
    sorter.push_batch([burst(10), burst(11, pt=8)], 0.0)

    out = sorter.push_batch([burst(13, pt=8), burst(14)], 0.0) + sorter.advance(1.0)

    assert [(packet.pt, packet.lost) for packet in out] == [(8, 1), (96, 1)]


def test_more_payload_types_than_make_sense_are_ignored():
    sorter = Sorter()

    for pt in range(PAYLOAD_TYPES_MAX + 2):
        sorter.push(burst(pt * 5000, pt=pt), 0.0)

    assert sorter.ignored == 2


def test_the_sorter_counts_for_all_its_spaces():
    sorter = Sorter()
    sorter.push_batch([burst(1), burst(1), burst(9000, pt=8), burst(9003, pt=8)], 0.0)

    out = sorter.flush()

    assert [packet.lost for packet in out] == [2]
    assert (sorter.lost, sorter.duplicates, sorter.reordered, sorter.restarts) == (2, 1, 0, 0)
