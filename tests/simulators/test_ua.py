import pytest

from simulators.camera import camera_spec
from simulators.faults import Faults
from simulators.line import Died, StartMedia
from simulators.spec import Timing
from tests.simulators.little import CAMERA, PASSWORD, World
from vsp.model.device import Transport
from vsp.sip.core.agent import Peer

PEER = Peer(Transport.UDP, "127.0.0.1", 5060)


def camera(**faults) -> World:
    spec = camera_spec(CAMERA, PASSWORD, timing=Timing(keepalive_s=10), faults=Faults(**faults))
    pair = World(spec).start()
    pair.run(1)
    return pair


def test_options_is_answered_with_what_is_allowed():
    pair = camera()

    pair.platform.request("OPTIONS", CAMERA, pair.now)
    pair.run(2)

    answer = pair.platform.responses[-1]
    assert answer.status == 200
    assert "MESSAGE" in answer.header("allow")


@pytest.mark.parametrize("method", ["SUBSCRIBE", "INFO", "PUBLISH", "XYZ"])
def test_what_a_camera_does_not_do_is_not_allowed(method: str):
    pair = camera()

    pair.platform.request(method, CAMERA, pair.now)
    pair.run(2)

    answer = pair.platform.responses[-1]
    assert answer.status == 405
    assert "INVITE" in answer.header("allow")


def test_a_bye_of_nothing_is_481():
    pair = camera()

    pair.platform.request("BYE", CAMERA, pair.now)
    pair.run(2)

    assert pair.platform.responses[-1].status == 481


@pytest.mark.parametrize("seed", range(30))
def test_broken_messages_neither_stop_nor_confuse_a_camera(seed: int):
    pair = camera()
    pair.platform.invite(CAMERA, pair.now)
    good = pair.platform.agent.take()[0].data
    cut = good[: len(good) * seed // 30]
    bent = good.replace(b"From: <sip:", b"From: <<<" if seed % 2 else b"From: sip::::")

    for data in (cut, bent, bytes([seed]) * 40, b"\r\n\r\n", b""):
        pair.ua.receive(data, PEER, pair.now)
    pair.run(30)

    assert pair.ua.online
    assert pair.platform.times("MESSAGE") == [10.0, 20.0, 30.0]


def test_a_silent_death_answers_nothing_and_says_nothing():
    pair = camera(silent_death_after_s=15)
    call = pair.platform.invite(CAMERA, pair.now)
    pair.run(14)
    assert len(pair.of(StartMedia)) == 1

    pair.run(16)
    sent = len(pair.device_sent)
    pair.platform.bye(call, pair.now)
    pair.platform.query("Catalog", CAMERA, pair.now)
    pair.run(300)

    assert len(pair.of(Died)) == 1
    assert len(pair.device_sent) == sent
    assert pair.platform.registered


def test_requests_before_the_first_link_are_ignored():
    pair = World(camera_spec(CAMERA, PASSWORD, timing=Timing(register_jitter_s=50))).start()

    pair.ua.receive(b"OPTIONS sip:x SIP/2.0\r\n\r\n", PEER, 0.0)
    pair.run(60)

    assert pair.ua.online
