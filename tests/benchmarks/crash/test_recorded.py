import hashlib
import json
import sqlite3
from pathlib import Path

from benchmarks.crash.recorded import (
    Hole,
    Order,
    Picture,
    Row,
    holes,
    order,
    orphans,
    read_recorded,
    read_rows,
    read_sent,
    stamps_in,
)
from simulators.nal import Stamp, stamp_sei
from vsp.model.stream import VideoCodec

CHANNEL = "34020000001320000001"
KEY = "v1/c1/2026/01/01/1000-1000-0.mp4"


def picture(number: int, *, key: bool = False, ssrc: int = 1) -> Picture:
    """A picture each 40 ms, on its way for 2 ms."""
    at_us = number * 40_000
    return Picture(at_us, at_us + 2_000, key, 100, frozenset({ssrc}))


def stamped(*captures_us: int) -> bytes:
    return b"".join(
        b"\0\0\0\x20mdat" + stamp_sei(VideoCodec.H264, Stamp(at_us, 7)) + b"\x65slices"
        for at_us in captures_us
    )


def row(key: str, data: bytes, frames: int) -> Row:
    digest = hashlib.sha256(data).hexdigest()
    return Row(key, CHANNEL, 1000, 2000, len(data), digest, frames, "rolled")


# ---- what was sent ---------------------------------------------------------------------------


def test_a_picture_that_two_dialogs_carried_is_one_picture(tmp_path: Path):
    log = tmp_path / "sent.jsonl"
    common = {"channel": CHANNEL, "frame": 1, "capture_us": 40, "key": True, "size_bytes": 9}
    lines = [json.dumps({**common, "sent_us": at, "ssrc": ssrc}) for at, ssrc in ((52, 1), (51, 2))]
    log.write_text("\n".join(lines) + "\n" + lines[0][:30])

    assert read_sent(log) == {CHANNEL: [Picture(40, 51, True, 9, frozenset({1, 2}))]}


# ---- what is recorded ------------------------------------------------------------------------


def test_stamps_are_found_in_order_whatever_stands_between_them():
    # 0x0100_0000_0000_01 holds zeros that emulation prevention takes apart.
    captures = [1_795_939_803_003_050, 0x01_00_00_00_00_00_01, 1_795_939_803_043_050]

    assert stamps_in(b"ftyp" + stamped(*captures) + b"free") == captures


def test_an_object_is_held_against_its_row(tmp_path: Path):
    data = stamped(40, 80)
    file = tmp_path / KEY
    file.parent.mkdir(parents=True)
    file.write_bytes(data)

    recorded = read_recorded([row(KEY, data, 2)], tmp_path)
    assert recorded.channels[CHANNEL] == recorded.stamps[KEY] == [40, 80]
    assert recorded.altered == recorded.miscounted == []

    assert read_recorded([row(KEY, data, 3)], tmp_path).miscounted == [KEY]
    assert read_recorded([row(KEY, data + b"x", 2)], tmp_path).altered == [KEY]
    assert read_recorded([row("v1/none.mp4", data, 2)], tmp_path).digests == {}


def test_what_belongs_to_no_row_is_an_orphan(tmp_path: Path):
    folder = (tmp_path / KEY).parent
    folder.mkdir(parents=True)
    for upload in ("u1", "u2"):
        (tmp_path / ".uploads" / upload).mkdir(parents=True)
    (tmp_path / ".uploads" / "u1" / "head.json").write_text("{}")
    for name in ("1000-1000-0.mp4", ".1000-1000-0.mp4.meta", "2000-1000-1.mp4"):
        (folder / name).write_bytes(b"x")

    found = orphans([row(KEY, b"x", 1)], tmp_path)

    assert sorted(found) == [".uploads/u1", KEY.replace("1000-1000-0", "2000-1000-1")]


def test_rows_are_read_beside_the_platform(tmp_path: Path):
    database = sqlite3.connect(tmp_path / "vsp.sqlite")
    database.executescript(
        "create table channels (id text, gb_id text);"
        "create table segments (key text, channel_id text, start_us, end_us, size_bytes, sha256,"
        " frames, end_reason);"
        f"insert into channels values ('c1', '{CHANNEL}');"
        f"insert into segments values ('{KEY}', 'c1', 1000, 2000, 9, 'ab', 2, 'rolled');"
    )

    assert read_rows(tmp_path / "vsp.sqlite") == [
        Row(KEY, CHANNEL, 1000, 2000, 9, "ab", 2, "rolled")
    ]


# ---- the comparison --------------------------------------------------------------------------


def test_a_hole_lies_between_recorded_pictures():
    sent = [picture(number) for number in range(6)]

    [hole] = holes(CHANNEL, sent, [40_000, 160_000])

    assert hole == Hole(CHANNEL, (sent[2], sent[3]), before_us=42_000, until_us=160_000)
    assert holes(CHANNEL, sent, [p.capture_us for p in sent]) == []
    assert holes(CHANNEL, sent, []) == []


def test_pictures_that_came_twice_out_of_order_or_from_nowhere_are_counted():
    sent = [picture(number) for number in range(4)]

    assert order(sent, [0, 40_000, 80_000]) == Order(0, 0, 0)
    assert order(sent, [0, 40_000, 40_000]) == Order(doubled=1, disordered=0, unknown=0)
    assert order(sent, [40_000, 0, 80_000]) == Order(doubled=0, disordered=1, unknown=0)
    assert order(sent, [0, 40_001]) == Order(doubled=0, disordered=0, unknown=1)
