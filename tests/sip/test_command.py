"""Queries and their answers: tied by device, command and SN; paged answers with time in hand."""

import itertools

import pytest

from tests.sip import ua
from tests.sip.fakes import START_US, ManualClock, SystemIds
from vsp.errors import Exhausted, Invalid
from vsp.model.device import Transport
from vsp.model.ids import DeviceId, UtcMicros
from vsp.sip import command
from vsp.sip.command import Answers, Outbox, Paging, RecordAssembly, host_text, record_slices
from vsp.sip.core.agent import Peer
from vsp.sip.core.manscdp import recordinfo
from vsp.sip.core.manscdp.envelope import Body, parse_body
from vsp.sip.quirks import QuirkLedger

NVR = DeviceId("nvr")
OTHER = DeviceId("other")
HOUR_US = 3_600_000_000


def answers() -> tuple[Answers, QuirkLedger]:
    quirks = QuirkLedger()
    return Answers(SystemIds(), quirks, ManualClock()), quirks


def info(sn: int | str) -> Body:
    return parse_body(ua.device_info(sn))


# ---- tying answers to queries ---------------------------------------------------------------


def test_an_answer_reaches_the_query_of_its_device_command_and_number():
    table, _ = answers()
    got: list[Body] = []
    sn = table.open(NVR, "DeviceInfo", got.append)

    assert table.deliver(NVR, info(sn))

    assert [body.sn for body in got] == [sn]


def test_two_queries_of_one_device_do_not_mix():
    table, _ = answers()
    first: list[Body] = []
    second: list[Body] = []
    table.open(NVR, "DeviceInfo", first.append)
    sn = table.open(NVR, "DeviceInfo", second.append)

    table.deliver(NVR, info(sn))

    assert (len(first), len(second)) == (0, 1)


def test_another_devices_answer_with_our_number_is_nobodys():
    table, _ = answers()
    got: list[Body] = []
    sn = table.open(NVR, "DeviceInfo", got.append)

    assert not table.deliver(OTHER, info(sn))
    assert got == []


def test_an_answer_to_another_command_is_nobodys():
    table, _ = answers()
    sn = table.open(NVR, "Catalog", lambda _: None)

    assert not table.deliver(NVR, info(sn))


def test_a_late_answer_is_nobodys():
    table, _ = answers()
    sn = table.open(NVR, "DeviceInfo", lambda _: None)
    table.close(NVR, "DeviceInfo", sn)

    assert not table.deliver(NVR, info(sn))
    assert len(table) == 0


def test_an_answer_without_number_belongs_to_the_only_open_query():
    table, quirks = answers()
    got: list[Body] = []
    table.open(NVR, "DeviceInfo", got.append)

    assert table.deliver(NVR, info(""))

    assert len(got) == 1
    assert [shown.quirk.name for shown in quirks.of(NVR)] == ["sn-missing"]


def test_an_answer_without_number_belongs_to_none_of_two():
    table, _ = answers()
    table.open(NVR, "DeviceInfo", lambda _: None)
    table.open(NVR, "DeviceInfo", lambda _: None)

    assert not table.deliver(NVR, info(""))


def test_numbers_stay_below_what_a_signed_int_holds(monkeypatch):
    monkeypatch.setattr(command, "SN_LAST", command.SN_FIRST + 900_001)
    table, _ = answers()

    numbers = {table.open(NVR, "DeviceInfo", lambda _: None) for _ in range(9000)}

    assert max(numbers) <= command.SN_FIRST + 900_001 < 2**31
    assert min(numbers) > 0


def test_open_queries_are_bounded(monkeypatch):
    monkeypatch.setattr(command, "OPEN_MAX", 2)
    table, _ = answers()
    for _ in range(2):
        table.open(NVR, "DeviceInfo", lambda _: None)

    with pytest.raises(Exhausted):
        table.open(NVR, "DeviceInfo", lambda _: None)


# ---- paging ---------------------------------------------------------------------------------


def paging() -> Paging:
    return Paging(now=100.0, first_s=10.0, idle_s=8.0, total_s=60.0)


def test_without_a_page_the_wait_is_that_for_the_first():
    assert paging().deadline == 110.0
    assert not paging().complete


def test_each_page_extends_the_wait_by_the_idle_time():
    pages = paging()

    pages.page(10, 100, now=105.0)

    assert pages.deadline == 113.0


def test_a_whole_answer_ends_after_a_moment():
    pages = paging()

    pages.page(100, 100, now=105.0)

    assert pages.complete
    assert pages.deadline == 105.0 + command.SETTLE_S


def test_fewer_than_there_were_may_be_a_late_page_and_not_all():
    pages = Paging(now=100.0, first_s=10.0, idle_s=8.0, total_s=60.0, before=100)

    pages.page(10, 10, now=105.0)
    assert (pages.complete, pages.deadline) == (True, 113.0)
    pages.page(20, 10, now=109.0)
    assert (pages.complete, pages.deadline) == (False, 117.0)

    pages.page(100, 100, now=110.0)
    assert (pages.complete, pages.deadline) == (True, 110.0 + command.SETTLE_S)


def test_an_answer_that_never_ends_is_cut():
    pages = paging()
    for second in range(100, 160, 5):
        pages.page(second, 10_000, now=float(second))

    assert pages.deadline == 160.0


def test_more_than_announced_is_not_complete():
    pages = paging()

    pages.page(3, 1, now=101.0)

    assert not pages.complete
    assert pages.deadline == 109.0


def test_a_device_that_counts_each_page_by_itself_ends_as_partial():
    pages = paging()
    pages.page(1, 1, now=101.0)
    assert pages.complete

    pages.page(2, 1, now=101.2)

    assert not pages.complete
    assert pages.deadline == 109.2


def test_the_largest_announced_total_counts():
    pages = paging()
    pages.page(1, 8, now=101.0)
    pages.page(2, 3, now=102.0)

    assert pages.expected == 8
    assert pages.sum_changed


@pytest.mark.parametrize("total", [None, -1])
def test_a_missing_or_negative_total_announces_nothing(total):
    pages = paging()

    pages.page(4, total, now=101.0)

    assert pages.expected is None
    assert not pages.complete


def test_an_empty_answer_is_whole():
    pages = paging()

    pages.page(0, 0, now=101.0)

    assert pages.complete


# ---- record lists ---------------------------------------------------------------------------


def page(total: int, *items: str) -> recordinfo.RecordPage:
    return recordinfo.parse_response(parse_body(ua.records(7, total, *items)))


MORNING = ua.record_item("2026-03-01T10:00:00", "2026-03-01T10:30:00")
NOON = ua.record_item("2026-03-01T12:00:00", "2026-03-01T12:30:00")
ALARM = ua.record_item("2026-03-01T10:00:00", "2026-03-01T10:30:00", "alarm")


def test_record_pages_may_come_in_any_order():
    assembly = RecordAssembly(0.0, 10.0)

    assembly.add(page(2, NOON), 1.0)
    assembly.add(page(2, MORNING), 2.0)

    assert assembly.paging.complete
    first, second = assembly.items
    assert first.start_us == START_US
    assert second.start_us == START_US + 2 * HOUR_US


def test_a_repeated_record_page_counts_once():
    assembly = RecordAssembly(0.0, 10.0)

    assembly.add(page(2, MORNING), 1.0)
    assembly.add(page(2, MORNING), 2.0)

    assert assembly.paging.received == 1
    assert not assembly.paging.complete


def test_a_timed_and_an_alarm_file_of_one_span_are_two():
    assembly = RecordAssembly(0.0, 10.0)

    assembly.add(page(2, MORNING, ALARM), 1.0)

    assert [item.kind for item in assembly.items] == ["time", "alarm"]


def test_hollow_items_count_and_are_left_out():
    assembly = RecordAssembly(0.0, 10.0)

    assembly.add(page(2, MORNING, ua.record_item("", "", gb_id="")), 1.0)

    assert assembly.paging.complete
    assert len(assembly.items) == 1
    assert assembly.hollow == 1


def test_record_items_are_bounded(monkeypatch):
    monkeypatch.setattr(command, "RECORD_ITEMS_MAX", 1)
    assembly = RecordAssembly(0.0, 10.0)

    assembly.add(page(2, MORNING, NOON), 1.0)

    assert len(assembly.items) == 1
    assert not assembly.paging.complete


def test_a_long_range_is_asked_in_twelve_hour_slices_without_gap_or_overlap():
    until = UtcMicros(START_US + 30 * HOUR_US)

    slices = record_slices(START_US, until)

    assert [end - start for start, end in slices] == [12 * HOUR_US, 12 * HOUR_US, 6 * HOUR_US]
    assert slices[0][0] == START_US
    assert slices[-1][1] == until
    assert all(left[1] == right[0] for left, right in itertools.pairwise(slices))


@pytest.mark.parametrize("hours", [0, -1, 12 * command.RECORD_SLICES_MAX + 1])
def test_an_empty_or_endless_range_is_refused(hours):
    with pytest.raises(Invalid):
        record_slices(START_US, UtcMicros(START_US + hours * HOUR_US))


# ---- addressing -----------------------------------------------------------------------------


def test_requests_name_the_target_at_the_address_it_registered_from():
    peer = Peer(Transport.UDP, "198.51.100.20", 5060)

    assert Outbox.target(ua.CAMERA, peer) == f"sip:{ua.CAMERA}@198.51.100.20:5060"
    assert Outbox.remote_uri("34020100002000000001") == "sip:34020100002000000001@3402010000"


def test_addresses_of_the_sixth_version_stand_in_brackets():
    assert host_text("2001:db8::1") == "[2001:db8::1]"
    assert host_text("192.0.2.1") == "192.0.2.1"
