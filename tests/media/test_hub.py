"""Fan-out: made once, the same for all, bounded for each."""

from __future__ import annotations

from dataclasses import replace

from tests.media.rig import GOP, STEP_90K, access_units, playable
from vsp.media import messages
from vsp.media.core.au import AccessUnit
from vsp.media.core.fmp4 import Track, video_track
from vsp.media.core.nal import ParameterSets
from vsp.media.hub import (
    MESSAGES_MAX,
    QUEUE_AGE_MAX_S,
    Consumer,
    Hub,
    InitPiece,
    Item,
    Piece,
)
from vsp.model.ids import UtcMicros

START_US = 1_795_305_600_000_000
BYTES_MAX = 1 << 20


def track_of(units: list[AccessUnit]) -> Track:
    sets = ParameterSets()
    sets.update(units[0])
    return video_track(sets)


def push(hub: Hub, units: list[AccessUnit], now: float = 0.0) -> None:
    track = track_of(access_units(1, START_US))
    for au in units:
        hub.push(au, track, False, now)


async def queued(consumer: Consumer) -> list[Item]:
    """Everything that waits, taken."""
    consumer.say({"type": "end"})
    items: list[Item] = []
    while (item := await consumer.take()) != {"type": "end"}:
        assert item is not None
        items.append(item)
    return items


def pieces(items: list[Item]) -> list[Piece]:
    return [item for item in items if isinstance(item, Piece)]


def kinds(items: list[Item]) -> list[str]:
    return [str(item["type"]) if isinstance(item, dict) else type(item).__name__ for item in items]


async def test_nothing_is_muxed_while_nobody_watches():
    hub = Hub(BYTES_MAX)
    push(hub, access_units(25, START_US))

    assert hub._fragmenter is None
    assert hub._pieces == []
    assert len(hub._gop) == 5


async def test_a_new_viewer_gets_init_clock_and_the_pictures_since_the_key():
    hub = Hub(BYTES_MAX)
    push(hub, access_units(25, START_US))
    consumer = Consumer(BYTES_MAX)
    hub.attach(consumer, 0.0)
    items = await queued(consumer)

    assert kinds(items) == ["InitPiece", "clock"] + ["Piece"] * 5
    assert [piece.media_90k for piece in pieces(items)] == [i * STEP_90K for i in range(20, 25)]
    init = items[0]
    assert isinstance(init, InitPiece)
    assert len(playable([init.data, *(piece.data for piece in pieces(items))])) == 5


async def test_every_viewer_gets_the_very_same_bytes():
    hub = Hub(BYTES_MAX)
    one, two = Consumer(BYTES_MAX), Consumer(BYTES_MAX)
    hub.attach(one, 0.0)
    push(hub, access_units(12, START_US))
    hub.attach(two, 0.0)
    push(hub, access_units(3, START_US, first=12))
    first, second = pieces(await queued(one)), pieces(await queued(two))

    assert all(a.data is b.data for a, b in zip(first[10:], second, strict=True))


async def test_a_viewer_before_the_first_picture_waits_for_a_key_picture():
    hub = Hub(BYTES_MAX)
    consumer = Consumer(BYTES_MAX)
    hub.attach(consumer, 0.0)
    push(hub, access_units(12, START_US, first=5))
    items = await queued(consumer)

    assert kinds(items)[:2] == ["InitPiece", "clock"]
    assert pieces(items)[0].key


async def test_other_parameter_sets_bring_a_new_init_segment_in_place():
    hub = Hub(BYTES_MAX)
    consumer = Consumer(BYTES_MAX)
    hub.attach(consumer, 0.0)
    units = access_units(20, START_US)
    push(hub, units[:10])
    hub.push(units[10], replace(track_of(units), width=320), True, 0.0)
    items = await queued(consumer)

    assert kinds(items) == ["InitPiece", "clock"] + ["Piece"] * 10 + ["InitPiece", "Piece"]
    second = items[12]
    assert isinstance(second, InitPiece)
    assert second.message["width"] == 320


async def test_damaged_pictures_are_not_shown_and_the_gap_is_told():
    hub = Hub(BYTES_MAX)
    consumer = Consumer(BYTES_MAX)
    hub.attach(consumer, 0.0)
    units = access_units(25, START_US)
    for au in units[7:10]:
        au.damaged = True
    push(hub, units)
    items = await queued(consumer)

    assert [piece.media_90k // STEP_90K for piece in pieces(items)] == [*range(7), *range(10, 25)]
    assert kinds(items)[2:11] == ["Piece"] * 7 + ["gap", "clock"]
    assert hub.held == 3


async def test_after_a_stop_only_a_key_picture_begins_anew():
    hub = Hub(BYTES_MAX)
    push(hub, access_units(5, START_US))
    hub.break_off()
    consumer = Consumer(BYTES_MAX)
    hub.attach(consumer, 0.0)
    push(hub, access_units(10, START_US + 60_000_000, first=5))
    items = await queued(consumer)

    assert [piece.media_90k // STEP_90K for piece in pieces(items)] == [*range(10, 15)]
    # The wall clock went on while media did not: the mapping is told anew.
    assert kinds(items).count("clock") == 2


async def test_a_gop_too_large_to_keep_is_not_kept_and_live_goes_on():
    hub = Hub(40_000)
    consumer, late = Consumer(BYTES_MAX), Consumer(BYTES_MAX)
    hub.attach(consumer, 0.0)
    push(hub, access_units(GOP, START_US))
    hub.attach(late, 0.0)

    assert len(pieces(await queued(consumer))) == GOP
    assert pieces(await queued(late)) == []


def piece(n: int, size: int = 1000) -> Piece:
    return Piece(bytes(size), n % GOP == 0, n * STEP_90K, UtcMicros(START_US + n * 40_000))


async def test_an_overflow_in_bytes_drops_up_to_the_next_key_picture():
    consumer = Consumer(5_000)
    for n in range(13):
        consumer.offer(piece(n), 0.0)
    items = await queued(consumer)

    # The sixth picture does not fit: 0 to 9 are gone, 10 is the next key picture.
    assert [p.media_90k // STEP_90K for p in pieces(items)] == [10, 11, 12]
    assert kinds(items)[:2] == ["gap", "clock"]
    assert consumer.dropped == 10


async def test_a_viewer_that_stays_stuck_is_told_of_one_gap():
    consumer = Consumer(5_000)
    for n in range(43):
        consumer.offer(piece(n), 0.0)
    items = await queued(consumer)

    assert [p.media_90k // STEP_90K for p in pieces(items)] == [40, 41, 42]
    assert kinds(items) == ["gap", "clock", "Piece", "Piece", "Piece"]
    assert items[0]["from"] == messages.rfc3339(UtcMicros(START_US))  # type: ignore[index]
    assert consumer.dropped == 40


async def test_an_overflow_in_age_drops_as_well():
    consumer = Consumer(BYTES_MAX)
    consumer.offer(piece(0), 0.0)
    consumer.offer(piece(1), QUEUE_AGE_MAX_S)
    consumer.offer(piece(2), QUEUE_AGE_MAX_S + 0.1)
    consumer.offer(piece(GOP), QUEUE_AGE_MAX_S + 0.2)
    items = await queued(consumer)

    assert [p.media_90k // STEP_90K for p in pieces(items)] == [GOP]
    assert consumer.dropped == 3


async def test_a_drop_keeps_texts_and_init_segments_in_order():
    consumer = Consumer(3_000)
    consumer.say({"type": "state"})
    consumer.start(InitPiece({"type": "init"}, b"init"))
    for n in range(11):
        consumer.offer(piece(n), 0.0)

    assert kinds(await queued(consumer)) == ["state", "InitPiece", "gap", "clock", "Piece"]


async def test_one_picture_larger_than_the_queue_still_passes():
    consumer = Consumer(1_000)
    consumer.offer(piece(0, size=5_000), 0.0)

    assert len(pieces(await queued(consumer))) == 1


async def test_a_viewer_that_takes_no_text_is_closed():
    consumer = Consumer(BYTES_MAX)
    for _ in range(MESSAGES_MAX + 1):
        consumer.say({"type": "stats"})

    assert consumer.closed


async def test_closing_drops_pictures_and_leaves_the_last_words():
    consumer = Consumer(BYTES_MAX)
    consumer.offer(piece(0), 0.0)
    consumer.close({"type": "error"})

    assert await consumer.take() == {"type": "error"}
    assert await consumer.take() is None


async def test_lag_is_the_age_of_what_was_sent_last():
    consumer = Consumer(BYTES_MAX)
    assert consumer.lag_ms(UtcMicros(START_US)) == 0
    consumer.offer(piece(0), 0.0)
    await consumer.take()

    assert consumer.lag_ms(UtcMicros(START_US + 70_000)) == 70
