import pytest

from simulators.camera import camera_spec
from simulators.line import Connect, Disconnect, Gone, Registered
from simulators.spec import Timing
from tests.simulators.little import CAMERA, PASSWORD, LittlePlatform, World
from vsp.model.device import Transport


def world(platform: LittlePlatform | None = None, **timing) -> World:
    spec = camera_spec(CAMERA, PASSWORD, timing=Timing(**timing))
    return World(spec, platform or LittlePlatform()).start()


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "SM3"])
@pytest.mark.parametrize("qop", ["", "auth"])
def test_a_challenge_is_answered_with_the_same_call_id_and_the_next_cseq(algorithm: str, qop: str):
    pair = world(LittlePlatform(algorithm=algorithm, qop=qop))

    pair.run(1)

    first, second = pair.platform.requests("REGISTER")
    assert first.header("authorization") is None
    assert first.call_id == second.call_id
    assert second.cseq[0] == first.cseq[0] + 1
    assert pair.platform.registered
    assert pair.ua.online


def test_a_register_says_who_and_for_how_long():
    pair = world()

    pair.run(1)

    register = pair.platform.requests("REGISTER")[0]
    assert register.uri == b"sip:34020000002000000001@3402000000"
    assert register.from_.user == register.to.user == CAMERA
    assert str(register.contact.uri) == f"sip:{CAMERA}@127.0.0.1:40000"
    assert (register.expires, register.header("x-gb-ver")) == (3600, "2.0")


def test_the_first_register_waits_a_part_of_the_jitter():
    starts = []
    for serial in range(20):
        spec = camera_spec(
            f"3402000000132000{serial:04d}", PASSWORD, timing=Timing(register_jitter_s=10)
        )
        pair = World(spec).start()
        pair.run(11)
        starts.append(pair.platform.times("REGISTER")[0])

    assert len(set(starts)) > 15
    assert 0 <= min(starts) < 3
    assert 7 < max(starts) <= 10


def test_the_same_seed_registers_with_the_same_bytes():
    sent = []
    for _ in range(2):
        pair = world()
        pair.run(100)
        sent.append(pair.device_sent)

    assert sent[0] == sent[1]


def test_a_registration_is_refreshed_at_four_fifths_of_what_was_granted():
    pair = world(LittlePlatform(expires_s=1000), keepalive_s=3000)

    pair.run(900)

    assert sorted(set(pair.platform.times("REGISTER"))) == [0.0, 800.0]
    assert len(pair.of(Registered)) == 1


def test_a_wrong_password_is_tried_once_and_then_after_the_retry_time():
    pair = world(LittlePlatform(password="other"), retry_s=60)

    pair.run(59)
    assert len(pair.platform.requests("REGISTER")) == 2

    pair.run(121)
    assert len(pair.platform.requests("REGISTER")) >= 4
    assert 60 <= pair.platform.times("REGISTER")[2] <= 120
    assert not pair.ua.online


def test_a_stale_nonce_is_answered_once_more():
    pair = world(LittlePlatform(stale_once=True))

    pair.run(1)

    assert pair.platform.registered


def test_a_short_expires_is_raised_to_what_the_platform_wants():
    platform = LittlePlatform(register_status=423, register_headers=(("Min-Expires", "7200"),))
    pair = world(platform, retry_s=1)
    pair.run(0.5)
    platform.register_status = 0

    pair.run(5)

    assert pair.platform.requests("REGISTER")[-1].expires == 7200
    assert pair.ua.online


def test_a_busy_platform_is_obeyed():
    platform = LittlePlatform(register_status=503, register_headers=(("Retry-After", "20"),))
    pair = world(platform, retry_s=60)

    pair.run(25)

    assert 20 <= pair.platform.times("REGISTER")[1] <= 21


def test_a_platform_that_does_not_answer_is_tried_again():
    platform = LittlePlatform(silent=True)
    pair = world(platform, retry_s=10)
    pair.run(40)
    platform.silent = False

    pair.run(60)

    assert pair.ua.online
    assert pair.ua.registrations >= 2


def test_a_keepalive_goes_out_each_interval():
    pair = world(keepalive_s=30)

    pair.run(100)

    assert pair.platform.times("MESSAGE") == [30.0, 60.0, 90.0]
    serials = [body.split("<SN>")[1].split("<")[0] for body in pair.platform.bodies_of("Keepalive")]
    assert serials == ["1", "2", "3"]


def test_a_keepalive_names_the_platform_and_its_type():
    pair = world(keepalive_s=5)

    pair.run(6)

    keepalive = pair.platform.requests("MESSAGE")[0]
    assert keepalive.uri == b"sip:34020000002000000001@127.0.0.1:5060"
    assert keepalive.content_type == "application/manscdp+xml"


def test_three_unanswered_keepalives_mean_offline_and_a_new_registration():
    platform = LittlePlatform()
    pair = world(platform, keepalive_s=10)
    pair.run(1)
    platform.silent = True

    pair.run(39)
    assert pair.ua.online

    pair.run(41)
    assert [event.online for event in pair.of(Registered)] == [True, False]
    platform.silent = False
    pair.run(80)
    assert pair.ua.online


def test_an_answered_keepalive_forgives_the_misses_before_it():
    platform = LittlePlatform()
    pair = world(platform, keepalive_s=10)
    pair.run(1)
    platform.silent = True
    pair.run(29)
    platform.silent = False

    pair.run(61)

    assert len(pair.of(Registered)) == 1


@pytest.mark.parametrize("status", [403, 404])
def test_a_refused_keepalive_means_a_new_registration(status: int):
    platform = LittlePlatform(keepalive_status=status)
    pair = world(platform, keepalive_s=10)

    pair.run(10.5)

    assert [event.online for event in pair.of(Registered)] == [True, False, True]


def test_leaving_unregisters_with_credentials():
    pair = world()
    pair.run(1)

    pair.ua.stop(pair.now)
    pair.run(2)

    last = pair.platform.requests("REGISTER")[-1]
    assert (last.expires, pair.platform.registered) == (0, False)
    assert last.header("authorization") is not None
    assert len(pair.of(Gone)) == 1


def test_leaving_before_the_first_register_is_immediate():
    pair = world(register_jitter_s=100)

    pair.ua.stop(pair.now)
    pair.run(1)

    assert len(pair.of(Gone)) == 1
    assert pair.platform.seen == []


def test_after_leaving_nothing_is_sent():
    pair = world(keepalive_s=5)
    pair.run(1)
    pair.ua.stop(pair.now)
    pair.run(2)
    seen = len(pair.platform.seen)

    pair.run(4000)

    assert len(pair.platform.seen) == seen


def test_a_lost_connection_is_offline_and_a_new_one_registers_anew():
    spec = camera_spec(CAMERA, PASSWORD, transport=Transport.TCP, timing=Timing(retry_s=10))
    pair = World(spec).start()
    pair.run(1)

    pair.ua.unlinked(pair.now, "closed")
    pair.run(25)

    registers = pair.platform.requests("REGISTER")
    assert [event.online for event in pair.of(Registered)] == [True, False, True]
    assert len(pair.of(Connect)) == 2
    assert registers[-1].call_id != registers[0].call_id


def test_a_refused_connection_is_tried_again_and_again():
    spec = camera_spec(CAMERA, PASSWORD, transport=Transport.TCP, timing=Timing(retry_s=10))
    pair = World(spec, reachable=False).start()

    pair.run(100)

    assert 5 <= len(pair.of(Connect)) <= 11


def test_lost_datagrams_are_repeated_by_the_transaction():
    dropped = []

    def first_three(data: bytes) -> bool:
        dropped.append(data)
        return len(dropped) <= 3

    spec = camera_spec(CAMERA, PASSWORD)
    pair = World(spec, drop=first_three).start()

    pair.run(10)

    assert [when for when, _ in pair.device_sent][:4] == [0.0, 0.5, 1.5, 3.5]
    assert pair.ua.online


def test_a_connection_on_which_nothing_comes_back_is_given_up():
    platform = LittlePlatform()
    spec = camera_spec(
        CAMERA, PASSWORD, transport=Transport.TCP, timing=Timing(keepalive_s=10, retry_s=5)
    )
    pair = World(spec, platform).start()
    pair.run(1)
    platform.silent = True
    pair.run(41 + 33)
    assert len(pair.of(Disconnect)) == 1
    platform.silent = False

    pair.run(100)

    assert len(pair.of(Connect)) >= 2
    assert pair.ua.online


def test_over_udp_there_is_no_connection_to_give_up():
    pair = world(LittlePlatform(silent=True), retry_s=10)

    pair.run(100)

    assert pair.of(Disconnect) == []
