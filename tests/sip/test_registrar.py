"""REGISTER and heartbeats, judged with the time in hand; then the write-behind."""

import asyncio
import re

import pytest

from tests.sip import ua
from tests.sip.fakes import START_US, CountedMetrics, device, message_of
from vsp.config import SipConfig
from vsp.errors import Unavailable
from vsp.model.changes import Axis
from vsp.model.device import Presence, Transport
from vsp.model.ids import GbId, UtcMicros
from vsp.sip import registrar as module
from vsp.sip.core.agent import Peer
from vsp.sip.core.digest import NonceIssuer
from vsp.sip.presence import PresenceRules, Roster, address
from vsp.sip.quirks import QuirkLedger
from vsp.sip.registrar import CandidateTable, Registrar, Verdict, WriteBehind, date_text

HERE = Peer(Transport.UDP, "198.51.100.20", 5060)
ELSEWHERE = Peer(Transport.UDP, "203.0.113.9", 5060)
SAME_HOST = Peer(Transport.UDP, "198.51.100.20", 41_000)
STRANGER_ID = "34020000001320009999"


class Desk:
    """A registrar with one recorder in its book and a clock that tests turn."""

    def __init__(self, config: SipConfig | None = None, key: bytes = b"k" * 32, **changes) -> None:
        self.now = 1000.0
        self.roster = Roster(PresenceRules())
        self.roster.load([device(ua.NVR, **changes)], self.now, self.now_us)
        self.quirks = QuirkLedger()
        self.metrics = CountedMetrics()
        issuer = NonceIssuer(key, 60)
        self.registrar = Registrar(
            config or SipConfig(), self.roster, issuer, self.quirks, self.metrics
        )

    @property
    def now_us(self) -> UtcMicros:
        return UtcMicros(START_US + round((self.now - 1000.0) * 1_000_000))

    @property
    def entry(self):
        return self.roster.by_gb_id(ua.NVR)

    def say(self, data: bytes, peer: Peer = HERE) -> Verdict:
        return self.registrar.register(message_of(data), peer, self.now, self.now_us)

    def challenge(self, peer: Peer = HERE, **options) -> str:
        return dict(self.say(ua.register(**options), peer).reply.headers)["WWW-Authenticate"]

    def register(self, peer: Peer = HERE, **options) -> Verdict:
        signing = {
            name: options.pop(name)
            for name in ("username", "password", "algorithm", "qop")
            if name in options
        }
        signed = ua.authorization(self.challenge(peer, **options), **signing)
        return self.say(ua.register(authorization=signed, cseq=2, **options), peer)

    def beat(self, peer: Peer = HERE):
        return self.registrar.keepalive(self.entry, peer, self.now, self.now_us)


def headers(verdict: Verdict) -> dict[str, str]:
    return dict(verdict.reply.headers)


# ---- REGISTER -------------------------------------------------------------------------------


def test_a_first_register_is_challenged_in_the_form_of_the_standard():
    desk = Desk()

    verdict = desk.say(ua.register())

    assert verdict.reply.status == 401
    challenge = headers(verdict)["WWW-Authenticate"]
    assert re.fullmatch(r'Digest realm="3402000000", nonce="[0-9a-f]+", algorithm=MD5', challenge)
    assert headers(verdict)["X-GB-Ver"] == "3.0"
    assert desk.entry.presence is Presence.UNKNOWN


def test_a_signed_register_is_answered_with_contact_expires_and_date():
    desk = Desk()

    verdict = desk.register()

    assert verdict.reply.status == 200
    assert headers(verdict) == {
        "Contact": f"<sip:{ua.NVR}@198.51.100.20:5060>",
        "Date": "2026-03-01T10:00:00.000",
        "Expires": "3600",
        "X-GB-Ver": "3.0",
    }
    assert verdict.registered is not None
    assert verdict.registered.returned
    assert desk.entry.presence is Presence.ONLINE


def test_the_binding_is_the_source_address_not_the_contact():
    desk = Desk()

    desk.register(contact=f"<sip:{ua.NVR}@10.0.0.1:7777>")

    bound = desk.entry.binding
    assert (bound.host, bound.port) == ("198.51.100.20", 5060)
    assert bound.contact == f"sip:{ua.NVR}@10.0.0.1:7777"
    assert bound.user_agent == "sim-nvr/1.0"
    assert bound.gb_version == "2.0"
    assert bound.expires_at_us == START_US + 3600 * 1_000_000


def test_a_refresh_keeps_the_device_on_line_without_an_edge():
    desk = Desk()
    desk.register()
    desk.roster.take_edges()
    desk.now += 1800

    verdict = desk.register()

    assert verdict.registered is not None
    assert not verdict.registered.returned
    assert desk.roster.take_edges() == []


def test_valid_credentials_from_a_new_source_move_the_binding():
    desk = Desk()
    desk.register()

    verdict = desk.register(ELSEWHERE)

    assert verdict.registered is not None
    assert verdict.registered.moved
    assert desk.entry.peer == ELSEWHERE


def test_a_move_is_on_the_log_with_how_alive_the_device_was():
    desk = Desk()
    desk.register()
    desk.now += 7

    desk.register(ELSEWHERE)

    [move] = desk.roster.take_moves()
    point = move.point()
    assert (point.axis, point.cause) == (Axis.BINDING, "moved")
    assert point.state == address(ELSEWHERE)
    assert point.evidence == f"from {address(HERE)}, heard 7 s before"


def test_a_device_that_is_alive_moves_once_a_minute():
    desk = Desk()
    desk.register()
    desk.register(ELSEWHERE)
    desk.now += 20

    refused = desk.register(HERE)
    assert refused.reply.status == 503
    assert headers(refused)["Retry-After"] == "40"
    assert desk.entry.peer == ELSEWHERE
    desk.now += 40

    assert desk.register(HERE).reply.status == 200
    assert desk.entry.peer == HERE


def test_a_device_that_fell_silent_moves_at_once():
    desk = Desk()
    desk.register()
    desk.register(ELSEWHERE)
    desk.roster.advance(desk.now, desk.now_us)
    desk.entry.heard_now -= 100

    assert desk.register(HERE).reply.status == 200


def test_a_new_port_or_connection_is_no_move():
    desk = Desk()
    for _ in range(5):
        assert desk.register(HERE).reply.status == 200
        assert desk.register(SAME_HOST).reply.status == 200

    assert desk.roster.take_moves() == []


def test_who_unregisters_from_elsewhere_ends_nothing():
    desk = Desk()
    desk.register()

    verdict = desk.register(ELSEWHERE, expires="0")

    assert verdict.reply.status == 200
    assert desk.entry.peer == HERE
    assert desk.entry.presence is Presence.ONLINE


def test_a_register_without_credentials_from_elsewhere_moves_nothing():
    desk = Desk()
    desk.register()

    desk.say(ua.register(), ELSEWHERE)

    assert desk.entry.peer == HERE


def test_unregistering_is_challenged_too():
    desk = Desk()
    desk.register()

    assert desk.say(ua.register(expires="0")).reply.status == 401
    assert desk.entry.presence is Presence.ONLINE
    verdict = desk.register(expires="0")

    assert verdict.reply.status == 200
    assert headers(verdict)["Expires"] == "0"
    assert desk.entry.presence is Presence.OFFLINE
    assert desk.entry.binding is None


@pytest.mark.parametrize(("expires", "status"), [("59", 423), ("1", 423), ("60", 200)])
def test_a_registration_below_the_minimum_is_too_brief(expires, status):
    desk = Desk()

    verdict = desk.register(expires=expires)

    assert verdict.reply.status == status
    if status == 423:
        assert headers(verdict)["Min-Expires"] == "60"
        assert desk.entry.binding is None


def test_a_longer_registration_is_cut():
    desk = Desk(SipConfig(expires_max_s=7200))

    assert headers(desk.register(expires="99999"))["Expires"] == "7200"


def test_without_expires_the_longest_is_granted():
    assert headers(Desk().register(expires=None))["Expires"] == "86400"


def test_expires_of_the_contact_wins_over_the_header():
    contact = f"<sip:{ua.NVR}@198.51.100.20:5060>;expires=600"

    assert headers(Desk().register(contact=contact))["Expires"] == "600"


def test_the_date_can_be_left_out_for_the_platform_and_for_one_device():
    off_here = Desk(SipConfig(date_header=False)).register()
    off_there = Desk(settings={"send_date": False}).register()

    assert "Date" not in headers(off_here)
    assert "Date" not in headers(off_there)


def test_the_date_is_beijing_time_with_milliseconds_and_no_zone():
    assert date_text(UtcMicros(START_US + 7_008_999)) == "2026-03-01T10:00:07.008"


def test_each_device_has_its_own_password():
    desk = Desk(password="s3cret-of-its-own")

    assert desk.register().reply.status == 403
    assert desk.register(password="s3cret-of-its-own").reply.status == 200


def test_a_device_may_sign_with_another_user_name():
    desk = Desk(settings={"auth_username": "admin"})

    assert desk.register().reply.status == 403
    assert desk.register(username="admin").reply.status == 200


@pytest.mark.parametrize(
    ("setting", "name"), [("SHA-256", "sha256"), ("SM3", "sm3"), ("MD5", "md5")]
)
def test_a_device_signs_with_the_algorithm_it_is_set_to(setting, name):
    from vsp.model.device import DigestAlgorithm

    desk = Desk(settings={"digest": DigestAlgorithm(setting)})

    assert f"algorithm={setting}" in desk.challenge()
    assert desk.register(algorithm=name).reply.status == 200


def test_the_form_with_qop_is_accepted_too():
    assert Desk().register(qop=True).reply.status == 200


def test_a_captured_register_is_worth_nothing():
    desk = Desk()
    captured = ua.register(authorization=ua.authorization(desk.challenge()), cseq=2)
    assert desk.say(captured).reply.status == 200

    assert desk.say(captured).reply.status == 401
    assert desk.say(captured, ELSEWHERE).reply.status == 401
    assert desk.entry.peer == HERE


def test_an_old_nonce_is_answered_stale():
    desk = Desk()
    signed = ua.authorization(desk.challenge())
    desk.now += 61

    verdict = desk.say(ua.register(authorization=signed))

    assert verdict.reply.status == 401
    assert "stale=true" in headers(verdict)["WWW-Authenticate"]


def test_a_nonce_from_before_our_restart_is_answered_stale_not_refused():
    signed = ua.authorization(Desk(key=b"a" * 32).challenge())

    verdict = Desk(key=b"b" * 32).say(ua.register(authorization=signed))

    assert verdict.reply.status == 401
    assert "stale=true" in headers(verdict)["WWW-Authenticate"]


def test_a_wrong_password_is_refused_and_says_the_version():
    desk = Desk()

    verdict = desk.register(password="wrong")

    assert verdict.reply.status == 403
    assert headers(verdict)["X-GB-Ver"] == "3.0"
    assert not verdict.stranger
    assert desk.entry.presence is Presence.UNKNOWN
    assert desk.metrics.counts["vsp_sip_registers refused"] == 1


def test_guessing_passwords_falls_silent():
    desk = Desk()

    replies = [desk.register(password=f"guess{n}").reply for n in range(30)]

    assert [reply.silent for reply in replies] == [False] * 10 + [True] * 20


def test_guessing_from_one_address_does_not_silence_the_device_at_another():
    desk = Desk()
    for n in range(30):
        desk.register(ELSEWHERE, password=f"guess{n}")

    assert desk.register(password="slip").reply.status == 403
    assert desk.register().reply.status == 200


def test_a_certificate_scheme_of_2011_gets_a_digest_challenge():
    desk = Desk()

    verdict = desk.say(ua.register(authorization='Capability algorithm="A:RSA"'))

    assert verdict.reply.status == 401
    assert headers(verdict)["WWW-Authenticate"].startswith("Digest ")
    (shown,) = desk.quirks.of(desk.entry.id)
    assert shown.quirk.name == "foreign-auth-scheme"


def test_a_device_without_a_password_is_refused():
    desk = Desk(password="")

    assert desk.say(ua.register()).reply.status == 403


# ---- unknown devices ------------------------------------------------------------------------


def test_an_unknown_device_is_refused_and_reported():
    desk = Desk()

    verdict = desk.say(ua.register(STRANGER_ID), ELSEWHERE)

    assert verdict.reply.status == 403
    assert verdict.stranger
    (seen,) = desk.registrar.candidates.take(10)
    assert seen.gb_id == STRANGER_ID
    assert (seen.host, seen.port, seen.transport) == ("203.0.113.9", 5060, Transport.UDP)
    assert (seen.user_agent, seen.attempts) == ("sim-nvr/1.0", 1)


@pytest.mark.parametrize("gb_id", ["1001", "3402000000132000000", "3402000000132000000x", ""])
def test_what_is_no_code_is_refused_but_not_reported(gb_id):
    desk = Desk()

    verdict = desk.say(ua.register(gb_id))

    assert verdict.reply.status == 403
    assert desk.registrar.candidates.take(10) == []


def test_a_candidate_reports_the_attempts_since_it_was_last_written():
    desk = Desk()
    for _ in range(3):
        desk.say(ua.register(STRANGER_ID))
    desk.registrar.candidates.take(10)

    desk.now += 5
    desk.say(ua.register(STRANGER_ID))

    (seen,) = desk.registrar.candidates.take(10)
    assert seen.attempts == 1
    assert seen.first_seen_us == START_US
    assert seen.last_seen_us == START_US + 5_000_000


def test_candidates_that_could_not_be_written_are_counted_again():
    table = CandidateTable()
    table.saw(GbId(STRANGER_ID), HERE, "", UtcMicros(1))
    taken = table.take(10)
    table.saw(GbId(STRANGER_ID), HERE, "", UtcMicros(2))

    table.put_back(taken)

    (seen,) = table.take(10)
    assert seen.attempts == 2


def test_a_flood_of_invented_codes_pushes_out_the_oldest(monkeypatch):
    monkeypatch.setattr(module, "CANDIDATES_MAX", 3)
    table = CandidateTable()

    for n in range(5):
        table.saw(GbId(f"{n:020}"), HERE, "", UtcMicros(n))

    assert len(table) == 3
    assert [seen.gb_id for seen in table.take(10)] == [f"{n:020}" for n in (2, 3, 4)]


def test_a_device_that_was_added_is_no_candidate_any_more():
    table = CandidateTable()
    table.saw(GbId(STRANGER_ID), HERE, "", UtcMicros(1))

    table.known(GbId(STRANGER_ID))

    assert table.take(10) == []


# ---- heartbeats -----------------------------------------------------------------------------


def test_a_heartbeat_from_the_bound_address_is_accepted():
    desk = Desk()
    desk.register()
    desk.now += 60

    assert desk.beat().status == 200

    assert desk.entry.last_seen_us == desk.now_us
    assert desk.metrics.counts["vsp_sip_keepalives"] == 1


def test_a_heartbeat_from_another_host_is_refused_and_changes_nothing():
    desk = Desk()
    desk.register()
    before = desk.entry.last_seen_us
    desk.now += 60

    assert desk.beat(ELSEWHERE).status == 403

    assert desk.entry.last_seen_us == before
    assert desk.entry.peer == HERE


def test_a_heartbeat_from_a_new_port_of_the_same_host_moves_the_binding():
    desk = Desk()
    desk.register()

    assert desk.beat(SAME_HOST).status == 200

    assert desk.entry.peer == SAME_HOST
    assert [shown.quirk.name for shown in desk.quirks.of(desk.entry.id)] == ["source-port-moved"]


def test_a_heartbeat_without_registration_is_refused_so_that_the_device_registers():
    assert Desk().beat().status == 403


def test_a_heartbeat_after_the_registration_ended_is_refused():
    desk = Desk()
    desk.register(expires="60")
    desk.now += 60

    assert desk.beat().status == 403


def test_a_heartbeat_brings_back_a_device_that_never_registers_again():
    desk = Desk()
    desk.register()
    for _ in range(181):
        desk.now += 1
        desk.roster.advance(desk.now, desk.now_us)
    assert desk.entry.presence is Presence.OFFLINE

    assert desk.beat().status == 200

    assert desk.entry.presence is Presence.ONLINE
    names = [shown.quirk.name for shown in desk.quirks.of(desk.entry.id)]
    assert names == ["keepalive-after-offline"]


# ---- write-behind ---------------------------------------------------------------------------


class Paper:
    """DeviceBook and ChangeLog, as far as the write-behind knows them; it may refuse."""

    def __init__(self) -> None:
        self.states: list[list[object]] = []
        self.points: list[object] = []
        self.sightings: list[object] = []
        self.broken = False
        self.written = asyncio.Event()

    async def save_states(self, states):
        self._check()
        self.states.append(list(states))
        self.written.set()

    async def append(self, points):
        self._check()
        self.points += points

    async def saw_candidates(self, sightings):
        self._check()
        self.sightings += sightings

    def _check(self):
        if self.broken:
            raise Unavailable("the database is away")


def writing(desk: Desk) -> tuple[WriteBehind, Paper]:
    paper = Paper()
    return WriteBehind(desk.roster, desk.registrar.candidates, paper, paper), paper


async def test_a_hundred_heartbeats_are_one_row():
    desk = Desk()
    writer, paper = writing(desk)
    desk.register()
    for _ in range(100):
        desk.beat()

    assert await writer.flush()

    assert [len(batch) for batch in paper.states] == [1]


async def test_edges_become_change_points_with_their_evidence():
    desk = Desk()
    writer, paper = writing(desk)
    desk.register()
    writer.add(desk.roster.take_edges())

    await writer.flush()

    (point,) = paper.points
    assert (point.axis, point.state) == (Axis.PRESENCE, "online")
    assert point.evidence.startswith("registered from 198.51.100.20:5060/udp")


async def test_nothing_is_lost_while_the_database_is_away():
    desk = Desk()
    writer, paper = writing(desk)
    paper.broken = True
    desk.register()
    desk.say(ua.register(STRANGER_ID))
    writer.add(desk.roster.take_edges())

    assert not await writer.flush()
    paper.broken = False
    assert await writer.flush()

    assert len(paper.points) == 1
    assert len(paper.states) == 1
    assert len(paper.sightings) == 1


async def test_points_keep_their_order_over_a_failed_write():
    desk = Desk()
    writer, paper = writing(desk)
    desk.register()
    writer.add(desk.roster.take_edges())
    paper.broken = True
    await writer.flush()

    desk.register(expires="0")
    writer.add(desk.roster.take_edges())
    paper.broken = False
    await writer.flush()

    assert [point.state for point in paper.points] == ["online", "offline"]


async def test_waiting_points_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "POINTS_MAX", 2)
    desk = Desk()
    writer, paper = writing(desk)
    for _ in range(2):
        desk.register()
        desk.register(expires="0")

    writer.add(desk.roster.take_edges())
    await writer.flush()

    assert [point.state for point in paper.points] == ["online", "offline"]


async def test_rows_are_written_in_bounded_batches(monkeypatch):
    monkeypatch.setattr(module, "FLUSH_ROWS_MAX", 2)
    desk = Desk()
    writer, paper = writing(desk)
    for n in range(5):
        desk.roster.put(*device(f"3402000000132000{n:04}"))
    for entry in desk.roster:
        desk.roster.unbind(entry, HERE, desk.now, desk.now_us)

    await writer.flush()

    assert sorted(len(batch) for batch in paper.states) == [2, 2, 2]


async def test_a_full_batch_is_written_without_waiting_for_the_second(monkeypatch):
    monkeypatch.setattr(module, "FLUSH_ROWS_MAX", 1)
    monkeypatch.setattr(module, "FLUSH_PERIOD_S", 3600.0)
    desk = Desk()
    writer, paper = writing(desk)
    task = asyncio.create_task(writer.run())

    desk.register()
    writer.nudge()
    async with asyncio.timeout(5):
        await paper.written.wait()

    task.cancel()
    await asyncio.wait({task})


async def test_a_fault_of_the_store_does_not_end_the_writer():
    desk = Desk()
    writer, paper = writing(desk)
    desk.register()

    def fail():
        raise RuntimeError("no such table")

    paper._check = fail
    assert not await writer.flush()

    del paper._check
    assert await writer.flush()
    assert len(paper.states) == 1
