"""Channels and views by HTTP."""

from tests.actions.rig import CHANNEL_GB_ID, GB_ID, NOON_US
from tests.web.conftest import Site
from vsp.model.ids import UtcMicros
from vsp.model.stream import Attempt, AttemptStep, Leg

WINDOW = {"from": "2026-11-18T11:00:00Z", "to": "2026-11-18T12:00:00+00:00"}


async def test_a_channel_is_listed_shown_and_changed(site: Site):
    channel = await site.rig.channel()

    (listed,) = (await site.api("GET", f"/channels?device={GB_ID}&q=东")).json["items"]
    assert (listed["id"], listed["device_gb_id"], listed["class"]) == (
        channel.id,
        GB_ID,
        "ordinary",
    )
    assert listed == (await site.api("GET", f"/channels/{CHANNEL_GB_ID}")).json

    patch = {"record_plan": "none", "name": "西门"}
    changed = (await site.api("PATCH", f"/channels/{channel.id}", json=patch)).json
    assert (changed["record_plan"], changed["name"]) == ("none", "西门")


async def test_an_unknown_device_as_filter_is_not_found(site: Site):
    assert (await site.api("GET", "/channels?device=34020000001329999999")).status == 404


async def test_a_live_view_is_opened_watched_and_closed(site: Site):
    channel = await site.rig.channel()

    for body in ({"json": {}}, {}, {"json": {"reason": "incident 7"}}):
        opened = await site.api("POST", f"/channels/{channel.id}/live", who="operator", **body)
        assert opened.status == 201
    view = opened.json
    assert view.keys() == {"view_id", "url", "ticket", "expires_at"}
    assert view["url"].startswith("ws://127.0.0.1:18100/live/")
    assert view["expires_at"] == "2026-11-18T11:07:40.000Z"

    shown = (await site.api("GET", f"/views/{view['view_id']}", who="operator")).json
    assert (shown["state"], shown["kind"], shown["stream"]["viewers"]) == ("flowing", "live", 3)

    assert (await site.api("GET", f"/views/{view['view_id']}", who="auditor")).status == 404
    closed = await site.api("DELETE", f"/views/{view['view_id']}", who="operator")
    assert (closed.status, closed.text) == (204, "")
    shown = (await site.api("GET", f"/views/{view['view_id']}", who="operator")).json
    assert (shown["state"], shown["cause"]) == ("ended", "closed by its viewer")
    assert (await site.api("DELETE", f"/views/{view['view_id']}", who="operator")).status == 204


async def test_playback_begins_at_an_instant_of_any_zone(site: Site):
    await site.rig.channel()
    path = f"/channels/{CHANNEL_GB_ID}/playback"

    opened = await site.api("POST", path, json={"start": "2026-11-18T19:00:00+08:00"})
    assert opened.status == 201

    for body in (
        {},
        {"start": "yesterday"},
        {"start": "2026-11-18T11:00:00"},
        {"start": "2026-11-18T11:00:00Z", "end": "2026-11-18T11:00:00Z"},
    ):
        assert (await site.api("POST", path, json=body)).status == 400


async def test_the_timeline_is_spans_and_gaps_between_instants(site: Site):
    await site.rig.channel()

    line = (await site.api("GET", f"/channels/{CHANNEL_GB_ID}/timeline", params=WINDOW)).json

    assert (line["from"], line["to"]) == ("2026-11-18T11:00:00.000Z", "2026-11-18T12:00:00.000Z")
    assert line["spans"] == []
    (gap,) = line["gaps"]
    assert (gap["start"], gap["end"]) == (line["from"], "2026-11-18T11:06:40.000Z")
    assert gap["cause"] == "not_planned"


async def test_files_on_the_device_are_listed(site: Site):
    await site.rig.channel()

    found = (await site.api("GET", f"/channels/{CHANNEL_GB_ID}/records", params=WINDOW)).json

    assert found["items"] == [
        {
            "name": "file",
            "start": "2026-11-18T11:00:00.000Z",
            "end": "2026-11-18T12:00:00.000Z",
            "kind": "time",
            "size_bytes": 1024,
        }
    ]


async def test_an_attempt_tells_its_story_and_its_failing_leg(site: Site):
    channel = await site.rig.channel()
    await site.rig.store.streams.save_attempt(
        Attempt(
            "a1",
            channel.id,
            NOON_US,
            UtcMicros(NOON_US + 1_000_000),
            succeeded=False,
            leg=Leg.REFUSED,
            cause="refused: 486 Busy Here",
            next_step="see its trace",
            steps=(AttemptStep(NOON_US, "INVITE sent", "Call-ID x"),),
        )
    )

    (told,) = (await site.api("GET", f"/channels/{channel.id}/attempts")).json["items"]

    assert (told["leg"], told["succeeded"]) == ("refused", False)
    assert told["steps"] == [
        {"at": "2026-11-18T11:06:40.000Z", "what": "INVITE sent", "detail": "Call-ID x"}
    ]
