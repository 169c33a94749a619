"""Who is there and by what evidence; time is an argument."""

from dataclasses import replace

import pytest

from vsp.model.changes import Axis
from vsp.model.device import (
    Binding,
    Device,
    DeviceKind,
    DeviceSecret,
    DeviceSettings,
    Presence,
    Transport,
)
from vsp.model.ids import DeviceId, GbId, UtcMicros
from vsp.sip.core.agent import Peer
from vsp.sip.presence import (
    ADVANCE_MAX_S,
    Edge,
    Entry,
    PresenceRules,
    Roster,
    address,
    beijing_time,
)

SECOND = 1_000_000
START_US = 1_772_330_400 * SECOND  # 2026-03-01 10:00:00 in Beijing
UDP = Peer(Transport.UDP, "192.0.2.7", 5060)
MOVED = Peer(Transport.UDP, "192.0.2.7", 40_000)
TCP = Peer(Transport.TCP, "192.0.2.7", 33_000, connection=4)


def device(number: int = 1, **changes) -> Device:
    plain = Device(
        id=DeviceId(f"d{number}"),
        gb_id=GbId(f"3402000000132{number:07}"),
        name="",
        kind=DeviceKind.CAMERA,
        settings=DeviceSettings(),
        presence=Presence.UNKNOWN,
        presence_since_us=UtcMicros(0),
        created_at_us=UtcMicros(0),
    )
    return replace(plain, **changes)


def secret(number: int = 1) -> DeviceSecret:
    return DeviceSecret(DeviceId(f"d{number}"), "x7!kQp2#")


def at(now: float) -> UtcMicros:
    return UtcMicros(START_US + round(now * SECOND))


def binding(peer: Peer = UDP, now: float = 0.0, expires_s: int = 3600) -> Binding:
    return Binding(
        peer.transport, peer.host, peer.port, "", at(now), UtcMicros(at(now) + expires_s * SECOND)
    )


class World:
    """One roster with a clock that tests turn. It ticks every second, as the service does."""

    def __init__(self, *devices: Device, rules: PresenceRules | None = None) -> None:
        self.now = 0.0
        self.roster = Roster(rules or PresenceRules())
        rows = [(row, DeviceSecret(row.id, "x7!kQp2#")) for row in devices or (device(),)]
        self.roster.load(rows, self.now, at(self.now))

    @property
    def entry(self) -> Entry:
        found = self.roster.by_gb_id("34020000001320000001")
        assert found is not None
        return found

    def register(self, peer: Peer = UDP, expires_s: int = 3600) -> None:
        bound = binding(peer, self.now, expires_s)
        self.roster.bind(self.entry, bound, peer, expires_s, self.now)

    def beat(self, peer: Peer = UDP) -> bool:
        return self.roster.beat(self.entry, peer, self.now, at(self.now))

    def run(self, until: float) -> None:
        while self.now < until:
            self.now += 1.0
            self.roster.advance(self.now, at(self.now))

    def edges(self) -> list[Edge]:
        return self.roster.take_edges()

    def states(self) -> list[Presence]:
        return [edge.presence for edge in self.edges()]


def test_a_registration_brings_a_device_on_line_once():
    world = World()

    world.register()
    world.run(30)
    world.register()

    (edge,) = world.edges()
    assert edge.presence is Presence.ONLINE
    assert edge.evidence == "registered from 192.0.2.7:5060/udp, expires in 3600 s"
    assert world.entry.presence_since_us == at(0)


def test_three_missed_heartbeats_take_it_off_line_with_the_evidence_in_words():
    world = World()
    world.register()
    world.run(60)
    world.beat()
    world.edges()

    world.run(239)
    assert world.edges() == []
    world.run(240)

    (edge,) = world.edges()
    assert edge.presence is Presence.OFFLINE
    assert edge.cause == "heartbeat_lost"
    assert edge.evidence == "no heartbeat for 180 s; last at 10:01:00 from 192.0.2.7:5060/udp"


def test_an_edge_is_a_row_of_the_change_log():
    world = World()
    world.register()

    point = world.edges()[0].point()

    assert (point.subject, point.axis, point.state) == ("device:d1", Axis.PRESENCE, "online")
    assert point.at_us == at(0)


def test_a_late_heartbeat_changes_nothing():
    world = World()
    world.register()
    world.edges()

    for _ in range(5):
        world.run(world.now + 179)
        world.beat()

    assert world.edges() == []


def test_interval_and_misses_of_a_device_come_before_the_platforms():
    settings = DeviceSettings(keepalive_interval_s=10, keepalive_misses=2)
    world = World(device(settings=settings))
    world.register()
    world.edges()

    world.run(19)
    assert world.edges() == []
    world.run(20)

    assert world.states() == [Presence.OFFLINE]


@pytest.mark.parametrize(("offered", "used"), [(65_535, 3600), (0, 60), (-5, 1)])
def test_absurd_intervals_are_clamped(offered, used):
    world = World(device(settings=DeviceSettings(keepalive_interval_s=offered)))

    assert world.roster.heartbeat(world.entry)[0] == used


def test_a_heartbeat_within_the_registration_brings_it_back():
    world = World()
    world.register()
    world.run(180)
    world.edges()

    world.beat()

    (edge,) = world.edges()
    assert edge.presence is Presence.ONLINE
    assert edge.cause == "heartbeat"


def test_after_coming_back_the_deadline_runs_again():
    world = World()
    world.register()
    world.run(180)
    world.beat()
    world.edges()

    world.run(360)

    assert world.states() == [Presence.OFFLINE]


def test_other_messages_are_signs_of_life_but_bring_nobody_back():
    world = World()
    world.register()
    world.run(100)
    world.roster.heard(world.entry, world.now, at(world.now))
    world.edges()

    world.run(279)
    assert world.edges() == []
    world.run(280)
    assert world.states() == [Presence.OFFLINE]
    world.roster.heard(world.entry, world.now, at(world.now))
    assert world.edges() == []


def test_an_expired_registration_takes_it_off_line_although_it_beats():
    world = World()
    world.register(expires_s=90)
    world.edges()
    world.run(60)
    world.beat()

    world.run(90)

    (edge,) = world.edges()
    assert edge.cause == "expired"
    assert "registration ended without renewal" in edge.evidence
    assert world.entry.binding is None
    assert not world.roster.registered(world.entry, world.now)


def test_a_renewal_moves_the_end_of_the_registration():
    world = World()
    world.register(expires_s=90)
    world.run(80)
    world.register(expires_s=90)
    world.edges()

    world.run(169)
    assert world.edges() == []
    world.run(170)
    assert world.edges()[0].cause == "expired"


def test_a_shorter_renewal_counts_too():
    world = World()
    world.register(expires_s=86_400)
    world.run(10)
    world.register(expires_s=60)
    world.edges()

    world.run(70)

    assert world.edges()[0].cause == "expired"


def test_unregistering_takes_it_off_line_at_once():
    world = World()
    world.register()
    world.edges()

    world.roster.unbind(world.entry, UDP, world.now, at(world.now))

    (edge,) = world.edges()
    assert (edge.presence, edge.cause) == (Presence.OFFLINE, "unregistered")
    assert world.entry.binding is None
    assert world.roster.by_peer(UDP) is None


def test_unregistering_twice_is_one_edge():
    world = World()
    world.register()
    world.roster.unbind(world.entry, UDP, 1.0, at(1.0))
    world.edges()

    world.roster.unbind(world.entry, UDP, 2.0, at(2.0))

    assert world.edges() == []


def test_a_closed_connection_has_its_leave():
    world = World(rules=PresenceRules(tcp_leave_s=10.0))
    world.register(TCP)
    world.run(5)
    world.edges()

    world.roster.disconnected(TCP, world.now)
    world.run(14)
    assert world.edges() == []
    world.run(15)

    (edge,) = world.edges()
    assert edge.cause == "disconnected"
    assert "TCP connection closed and not renewed within 10 s" in edge.evidence


def test_coming_back_over_another_connection_within_the_leave_is_no_edge():
    world = World()
    world.register(TCP)
    world.edges()
    world.roster.disconnected(TCP, world.now)

    world.run(5)
    world.beat(Peer(Transport.TCP, "192.0.2.7", 33_001, connection=5))
    world.run(100)

    assert world.edges() == []
    assert world.entry.peer is not None
    assert world.entry.peer.connection == 5


def test_the_close_of_an_old_connection_means_nothing_once_it_moved():
    world = World()
    world.register(TCP)
    newer = Peer(Transport.TCP, TCP.host, TCP.port, connection=9)
    world.register(newer)
    world.edges()

    assert world.roster.disconnected(TCP, world.now) is None
    world.run(60)

    assert world.edges() == []


def test_a_heartbeat_from_a_new_port_moves_the_binding():
    world = World()
    world.register()

    assert world.beat(MOVED)

    assert world.entry.peer == MOVED
    assert world.entry.binding is not None
    assert world.entry.binding.port == 40_000
    assert world.roster.by_peer(MOVED) is world.entry
    assert world.roster.by_peer(UDP) is None


def test_a_heartbeat_from_the_known_port_moves_nothing():
    world = World()
    world.register()

    assert not world.beat()


def test_two_devices_behind_one_address_in_turn_keep_their_own_bindings():
    world = World(device(1), device(2))
    world.register()
    second = world.roster.get(DeviceId("d2"))
    assert second is not None
    world.roster.bind(second, binding(), UDP, 3600, world.now)

    world.roster.unbind(second, UDP, world.now, at(world.now))

    assert world.entry.peer == UDP


def restored(**changes) -> Device:
    changes = {
        "presence": Presence.ONLINE,
        "presence_since_us": at(-500),
        "binding": binding(now=-100),
        "last_seen_us": at(-50),
        **changes,
    }
    return device(**changes)


def test_after_a_restart_presence_goes_on_and_is_no_edge():
    world = World(restored())

    world.run(100)

    assert world.edges() == []
    assert world.entry.presence is Presence.ONLINE
    assert world.entry.presence_since_us == at(-500)
    assert world.roster.registered(world.entry, world.now)
    assert world.roster.by_peer(UDP) is world.entry


def test_after_a_restart_nobody_is_called_away_for_three_intervals():
    world = World(restored(last_seen_us=at(-10_000), binding=binding(now=-10_000, expires_s=600)))

    world.run(179)
    assert world.edges() == []
    world.run(180)

    assert world.states() == [Presence.OFFLINE]


def test_the_freeze_holds_for_devices_with_one_miss_allowed():
    settings = DeviceSettings(keepalive_misses=1)
    world = World(restored(settings=settings))

    world.run(179)
    assert world.edges() == []
    world.run(180)

    assert world.states() == [Presence.OFFLINE]


def test_after_a_restart_a_tcp_device_may_connect_again_for_three_intervals():
    world = World(restored(binding=binding(TCP, -100)))

    world.run(179)
    assert world.edges() == []
    world.run(180)
    assert world.states() == [Presence.OFFLINE]


def test_a_restored_heartbeat_after_the_registration_ended_meanwhile_still_counts():
    world = World(restored(binding=binding(now=-10_000, expires_s=600)))
    world.run(20)

    assert world.roster.registered(world.entry, world.now)


def test_an_offline_device_stays_offline_after_a_restart():
    world = World(restored(presence=Presence.OFFLINE))

    world.run(300)

    assert world.edges() == []


def test_our_own_stall_calls_nobody_away():
    world = World()
    world.register()
    world.run(175)
    world.edges()

    world.now += 30.0  # the loop stood still; heartbeats wait in the socket
    world.roster.advance(world.now, at(world.now))
    world.beat()
    world.run(world.now + 60)

    assert world.edges() == []


def test_after_a_stall_who_is_really_away_is_called_away_a_little_later():
    world = World()
    world.register()
    world.run(175)
    world.edges()

    world.now += ADVANCE_MAX_S + 7
    world.roster.advance(world.now, at(world.now))
    assert world.edges() == []
    assert world.roster.next_deadline() == world.now + 10
    world.run(world.now + 10)

    assert world.states() == [Presence.OFFLINE]


def test_a_step_of_the_wall_clock_moves_no_timer_and_no_order():
    world = World()
    world.register()
    world.run(100)

    world.roster.unbind(world.entry, UDP, world.now, at(-5000))

    first, second = world.edges()
    assert second.at_us > first.at_us


def test_a_heartbeat_costs_no_timer():
    world = World()
    world.register()
    for _ in range(1000):
        world.beat()

    assert len(world.roster._due) == 1


def test_the_next_deadline_is_the_earliest():
    world = World(device(1), device(2))
    assert world.roster.next_deadline() is None

    world.register()

    assert world.roster.next_deadline() == 180.0


def test_rows_are_written_once_per_change_whatever_the_number_of_heartbeats():
    world = World()
    world.register()
    for _ in range(100):
        world.beat()

    (state,) = world.roster.take_states(1000)

    assert state.presence is Presence.ONLINE
    assert state.last_seen_us == at(0)
    assert state.binding is not None
    assert world.roster.take_states(1000) == []


def test_rows_come_in_batches_longest_waiting_first():
    world = World(*(device(n) for n in range(1, 6)))
    for entry in world.roster:
        world.roster.bind(entry, binding(), UDP, 3600, 0.0)

    first = world.roster.take_states(2)
    rest = world.roster.take_states(10)

    assert [state.device_id for state in first] == ["d1", "d2"]
    assert [state.device_id for state in rest] == ["d3", "d4", "d5"]


def test_rows_that_could_not_be_written_come_again_as_they_are_now():
    world = World()
    world.register()
    states = world.roster.take_states(10)
    world.run(5)
    world.beat()

    world.roster.put_back(states)

    (state,) = world.roster.take_states(10)
    assert state.last_seen_us == at(5)


def test_a_removed_device_is_gone_and_writes_nothing():
    world = World()
    world.register()

    world.roster.remove(DeviceId("d1"))

    assert world.roster.by_gb_id("34020000001320000001") is None
    assert world.roster.by_peer(UDP) is None
    assert world.roster.take_states(10) == []
    world.run(400)
    assert [edge.presence for edge in world.edges()] == [Presence.ONLINE]


def test_new_settings_keep_the_binding():
    world = World()
    world.register()
    world.edges()

    shorter = DeviceSettings(keepalive_interval_s=5, keepalive_misses=2)
    world.roster.put(device(settings=shorter), secret())

    assert world.entry.presence is Presence.ONLINE
    assert world.entry.peer == UDP
    world.run(10)
    assert world.states() == [Presence.OFFLINE]


def test_a_changed_code_is_found_under_the_new_one_only():
    world = World()

    world.roster.put(device(gb_id=GbId("34020000001320000099")), secret())

    assert world.roster.by_gb_id("34020000001320000001") is None
    assert world.roster.by_gb_id("34020000001320000099") is not None


def test_addresses_read_as_in_a_capture():
    assert address(UDP) == "192.0.2.7:5060/udp"
    assert address(Peer(Transport.TCP, "2001:db8::7", 5060)) == "[2001:db8::7]:5060/tcp"


def test_evidence_reads_beijing_time():
    assert beijing_time(UtcMicros(START_US)) == "10:00:00"
    assert beijing_time(UtcMicros(0)) == "08:00:00"
