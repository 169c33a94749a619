from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from vsp.media.core.timeline import PTS_MODULUS, STEP_90K, Timeline

MICROS_40_MS = 40_000


def placed(timeline: Timeline, pts: list[int | None], rtp_step: int = 3600) -> list[int]:
    """DTS of pictures 40 ms apart on the wall."""
    return [
        timeline.place(value, None, i * rtp_step, 1_000_000 + i * MICROS_40_MS)[1]
        for i, value in enumerate(pts)
    ]


def steps(times: list[int]) -> list[int]:
    return [after - before for before, after in pairwise(times)]


def test_good_times_are_kept():
    assert placed(Timeline(), [90_000, 93_600, 97_250]) == [90_000, 93_600, 97_250]


def test_pts_goes_on_over_its_33_bits():
    out = placed(Timeline(), [PTS_MODULUS - 3600, 0, 3600])

    assert out == [PTS_MODULUS - 3600, PTS_MODULUS, PTS_MODULUS + 3600]


def test_b_frames_keep_the_distance_of_pts_and_dts():
    timeline = Timeline()

    out = [
        timeline.place(pts, dts, 0)
        for pts, dts in [(7200, 0), (18_000, 3600), (10_800, 7200), (14_400, 10_800)]
    ]

    assert out == [(7200, 0), (18_000, 3600), (10_800, 7200), (14_400, 10_800)]


def test_a_dts_just_before_the_wrap_and_its_pts_after_it_stay_together():
    out = Timeline().place(1800, PTS_MODULUS - 1800, 0)

    assert out == (PTS_MODULUS + 1800, PTS_MODULUS - 1800)


def test_a_missing_pts_is_bridged_by_the_rtp_timestamp():
    out = placed(Timeline(), [90_000, None, 99_000], rtp_step=4500)

    assert out == [90_000, 94_500, 99_000]


def test_a_stream_without_any_pts_runs_on_the_rtp_timestamp():
    out = placed(Timeline(), [None] * 5, rtp_step=4500)

    assert steps(out) == [4500] * 4


def test_a_pts_that_stands_for_a_moment_does_not_shift_what_follows():
    out = placed(Timeline(), [0, 3600, 3600, 10_800])

    assert out == [0, 3600, 7200, 10_800]


def test_a_pts_that_always_stands_is_replaced():
    assert steps(placed(Timeline(), [0] * 40)) == [3600] * 39


def test_a_small_step_back_is_bridged():
    timeline = Timeline()

    out = placed(timeline, [90_000, 93_600, 92_000, 100_800])

    assert out == [90_000, 93_600, 97_200, 100_800]
    assert timeline.repairs == 1


def test_a_restarted_clock_is_followed_with_an_offset():
    out = placed(Timeline(), [9_000_000, 9_003_600, 0, 3600, 7200])

    assert steps(out) == [3600] * 4


def test_a_jump_forward_that_the_wall_confirms_is_a_real_gap():
    timeline = Timeline()
    timeline.place(0, None, 0, 1_000_000)

    _, dts = timeline.place(90_000 * 30, None, 0, 1_000_000 + 30_000_000)

    assert dts == 90_000 * 30


def test_a_jump_forward_that_the_wall_denies_is_a_restarted_clock():
    out = placed(Timeline(), [0, 3600, 90_000 * 300, 90_000 * 300 + 3600])

    assert steps(out) == [3600] * 3


def test_fast_playback_is_not_taken_for_a_fault():
    timeline = Timeline()

    out = [timeline.place(i * 3600, None, i * 3600, 1 + i * 2000)[1] for i in range(200)]

    assert steps(out) == [3600] * 199
    assert timeline.repairs == 0


def test_rtp_timestamps_in_milliseconds_are_recognised():
    out = placed(Timeline(), [None] * 200, rtp_step=40)

    assert steps(out)[100:] == [3600] * 99


def test_rtp_timestamps_at_8_khz_are_recognised():
    out = placed(Timeline(), [None] * 200, rtp_step=320)

    assert steps(out)[100:] == [3600] * 99


def test_a_gap_without_pts_takes_the_time_of_the_wall_when_rtp_says_nothing():
    timeline = Timeline()
    timeline.place(None, None, 0, 1_000_000)

    _, dts = timeline.place(None, None, 0, 16_000_000)

    assert dts == 15 * 90_000


def test_sound_prefers_its_own_length_to_a_jumping_clock():
    timeline = Timeline()
    times = [timeline.place(pts, None, 0, 0, 3600)[1] for pts in (0, 3600, 90_000_000, 5, 10_000)]

    assert steps(times) == [3600, 3600, 3600, 9995]


def test_after_a_restart_sound_takes_the_offset_of_the_picture():
    pictures = Timeline()
    sound = Timeline(master=pictures)
    for pts in (9_000_000, 9_003_600):
        pictures.place(pts, None, 0)
        sound.place(pts + 700, None, 0, 0, 3600)

    picture = pictures.place(0, None, 7200)[1]
    heard = sound.place(700, None, 0, 0, 3600)[1]

    assert heard - picture == 700


def test_sound_with_a_clock_of_its_own_begins_where_the_picture_is():
    pictures, sound = Timeline(), Timeline()
    assert pictures.at(5_000_000) is None
    pictures.place(900_000, None, 0, 5_000_000)

    begin = pictures.at(5_020_000)
    assert begin is not None
    sound.align(begin, 77)
    out = [sound.place(77 + i * 1800, None, 0, 0, 1800)[1] for i in range(3)]

    assert out == [901_800, 903_600, 905_400]


def test_reordered_pictures_without_dts_get_one():
    shown = [0, 10_800, 3600, 7200, 21_600, 14_400, 18_000]
    timeline = Timeline()
    timeline.reorder = 2

    out = [timeline.place(90_000 + pts, None, 0) for pts in shown]

    decode = [dts for _, dts in out]
    assert [pts - 90_000 for pts, _ in out] == shown
    assert decode == sorted(set(decode))


def test_the_first_pictures_without_dts_do_not_push_the_others_away():
    """GStreamer's mpegpsmux leaves out the DTS of the first two."""
    sent = [(0, None), (10_800, None), (3600, 0), (7200, 3600), (18_000, 7200)]
    timeline = Timeline()

    out = [timeline.place(pts, dts, 0) for pts, dts in sent]

    assert [pts for pts, _ in out] == [0, 10_800, 3600, 7200, 18_000]
    assert steps([dts for _, dts in out]) == [10_800, 1, 1, 1]


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(0, PTS_MODULUS - 1), st.integers(0, 20_000)),
            st.one_of(st.none(), st.integers(0, PTS_MODULUS - 1)),
            st.integers(0, 2**32 - 1),
            st.integers(0, 10**9),
            st.sampled_from([0, 0, 3600]),
        ),
        max_size=60,
    ),
    st.integers(0, 4),
)
def test_any_times_come_out_strictly_increasing(
    values: list[tuple[int | None, int | None, int, int, int]], reorder: int
):
    timeline = Timeline()
    timeline.reorder = reorder

    out = [timeline.place(*value)[1] for value in values]

    assert all(step > 0 for step in steps(out))


def test_without_any_knowledge_the_step_is_that_of_25_pictures_a_second():
    timeline = Timeline()

    out = [timeline.place(None, None, 0)[1] for _ in range(3)]

    assert steps(out) == [STEP_90K, STEP_90K]
