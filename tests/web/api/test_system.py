"""The platform's own numbers by HTTP."""

from tests.web.conftest import Site
from vsp.model.ids import RegionId, WorkerId
from vsp.model.people import Region, RegionLevel
from vsp.model.stream import Troubles


async def test_the_overview_counts(site: Site):
    channel = await site.rig.channel()
    site.rig.streams.recording.add(channel.id)

    counts = (await site.api("GET", "/overview")).json

    assert (counts["devices"], counts["channels"], counts["streams"], counts["recording"]) == (
        1,
        1,
        1,
        1,
    )


async def test_streams_are_listed_with_what_was_measured(site: Site):
    channel = await site.rig.channel()
    site.rig.streams.recording.add(channel.id)

    answer = (await site.api("GET", "/streams")).json

    assert answer["total"] == 1
    assert answer["items"][0]["channel_id"] == channel.id
    assert answer["items"][0]["stats"]["width"] == 1920


async def test_metrics_are_text_for_prometheus(site: Site):
    answer = await site.api("GET", "/metrics", who="auditor")

    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE vsp_http_requests_total counter" in answer.text


async def test_the_audit_log_is_paged_newest_first(site: Site):
    await site.token("admin")
    await site.token("auditor")

    first = (await site.api("GET", "/audit?size=1", who="auditor")).json
    second = (
        await site.api("GET", "/audit", who="auditor", params={"size": 1, "after": first["next"]})
    ).json

    newest, older = first["items"][0], second["items"][0]
    assert (newest["actor"], newest["phase"], newest["result"]) == ("auditor", "ended", "ok")
    assert older["phase"] == "opened"
    assert older["seq"] == newest["seq"] - 1


async def test_regions_and_departments_are_listed(site: Site):
    region = Region(
        RegionId("r1"), "340200", "芜湖市", RegionLevel.CITY, None, site.rig.clock.now_us(), None
    )
    await site.rig.store.people.put_region(region, site.rig.clock.now_us())

    (listed,) = (await site.api("GET", "/regions")).json["items"]

    assert (listed["code"], listed["level"], listed["valid_to"]) == ("340200", "city", None)
    assert (await site.api("GET", "/departments")).json["items"] == []


async def test_alarms_that_stand_are_told_with_cause_and_since(site: Site):
    await site.rig.actions.alarms.worker_troubles(WorkerId(0), Troubles({"store": "no room"}))

    [alarm] = (await site.api("GET", "/alarms", who="operator")).json["items"]

    assert (alarm["kind"], alarm["subject"], alarm["cause"]) == ("store", "worker:0", "no room")
    assert alarm["since"].endswith("Z")
    assert alarm["until"] is None


async def test_alarms_of_a_window_are_told_with_their_end(site: Site):
    alarms, clock = site.rig.actions.alarms, site.rig.clock
    await alarms.database("full")
    clock.pass_s(60)
    await alarms.database("")
    clock.pass_s(60)

    assert (await site.api("GET", "/alarms")).json["items"] == []
    [past] = (await site.api("GET", "/alarms?from=2026-01-01T00:00:00Z")).json["items"]
    assert past["until"] > past["since"]
    before = (await site.api("GET", "/alarms?to=2026-01-01T00:00:00Z")).json["items"]
    assert before == []
    refused = await site.api("GET", "/alarms?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z")
    assert refused.status == 400
