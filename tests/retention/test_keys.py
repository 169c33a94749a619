"""What a key says."""

import pytest

from vsp.media.recorder import object_key
from vsp.model.ids import ChannelId, UtcMicros
from vsp.retention.keys import NOTHING, Named, channel_of, parse, start_of

START = UtcMicros(1_700_000_000_000_000)


def test_a_key_says_its_channel_and_its_start():
    key = object_key(ChannelId("018f-a_B"), START, UtcMicros(1), 12)

    assert parse(key) == Named(ChannelId("018f-a_B"), START, UtcMicros(1), 12)
    assert (channel_of(key), start_of(key)) == ("018f-a_B", START)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "v1/",
        "v1/doctor/1.txt",
        "v1/c1/2023/11/14/x-1-0.mp4",
        "v1/c1/2023/11/14/1-1-0.mp4.tmp",
        "v2/c1/2023/11/14/1-1-0.mp4",
        "v1/门/2023/11/14/1-1-0.mp4",
        "v1/c1/2023/11/14/١-1-0.mp4",
    ],
)
def test_a_key_that_is_not_ours_says_nothing_and_is_old(key: str):
    assert parse(key) == NOTHING
    assert (channel_of(key), start_of(key)) == ("", 0)
