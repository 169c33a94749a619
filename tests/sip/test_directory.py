"""Catalogue answers put together, and who is asked when; time is an argument."""

import pytest

from tests.sip import ua
from tests.sip.fakes import START_US, device
from vsp.model.device import Presence
from vsp.model.ids import DeviceId, UtcMicros
from vsp.sip import directory
from vsp.sip.core.manscdp import catalog
from vsp.sip.core.manscdp.envelope import parse_body
from vsp.sip.directory import (
    CatalogAssembly,
    CatalogPlan,
    catalog_age_s,
    first_page_s,
    own_channel,
    retry_after_s,
)
from vsp.sip.presence import Entry

A, B, C = DeviceId("a"), DeviceId("b"), DeviceId("c")
ITEMS = [f"3402000000132000{n:04}" for n in range(100)]


def page(total: int | str, *gb_ids: str, parent: str = ua.NVR) -> catalog.CatalogPage:
    items = (ua.catalog_item(gb_id, parent=parent) for gb_id in gb_ids)
    return catalog.parse_response(parse_body(ua.catalog(17430, total, *items)))


def assembly() -> CatalogAssembly:
    return CatalogAssembly(now=0.0, first_s=10.0, idle_s=8.0)


def entry(gb_id: str, **changes) -> Entry:
    return Entry(*device(gb_id, **changes))


# ---- putting an answer together -------------------------------------------------------------


def test_pages_are_whole_when_as_many_devices_are_there_as_announced():
    answer = assembly()

    answer.add(page(3, *ITEMS[:2]), 1.0)
    assert not answer.paging.complete
    answer.add(page(3, ITEMS[2]), 2.0)

    assert answer.paging.complete
    assert [item.gb_id for item in answer.items] == ITEMS[:3]


def test_one_item_a_message_is_put_together_too():
    answer = assembly()

    for n, gb_id in enumerate(ITEMS):
        answer.add(page(100, gb_id), float(n))

    assert answer.paging.complete
    assert len(answer.items) == 100


def test_a_device_named_twice_counts_once():
    answer = assembly()

    answer.add(page(2, ITEMS[0]), 1.0)
    answer.add(page(2, ITEMS[0]), 2.0)

    assert answer.paging.received == 1
    assert not answer.paging.complete


def test_a_device_named_under_two_parents_keeps_both():
    answer = assembly()

    answer.add(page(2, ITEMS[0], parent="34020000002160000001"), 1.0)
    answer.add(page(2, ITEMS[0], parent="34020000002160000002"), 2.0)

    (item,) = answer.items
    assert item.parent_ids == ("34020000002160000001", "34020000002160000002")


def test_an_answer_that_falls_silent_is_partial():
    answer = assembly()

    answer.add(page(3, *ITEMS[:2]), 1.0)

    assert answer.paging.deadline == 9.0
    assert (answer.paging.received, answer.paging.expected) == (2, 3)
    assert not answer.paging.complete


def test_an_item_without_a_code_leaves_the_answer_partial():
    answer = assembly()

    answer.add(page(2, ITEMS[0], ""), 1.0)

    assert not answer.paging.complete
    assert len(answer.items) == 1


def test_items_are_bounded(monkeypatch):
    monkeypatch.setattr(directory, "ITEMS_MAX", 2)
    answer = assembly()

    answer.add(page(3, *ITEMS[:3]), 1.0)

    assert len(answer.items) == 2
    assert not answer.paging.complete


# ---- a camera as its own channel ------------------------------------------------------------


def items_of(*gb_ids: str, parent: str = ua.NVR):
    return list(page(len(gb_ids), *gb_ids, parent=parent).items)


def test_a_camera_with_an_empty_catalogue_is_its_own_channel():
    own = own_channel(entry(ua.CAMERA), [])

    assert own is not None
    assert own.gb_id == ua.CAMERA
    assert own.status is Presence.ONLINE


def test_a_camera_that_lists_itself_needs_no_help():
    assert own_channel(entry(ua.CAMERA), items_of(ua.CAMERA)) is None


def test_a_camera_with_a_channel_of_another_code_needs_no_help():
    assert own_channel(entry(ua.CAMERA), items_of("34020000001310000001")) is None


def test_a_camera_that_lists_only_its_alarm_input_is_its_own_channel():
    assert own_channel(entry(ua.CAMERA), items_of("34020000001340000001")) is not None


def test_a_recorder_without_cameras_has_no_channel():
    assert own_channel(entry(ua.NVR), []) is None


# ---- who is asked when ----------------------------------------------------------------------


def test_the_nearest_is_asked_first_and_only_when_due():
    plan = CatalogPlan()
    plan.want(A, 30.0)
    plan.want(B, 10.0)

    assert plan.next_deadline() == 10.0
    assert plan.take(9.9, 10) == []
    assert plan.take(10.0, 10) == [B]
    assert plan.take(30.0, 10) == [A]
    assert plan.next_deadline() is None


def test_no_more_are_taken_than_there_are_slots():
    plan = CatalogPlan()
    for device_id in (A, B, C):
        plan.want(device_id, 1.0)

    assert plan.take(5.0, 2) == [A, B]
    assert plan.take(5.0, 0) == []
    assert plan.take(5.0, 2) == [C]


def test_registering_again_and_again_is_one_question():
    plan = CatalogPlan()
    for n in range(1000):
        plan.want(A, 10.0 + n)

    assert plan.take(9999.0, 10) == [A]
    assert len(plan) == 0
    assert plan._heap == []


def test_an_earlier_wish_wins():
    plan = CatalogPlan()
    plan.want(A, 3600.0)
    plan.want(A, 5.0)

    assert plan.take(5.0, 10) == [A]
    assert plan.take(3600.0, 10) == []


def test_a_removed_device_is_not_asked():
    plan = CatalogPlan()
    plan.want(A, 5.0)

    plan.forget(A)

    assert plan.next_deadline() is None
    assert plan.take(10.0, 10) == []


def test_failures_are_spaced_out_up_to_the_refresh_period():
    waits = [retry_after_s(n, 3600.0) for n in range(1, 9)]

    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert retry_after_s(10_000, 3600.0) == 3600


@pytest.mark.parametrize(
    ("gb_id", "wait_s"), [(ua.CAMERA, 10.0), (ua.NVR, 10.0), (ua.PLATFORM, 180.0)]
)
def test_a_lower_platform_has_minutes_for_its_first_page(gb_id, wait_s):
    assert first_page_s(entry(gb_id).device.kind, 10.0) == wait_s


def test_the_age_of_a_catalogue_is_none_before_the_first():
    assert catalog_age_s(entry(ua.NVR), START_US) is None
    known = entry(ua.NVR, catalog_at_us=UtcMicros(START_US - 5_000_000))
    assert catalog_age_s(known, START_US) == 5.0
