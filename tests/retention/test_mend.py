"""What is mended, how, and what is left to people: nothing is ever deleted but empty uploads."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from tests.retention.rig import DATA, LENGTH_US, START_US, Rig, metadata, only, pieces, segment
from vsp.model.ids import UtcMicros
from vsp.model.recording import EndReason
from vsp.ports import PageRequest
from vsp.retention.check import Kind, Level
from vsp.retention.mend import DRIFT_US_MAX

HEAD, FIRST, SECOND, THIRD = pieces()


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def audited(rig: Rig) -> list[tuple[str, str, str]]:
    """(subject, result, detail) of every act that has ended, newest first."""
    page = await rig.store.audit.rows(PageRequest(100))
    assert {row.action for row in page.items} <= {"store_mend"}
    return [(row.subject, row.result, row.detail) for row in page.items if row.result]


# ---- rows ------------------------------------------------------------------------------------


async def test_an_orphan_gets_the_row_that_its_worker_would_have_written(rig: Rig):
    await rig.recorded(segment(1))
    await rig.only_object(segment(0))

    finding = only(await rig.check(mend=True))

    assert "补回行" in finding.mended
    assert await rig.row(segment(0).key) == segment(0)
    assert await audited(rig) == [("channel:c1", "ok", "the row was made from the object")]
    assert (await rig.check(Level.HASH)).is_clean


async def test_without_being_asked_nothing_is_mended(rig: Rig):
    await rig.only_object(segment(0))
    await rig.begun(segment(1))

    await rig.check(Level.HASH)

    assert await rig.row(segment(0).key) is None
    assert len(await rig.uploads()) == 1
    assert await audited(rig) == []


async def test_the_last_of_a_run_ends_when_its_pictures_do(rig: Rig):
    await rig.only_object(segment(0))

    await rig.check(mend=True)

    row = await rig.row(segment(0).key)
    assert row == segment(0, end_reason=EndReason.WORKER_LOST)


async def test_orphans_of_a_run_join_without_a_seam_whatever_the_camera_s_clock_did(rig: Rig):
    """Media time is 1.2 s; they began 1.1 s and 1.3 s apart."""
    starts = [START_US, START_US + 1_100_000, START_US + 2_400_000]
    rows = [
        segment(n, start_us=UtcMicros(start), key=segment(n).key.replace(
            str(segment(n).start_us), str(start)
        ))
        for n, start in enumerate(starts)
    ]  # fmt: skip
    for row in rows:
        await rig.only_object(row)

    state = await rig.check(mend=True)

    mended = [await rig.row(row.key) for row in rows]
    assert [row and (row.start_us, row.end_us, row.end_reason) for row in mended] == [
        (starts[0], starts[1], EndReason.ROLLED),
        (starts[1], starts[2], EndReason.ROLLED),
        (starts[2], starts[2] + LENGTH_US, EndReason.WORKER_LOST),
    ]
    assert state.mended == {Kind.ORPHAN: 3}
    assert (await rig.check()).is_clean


async def test_many_orphans_of_a_run_join_without_a_seam(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vsp.retention.check.STRAYS_AT_ONCE", 3)
    for n in range(10):
        await rig.only_object(segment(n))

    await rig.check(mend=True)

    rows = [await rig.row(segment(n).key) for n in range(10)]
    assert rows[:-1] == [segment(n) for n in range(9)]
    assert rig.asked == 4, "3, 3, 3 and 1"


async def test_a_row_of_another_run_is_touched_and_not_overlapped(rig: Rig):
    begins_us = UtcMicros(segment(0).end_us - 20_000)
    other = segment(5, run=begins_us, start_us=begins_us)
    await rig.recorded(other)
    await rig.only_object(segment(0))

    await rig.check(mend=True)

    row = await rig.row(segment(0).key)
    assert row is not None
    assert (row.end_us, row.end_reason) == (begins_us, EndReason.WORKER_LOST)


async def test_a_row_begins_where_the_one_before_it_ends(rig: Rig):
    ends_us = UtcMicros(segment(1).start_us + 20_000)
    await rig.recorded(segment(0, end_us=ends_us))
    await rig.only_object(segment(1))

    await rig.check(mend=True)

    row = await rig.row(segment(1).key)
    assert row is not None
    assert row.start_us == ends_us
    assert (await rig.check()).is_clean


@pytest.mark.parametrize(
    "other",
    [
        segment(9, start_us=START_US - 1, end_us=START_US + LENGTH_US),
        segment(9, start_us=START_US - 1, end_us=START_US + DRIFT_US_MAX),
        segment(9, start_us=START_US, end_us=START_US + LENGTH_US),
    ],
)
async def test_a_moment_that_is_recorded_already_is_not_given_a_second_row(rig: Rig, other):
    await rig.recorded(other)
    await rig.only_object(segment(0))

    finding = only(await rig.check(mend=True))

    assert (finding.kind, finding.mended) == (Kind.ORPHAN, "")
    assert "未修复" in finding.cause
    assert await rig.row(segment(0).key) is None
    assert await rig.objects.stat(segment(0).key)


async def test_an_object_that_is_not_what_was_said_of_it_is_left_to_people(rig: Rig):
    for n, changed in enumerate(({"n": "7"}, {"codecs": "hvc1"}, {"sha256": "00" * 32})):
        await rig.objects.put(segment(n).key, DATA, metadata(segment(n)) | changed)

    state = await rig.check(mend=True)

    assert state.mended == {}
    assert [finding.cause.count("metadata says") for finding in state.findings] == [1, 1, 1]
    assert "codecs" in state.findings[1].cause


async def test_an_object_is_checked_by_its_hash_where_it_has_one(rig: Rig):
    said = metadata(segment(0)) | {"sha256": sha256(DATA).hexdigest()}
    await rig.objects.put(segment(0).key, DATA, said)

    assert only(await rig.check(mend=True)).mended


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"hello, I am a text", HEAD, HEAD[:100]])
async def test_an_object_that_holds_no_picture_gets_no_row_and_stays(rig: Rig, data: bytes):
    await rig.only_object(segment(0), data)

    finding = only(await rig.check(mend=True))

    assert finding.mended == ""
    assert (await rig.objects.stat(segment(0).key)).size_bytes == len(data)


async def test_of_an_object_that_ends_within_a_box_the_row_says_what_is_whole(rig: Rig):
    data = HEAD + FIRST + SECOND + THIRD[:-10]
    await rig.only_object(segment(0), data)

    finding = only(await rig.check(mend=True))

    assert f"末尾 {len(THIRD) - 10} 字节" in finding.mended
    row = await rig.row(segment(0).key)
    assert row is not None
    assert row.fragments == segment(0).fragments[:2]
    assert row.frames == 20
    assert (await rig.check(Level.HASH)).is_clean


async def test_mending_twice_is_mending_once(rig: Rig):
    await rig.only_object(segment(0))
    await rig.check(mend=True)

    assert (await rig.check(mend=True)).is_clean


async def test_a_lost_object_is_reported_and_its_row_stays(rig: Rig):
    await rig.store.segments.commit([segment(0)])

    finding = only(await rig.check(mend=True))

    assert (finding.kind, finding.mended) == (Kind.LOST, "")
    assert await rig.row(segment(0).key) == segment(0)


# ---- uploads ---------------------------------------------------------------------------------


async def test_an_upload_left_becomes_an_object_with_its_row(rig: Rig):
    await rig.begun(segment(0), HEAD + FIRST, SECOND + THIRD)
    await rig.recorded(segment(1))

    finding = only(await rig.check(mend=True))

    assert (finding.kind, "已完成上传" in finding.mended) == (Kind.ABANDONED, True)
    assert await rig.uploads() == []
    assert await rig.objects.read(segment(0).key, 0, len(DATA)) == DATA
    assert await rig.row(segment(0).key) == segment(0)
    assert (await rig.check(Level.HASH)).is_clean


async def test_an_upload_of_half_a_segment_is_half_a_segment(rig: Rig):
    await rig.begun(segment(0), HEAD + FIRST)

    await rig.check(mend=True)

    row = await rig.row(segment(0).key)
    assert row is not None
    assert (row.size_bytes, row.frames, row.end_us - row.start_us) == (
        len(HEAD + FIRST), 10, LENGTH_US // 3,
    )  # fmt: skip


async def test_parts_that_were_cut_within_a_fragment_give_what_is_whole(rig: Rig):
    half = len(DATA) // 2
    assert half > len(HEAD + FIRST)
    await rig.begun(segment(0), DATA[:half])

    await rig.check(mend=True)

    row = await rig.row(segment(0).key)
    assert row is not None
    assert row.fragments == segment(0).fragments[:1]
    assert (await rig.check(Level.HASH)).is_clean


async def test_an_upload_of_which_nothing_arrived_is_dropped(rig: Rig):
    await rig.begun(segment(0))

    finding = only(await rig.check(mend=True))

    assert "已放弃上传" in finding.mended
    assert await rig.uploads() == []
    [(subject, result, detail)] = await audited(rig)
    assert (subject, result) == ("channel:c1", "ok")
    assert "nothing of it has arrived" in detail


@pytest.mark.parametrize("row", [True, False])
async def test_an_upload_whose_object_is_there_is_dropped(rig: Rig, row: bool):
    await rig.only_object(segment(0))
    if row:
        await rig.store.segments.commit([segment(0)])
    await rig.begun(segment(0), DATA[:1_000])

    await rig.check(mend=True)

    assert await rig.uploads() == []
    assert await rig.objects.read(segment(0).key, 0, len(DATA)) == DATA
    assert await rig.row(segment(0).key) is not None


async def test_an_upload_that_holds_more_than_its_object_is_left_to_people(rig: Rig):
    await rig.only_object(segment(0), HEAD + FIRST)
    upload_id = await rig.begun(segment(0), HEAD + FIRST, SECOND)

    state = await rig.check(mend=True)

    assert state.counts == {Kind.ORPHAN: 1, Kind.ABANDONED: 1}
    assert state.mended == {Kind.ORPHAN: 1}
    assert await rig.uploads() == [upload_id]


async def test_of_several_uploads_of_a_key_the_longest_becomes_the_object(rig: Rig):
    await rig.begun(segment(0), HEAD + FIRST)
    await rig.begun(segment(0), HEAD + FIRST, SECOND, THIRD)
    await rig.begun(segment(0))

    state = await rig.check(mend=True)

    assert state.mended == {Kind.ABANDONED: 3}
    assert await rig.uploads() == []
    assert (await rig.objects.stat(segment(0).key)).size_bytes == len(DATA)


async def test_an_upload_brings_a_lost_object_back_when_it_is_as_long_as_the_row_says(rig: Rig):
    await rig.store.segments.commit([segment(0)])
    await rig.begun(segment(0), DATA)

    state = await rig.check(mend=True)

    assert state.counts == {Kind.LOST: 1, Kind.ABANDONED: 1}
    assert (await rig.check(Level.HASH)).is_clean


async def test_an_upload_that_its_row_contradicts_is_left_to_people(rig: Rig):
    await rig.store.segments.commit([segment(0)])
    upload_id = await rig.begun(segment(0), HEAD + FIRST)

    state = await rig.check(mend=True)

    assert state.mended == {}
    assert await rig.uploads() == [upload_id]


async def test_an_upload_of_a_moment_that_is_recorded_already_is_left_to_people(rig: Rig):
    await rig.recorded(segment(9, start_us=START_US - 1, end_us=START_US + DRIFT_US_MAX))
    upload_id = await rig.begun(segment(0), DATA)

    state = await rig.check(mend=True)

    assert state.mended == {}
    assert "overlap" in state.findings[0].cause
    assert await rig.uploads() == [upload_id]


async def test_parts_without_a_picture_become_an_object_that_is_reported_ever_after(rig: Rig):
    """They cannot be looked at before, and what might be something is not thrown away."""
    await rig.begun(segment(0), HEAD[:50])

    first, second = await rig.check(mend=True), await rig.check(mend=True)

    assert (only(first).kind, only(first).mended) == (Kind.ABANDONED, "")
    assert (only(second).kind, only(second).mended) == (Kind.ORPHAN, "")


async def test_an_act_that_cannot_be_audited_is_not_done(rig: Rig):
    class Refused(Exception):
        pass

    def refuse(*_: object) -> None:
        raise Refused

    await rig.only_object(segment(0))
    sources = replace(rig.sources(), acting=refuse)  # type: ignore[arg-type]
    rig.sources = lambda: sources  # type: ignore[method-assign]

    with pytest.raises(Refused):
        await rig.check(mend=True)

    assert await rig.row(segment(0).key) is None
