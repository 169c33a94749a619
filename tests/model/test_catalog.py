import pytest

from vsp.model.catalog import (
    is_folder,
    is_playable,
    parent_of,
    parents_named,
    playable_of,
    type_code,
)
from vsp.model.device import CatalogItem
from vsp.model.ids import GbId


def code(kind: str) -> GbId:
    return GbId(f"3402000000{kind}0000001")


def item(gb_id: str, **changes) -> CatalogItem:
    return CatalogItem(GbId(gb_id), "name", **changes)


@pytest.mark.parametrize("kind", ["131", "132"])
@pytest.mark.parametrize("parental", [False, True])
@pytest.mark.parametrize("has_children", [False, True])
def test_a_camera_plays_whatever_else_is_said_of_it(kind, parental, has_children):
    assert is_playable(code(kind), parental, has_children)


@pytest.mark.parametrize("kind", ["111", "112", "118", "119", "129", "130", "138"])
def test_a_main_device_plays_only_when_nothing_hangs_below_it(kind):
    assert is_playable(code(kind), parental=False, has_children=False)
    assert not is_playable(code(kind), parental=True, has_children=False)
    assert not is_playable(code(kind), parental=False, has_children=True)


@pytest.mark.parametrize(
    "kind", ["110", "133", "134", "135", "136", "137", "139", "200", "215", "216", "218", "300"]
)
def test_everything_else_never_plays(kind):
    assert not is_playable(code(kind), parental=False, has_children=False)


@pytest.mark.parametrize(
    "gb_id", ["", "34", "340200", "34020000", "3402000000132000001", "34020000001320000001x"]
)
def test_short_and_malformed_codes_never_play(gb_id):
    assert not is_playable(gb_id, parental=False, has_children=False)
    assert type_code(gb_id) == ""


def test_other_digits_than_ascii_are_no_code():
    assert type_code("34020000001３20000001") == ""
    assert not is_folder("３４")


@pytest.mark.parametrize("gb_id", ["34", "3402", "340200", "34020000", code("200"), code("215")])
def test_civil_codes_systems_and_groups_are_folders(gb_id):
    assert is_folder(gb_id)


@pytest.mark.parametrize("gb_id", ["", "x", code("132"), code("118"), code("134")])
def test_devices_are_no_folders(gb_id):
    assert not is_folder(gb_id)


def test_a_recorder_with_cameras_below_it_does_not_play_even_when_it_denies_them():
    recorder = item(code("118"), parental=False, parent_ids=(code("200"),))
    camera = item(code("132"), parent_ids=(code("118"), code("216")))
    parents = parents_named([recorder, camera])

    assert parents == {code("200"), code("118"), code("216")}
    assert not playable_of(recorder, parents)
    assert playable_of(camera, parents)


def test_naming_oneself_makes_nobody_a_parent():
    encoder = item(code("111"), parent_ids=(code("111"),))

    assert playable_of(encoder, parents_named([encoder]))
    assert parent_of(encoder) == ""


@pytest.mark.parametrize(
    ("entry", "parent"),
    [
        (item(code("132"), parent_ids=(code("118"), code("216"))), code("118")),
        (item(code("132"), parent_ids=("", code("216"))), code("216")),
        (item(code("132"), business_group_id=code("215")), code("215")),
        (item(code("132")), ""),
        (item("34020000"), "340200"),
        (item("34"), ""),
        (item("340200", parent_ids=(code("200"),)), code("200")),
    ],
)
def test_the_parent_shown_is_the_first_named_then_the_group_then_the_shorter_code(entry, parent):
    assert parent_of(entry) == parent
