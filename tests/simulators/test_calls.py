import re

import pytest

from simulators.camera import camera_spec
from simulators.faults import Faults, SsrcFault
from simulators.line import CloseMedia, OpenMedia, StartMedia
from simulators.nvr import nvr_spec
from tests.simulators.little import CAMERA, NVR, PASSWORD, LittlePlatform, World, offer
from vsp.model.device import MediaTransport

FIRST, SECOND = "34020000001320000101", "34020000001320000102"


def nvr(platform: LittlePlatform | None = None, max_streams: int = 0, **faults) -> World:
    spec = nvr_spec(NVR, PASSWORD, max_streams=max_streams, faults=Faults(**faults))
    pair = World(spec, platform or LittlePlatform()).start()
    pair.run(1)
    return pair


def invited(pair: World, channel: str = FIRST, wait_s: float = 0.1, **more):
    call = pair.platform.invite(channel, pair.now, **more)
    pair.run(pair.now + wait_s)
    return call


def y_of(call) -> str:
    found = re.search(rb"^y=(.*?)\r\n", call.answer.body, re.M)
    return found[1].decode() if found else ""


def test_a_call_is_answered_and_starts_with_the_ack():
    pair = nvr()

    call = invited(pair)

    assert call.answer.status == 200
    assert y_of(call) == "0200000001"
    assert pair.of(OpenMedia)[0].target.port == 30000
    assert pair.of(StartMedia) == [StartMedia(call.dialog.call_id, FIRST, 200000001)]
    assert 100 in [response.status for response in pair.platform.responses]


def test_the_answer_names_its_own_contact_and_kind():
    call = invited(nvr())

    assert call.answer.content_type == "application/sdp"
    assert str(call.answer.contact.uri) == f"sip:{NVR}@127.0.0.1:40000"
    assert b"m=video 15060 RTP/AVP 96\r\n" in call.answer.body


@pytest.mark.parametrize(
    ("setup", "transport", "answer"),
    [
        ("passive", MediaTransport.TCP_PASSIVE, b"a=setup:active"),
        ("active", MediaTransport.TCP_ACTIVE, b"a=setup:passive"),
    ],
)
def test_over_tcp_the_answer_is_the_complement(
    setup: str, transport: MediaTransport, answer: bytes
):
    pair = nvr()

    call = invited(pair, sdp=offer(30002, setup=setup))

    assert pair.of(OpenMedia)[0].target.transport is transport
    assert answer in call.answer.body


def test_without_ack_the_200_is_repeated_and_the_call_ended_after_32_s():
    pair = nvr(LittlePlatform(acknowledge=False))

    call = invited(pair, wait_s=40)

    start = next(when for when, data in pair.device_sent if b"200 OK" in data and b"INVITE" in data)
    sent = [
        w - start for w, d in pair.device_sent if d.startswith(b"SIP/2.0 200") and b"INVITE" in d
    ]
    assert sent[:5] == pytest.approx([0, 0.5, 1.5, 3.5, 7.5])
    assert max(sent) < 32.1
    assert pair.of(StartMedia) == []
    assert call.byes == 1
    assert len(pair.of(CloseMedia)) == 1


def test_a_late_ack_stops_the_repetition():
    pair = nvr(LittlePlatform(acknowledge=False))
    call = invited(pair, wait_s=2)

    pair.platform.ack(call, pair.now)
    pair.run(40)

    assert len(pair.of(StartMedia)) == 1
    assert call.answers == 3
    assert call.byes == 0


def test_a_bye_from_the_platform_ends_the_stream():
    pair = nvr()
    call = invited(pair)

    pair.platform.bye(call, pair.now)
    pair.run(pair.now + 1)

    assert pair.of(CloseMedia) == [CloseMedia(call.dialog.call_id)]
    assert pair.platform.responses[-1].status == 200
    assert pair.ua.streaming == 0


def test_a_bye_with_wrong_tags_ends_nothing():
    pair = nvr()
    call = invited(pair)
    call.dialog.remote_tag = "other"

    pair.platform.bye(call, pair.now)
    pair.run(pair.now + 1)

    assert pair.platform.responses[-1].status == 481
    assert pair.ua.streaming == 1


def test_stopping_sends_bye_to_every_call_and_then_unregisters():
    pair = nvr()
    calls = [invited(pair, FIRST), invited(pair, SECOND, seq="0200000002")]

    pair.ua.stop(pair.now)
    pair.run(pair.now + 1)

    assert [call.byes for call in calls] == [1, 1]
    assert not pair.platform.registered
    methods = [message.method for _, message in pair.platform.seen][-3:]
    assert methods == ["BYE", "REGISTER", "REGISTER"] or methods[-1] == "REGISTER"


def test_a_broken_media_connection_is_a_bye():
    pair = nvr()
    call = invited(pair, sdp=offer(30002, setup="passive"))

    pair.ua.media_lost(call.dialog.call_id, pair.now)
    pair.run(pair.now + 1)

    assert call.byes == 1


def test_cancel_before_the_answer_is_487():
    pair = nvr(slow_answer_s=5)
    call = invited(pair, wait_s=1)

    pair.platform.cancel(call, pair.now)
    pair.run(pair.now + 10)

    statuses = [response.status for response in pair.platform.responses]
    assert statuses.count(487) == 1
    assert call.answer is None
    assert len(pair.of(CloseMedia)) == 1


def test_cancel_after_the_answer_changes_nothing():
    pair = nvr(LittlePlatform(acknowledge=False))
    call = invited(pair, wait_s=0.1)
    invite = next(m for m in [pair.platform.responses[-1]] if m.status == 200)
    headers = [("From", f"<sip:34020000002000000001@3402000000>;tag={invite.from_.tag}")]
    headers.append(("To", f"<sip:{FIRST}@3402000000>"))

    pair.platform.agent.request(
        "CANCEL",
        f"sip:{FIRST}@127.0.0.1:40000",
        headers,
        b"",
        pair.platform.peer,
        pair.now,
        call_id="unheard-of",
    )
    pair.run(pair.now + 0.1)

    assert pair.platform.responses[-1].status == 481
    pair.platform.ack(call, pair.now)
    pair.run(pair.now + 1)
    assert len(pair.of(StartMedia)) == 1


def test_a_slow_answer_follows_its_100():
    pair = nvr(slow_answer_s=8)

    call = invited(pair, wait_s=7.9)
    assert call.answer is None
    assert pair.platform.responses[-1].status == 100

    pair.run(pair.now + 0.2)
    assert call.answer.status == 200


def test_several_calls_have_a_stream_each():
    pair = nvr()

    calls = [invited(pair, c, seq=f"020000000{i}") for i, c in enumerate((FIRST, SECOND, FIRST))]

    assert [call.answer.status for call in calls] == [200, 200, 200]
    assert pair.ua.streaming == 3


def test_beyond_the_cap_it_is_busy_with_a_warning():
    pair = nvr(max_streams=1)
    invited(pair, FIRST)

    refused = invited(pair, SECOND, seq="0200000002")

    assert refused.failed.status == 486
    assert "399" in refused.failed.warning


def test_a_freed_place_can_be_taken():
    pair = nvr(max_streams=1)
    first = invited(pair, FIRST)
    pair.platform.bye(first, pair.now)
    pair.run(pair.now + 1)

    assert invited(pair, SECOND, seq="0200000002").answer.status == 200


def test_the_busy_fault_refuses_every_call():
    assert invited(nvr(busy=True)).failed.status == 486


def test_the_same_sender_sequence_replaces_the_stream():
    pair = nvr(max_streams=1)
    first = invited(pair, FIRST, seq="0200000001")

    second = invited(pair, FIRST, seq="0200000001")

    assert second.answer.status == 200
    assert first.byes == 1
    assert pair.of(CloseMedia) == [CloseMedia(first.dialog.call_id)]
    assert pair.ua.streaming == 1


@pytest.mark.parametrize(
    ("sdp", "status"),
    [
        (b"", 400),
        (b"v=0\r\ns=Play\r\n", 400),
        (offer(0), 488),
        (offer(30000, s="s=Playback"), 488),
        (offer(30000).replace(b"AVP 96 98 97", b"AVP 98 97"), 415),
    ],
)
def test_offers_that_cannot_be_met_are_refused(sdp: bytes, status: int):
    pair = nvr()

    assert invited(pair, sdp=sdp).failed.status == status
    assert pair.of(OpenMedia) == []


def test_an_unknown_channel_is_not_found():
    assert invited(nvr(), "34020000001320009999").failed.status == 404


def test_a_camera_is_called_by_its_own_code_too():
    spec = camera_spec(CAMERA, PASSWORD, channel_id="34020000001310000001")
    pair = World(spec).start()
    pair.run(1)

    assert invited(pair, CAMERA).answer.status == 200
    assert pair.of(StartMedia)[0].channel_id == "34020000001310000001"


def test_a_wrong_ssrc_is_the_same_in_answer_and_packets():
    pair = nvr(ssrc=SsrcFault.WRONG)

    call = invited(pair)

    ssrc = pair.of(StartMedia)[0].ssrc
    assert y_of(call) == f"{ssrc:010d}" != "0200000001"


def test_ssrc_zero_is_in_the_packets_only():
    pair = nvr(ssrc=SsrcFault.ZERO)

    call = invited(pair)

    assert pair.of(StartMedia)[0].ssrc == 0
    assert y_of(call) == "0200000001"


def test_no_y_leaves_the_line_out_and_keeps_the_ssrc():
    pair = nvr(no_y=True)

    call = invited(pair)

    assert y_of(call) == ""
    assert pair.of(StartMedia)[0].ssrc == 200000001


def test_an_offer_without_y_gets_an_ssrc_of_the_devices_own():
    pair = nvr()

    call = invited(pair, sdp=offer(30000, y=""))

    assert re.fullmatch(r"0\d{9}", y_of(call))
    assert pair.of(StartMedia)[0].ssrc == int(y_of(call))


def test_a_port_that_cannot_be_bound_is_a_500():
    pair = nvr(slow_answer_s=1)
    call = invited(pair, wait_s=0.1)

    pair.ua.media_failed(call.dialog.call_id, pair.now)
    pair.run(pair.now + 1)

    assert call.failed.status == 500


def test_when_the_link_breaks_streams_end_without_words():
    pair = nvr()
    call = invited(pair)

    pair.ua.unlinked(pair.now, "closed")
    pair.run(pair.now + 1)

    assert pair.of(CloseMedia) == [CloseMedia(call.dialog.call_id)]
    assert call.byes == 0
