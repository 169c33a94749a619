from dataclasses import replace

from vsp.model.ids import DepartmentId, RegionId, UtcMicros
from vsp.model.people import Department, Region, RegionLevel
from vsp.store import Store


def region(region_id: str = "r1", **changes) -> Region:
    made = Region(
        id=RegionId(region_id),
        code="3402",
        name="Wuhu",
        level=RegionLevel.CITY,
        parent_id=RegionId("r0"),
        valid_from_us=UtcMicros(100),
        valid_to_us=None,
    )
    return replace(made, **changes)


async def as_of(store: Store, at_us: int) -> list[Region]:
    return list(await store.people.regions(UtcMicros(at_us)))


async def test_a_region_is_there_from_its_first_day(store: Store):
    await store.people.put_region(region(), UtcMicros(500))

    assert await as_of(store, 99) == []
    assert await as_of(store, 100) == [region()]
    assert await as_of(store, 10_000) == [region()]


async def test_a_change_from_a_date_on_leaves_the_past_as_it_was(store: Store):
    renamed = region(name="New Wuhu", valid_from_us=UtcMicros(200))
    await store.people.put_region(region(), UtcMicros(500))
    await store.people.put_region(renamed, UtcMicros(501))

    assert await as_of(store, 199) == [region()]
    assert await as_of(store, 200) == [renamed]


async def test_an_ended_region_is_in_the_past_only(store: Store):
    ended = region(valid_to_us=UtcMicros(300))
    await store.people.put_region(region(), UtcMicros(500))
    await store.people.put_region(ended, UtcMicros(501))

    assert await as_of(store, 299) == [ended]
    assert await as_of(store, 300) == []


async def test_a_correction_of_the_past_is_put_with_what_follows_it(store: Store):
    second = region(name="second", valid_from_us=UtcMicros(200))
    corrected = region(name="corrected first")
    for version in (region(name="wrong first"), second, corrected, second):
        await store.people.put_region(version, UtcMicros(500))

    assert await as_of(store, 150) == [corrected]
    assert await as_of(store, 250) == [second]


async def test_regions_come_by_code(store: Store):
    for region_id, code in (("a", "3403"), ("b", "34"), ("c", "340201")):
        await store.people.put_region(region(region_id, code=code), UtcMicros(1))

    assert [each.code for each in await as_of(store, 1_000)] == ["34", "340201", "3403"]


async def test_departments_have_versions_too(store: Store):
    police = Department(
        id=DepartmentId("d1"),
        name="公安局",
        kind="police",
        region_id=RegionId("r1"),
        valid_from_us=UtcMicros(100),
        valid_to_us=None,
    )
    moved = replace(police, region_id=None, valid_from_us=UtcMicros(200))
    traffic = replace(police, id=DepartmentId("d2"), name="交通局", kind="transport")
    for version in (police, moved, traffic):
        await store.people.put_department(version, UtcMicros(1))

    assert set(await store.people.departments(UtcMicros(150))) == {police, traffic}
    assert set(await store.people.departments(UtcMicros(250))) == {moved, traffic}
    assert await store.people.departments(UtcMicros(50)) == []
