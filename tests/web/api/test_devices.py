"""Devices and candidates by HTTP."""

import aiohttp
import pytest

from tests.actions.rig import CHANNEL_GB_ID, DEVICE_PASSWORD, GB_ID, NOON_US
from tests.web.conftest import Site
from vsp.model.device import Binding, Candidate, Presence, Transport
from vsp.model.ids import GbId, UtcMicros
from vsp.ports import DeviceState
from vsp.web.api import devices as devices_module

OTHER = "34020000001320000002"
SHEET = f"gb_id,password,name\n{OTHER},x7Kd92mP,北门\n12,x7Kd92mP,\n{OTHER},x7Kd92mP,twice\n"


async def test_a_device_is_added_shown_changed_and_removed(site: Site):
    added = await site.api(
        "POST",
        "/devices",
        json={
            "gb_id": GB_ID, "password": DEVICE_PASSWORD, "name": "东门", "transport": "tcp",
            "media_transport": "tcp_passive", "charset": "utf-8", "version": "2022", "record": True,
        },
    )  # fmt: skip
    assert added.status == 201
    assert added.json["settings"]["media_transport"] == "tcp_passive"
    assert (added.json["presence"], added.json["address"], added.json["channels"]) == (
        "unknown",
        None,
        0,
    )

    by_id = (await site.api("GET", f"/devices/{added.json['id']}")).json
    by_code = (await site.api("GET", f"/devices/{GB_ID}")).json
    assert by_id == by_code == added.json

    patch = {"name": "西门", "transport": None, "keepalive_interval_s": 30}
    changed = (await site.api("PATCH", f"/devices/{GB_ID}", json=patch)).json
    assert (changed["name"], changed["settings"]["transport"]) == ("西门", None)
    assert changed["settings"]["keepalive_interval_s"] == 30
    assert changed["settings"]["charset"] == "utf-8"

    assert (await site.api("DELETE", f"/devices/{GB_ID}")).status == 204
    assert (await site.api("GET", f"/devices/{GB_ID}")).status == 404


async def test_a_taken_code_and_unusable_passwords_are_refused(site: Site):
    body = {"gb_id": GB_ID, "password": DEVICE_PASSWORD}
    assert (await site.api("POST", "/devices", json=body)).status == 201

    assert (await site.api("POST", "/devices", json=body)).status == 409
    for weak in ("", "x" * 200, OTHER):
        answer = await site.api("POST", "/devices", json={"gb_id": OTHER, "password": weak})
        assert (answer.status, answer.json["kind"]) == (400, "invalid")
        assert not weak or weak not in answer.text


async def test_a_registered_device_shows_where_it_is(site: Site):
    channel = await site.rig.channel()
    binding = Binding(
        Transport.UDP, "192.0.2.7", 5060, "sip:x", NOON_US, UtcMicros(NOON_US + 1), "IPC/1", "3.0"
    )
    state = DeviceState(channel.device_id, binding, NOON_US, Presence.ONLINE, NOON_US)
    await site.rig.store.devices.save_states([state])

    (shown,) = (await site.api("GET", "/devices?presence=online")).json["items"]

    assert (shown["address"], shown["transport"]) == ("192.0.2.7:5060", "udp")
    assert (shown["user_agent"], shown["gb_version"], shown["channels"]) == ("IPC/1", "3.0", 1)
    assert shown["last_seen"] == "2026-11-18T11:06:40.000Z"


async def test_a_list_is_paged_by_its_cursor(site: Site):
    for number in range(5):
        await site.rig.channel(GbId(f"3402000000118000000{number}"))

    first = (await site.api("GET", "/devices?size=2")).json
    second = (await site.api("GET", "/devices", params={"size": 2, "after": first["next"]})).json
    third = (await site.api("GET", "/devices", params={"size": 2, "after": second["next"]})).json

    codes = [item["gb_id"][-1] for page in (first, second, third) for item in page["items"]]
    assert codes == list("01234")
    assert (first["total"], third["next"]) == (5, None)


def form(data: str) -> aiohttp.FormData:
    made = aiohttp.FormData()
    made.add_field("file", data.encode("gb18030"), filename="d.csv", content_type="text/csv")
    return made


@pytest.mark.parametrize(
    "sent",
    [
        lambda: {"data": SHEET.encode(), "headers": {"Content-Type": "text/csv"}},
        lambda: {"data": SHEET.encode("gb18030"), "headers": {"Content-Type": "text/csv"}},
        lambda: {"json": {"csv": SHEET}},
        lambda: {"data": form(SHEET)},
    ],
    ids=["utf-8", "gb18030", "json", "form"],
)
async def test_a_dirty_sheet_names_each_bad_line_however_it_is_sent(site: Site, sent):
    answer = await site.api("POST", "/devices:import", **sent())

    assert answer.status == 200
    assert (answer.json["added"], answer.json["total"]) == (1, 3)
    assert [(each["line"], each["gb_id"]) for each in answer.json["failed"]] == [
        (3, "12"),
        (4, OTHER),
    ]
    assert (await site.api("GET", f"/devices/{OTHER}")).json["name"] == "北门"


async def test_a_second_import_updates_only_when_asked(site: Site):
    body = {"json": {"csv": f"gb_id,password,name\n{OTHER},x7Kd92mP,new\n"}}
    await site.api("POST", "/devices", json={"gb_id": OTHER, "password": DEVICE_PASSWORD})

    refused = (await site.api("POST", "/devices:import", **body)).json
    updated = (await site.api("POST", "/devices:import?update=true", **body)).json

    assert (refused["added"], len(refused["failed"])) == (0, 1)
    assert (updated["added"], updated["updated"], updated["failed"]) == (0, 1, [])


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xff\xff", b"gb_id\n", b'{"csv":1}', b"PK\x03\x04\xff\xff"]
)
async def test_what_is_not_a_sheet_is_refused_as_a_whole(site: Site, data: bytes):
    answer = await site.api("POST", "/devices:import", data=data)

    assert (answer.status, answer.json["kind"]) == (400, "invalid")


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"rubbish"),
        ("multipart/form-data; boundary=x", b"--x--\r\n"),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n--x--\r\n",
        ),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Transfer-Encoding: odd\r\n\r\nabc\r\n--x--\r\n",
        ),
        ("application/json", b"["),
    ],
)  # fmt: skip
async def test_a_broken_form_is_refused(site: Site, content_type: str, data: bytes):
    answer = await site.api(
        "POST", "/devices:import", data=data, headers={"Content-Type": content_type}
    )

    assert (answer.status, answer.json["kind"]) == (400, "invalid")


@pytest.mark.parametrize("as_form", [False, True])
async def test_a_sheet_is_cut_off_at_its_limit(site: Site, monkeypatch, as_form: bool):
    monkeypatch.setattr(devices_module, "IMPORT_BYTES_MAX", len(SHEET))

    long = SHEET + "," * 100
    sent = {"data": form(long)} if as_form else {"data": long.encode()}

    assert (await site.api("POST", "/devices:import", **sent)).status == 413


async def test_a_device_is_asked_by_http(site: Site):
    await site.rig.channel()

    trace = (await site.api("GET", f"/devices/{GB_ID}/trace?limit=5")).json
    catalog = (await site.api("POST", f"/devices/{GB_ID}/catalog")).json
    info = (await site.api("GET", f"/devices/{GB_ID}/info")).json
    status = (await site.api("GET", f"/devices/{GB_ID}/status")).json
    history = (await site.api("GET", f"/devices/{GB_ID}/history")).json

    assert trace["items"][0]["summary"] == "REGISTER"
    assert catalog["added"] == [CHANNEL_GB_ID]
    assert (info["manufacturer"], info["firmware"]) == ("Maker", "V5.7")
    assert status == {"status": {"Online": "ONLINE", "Record": "OFF"}}
    assert history["items"] == []


async def test_candidates_are_listed_approved_and_dismissed(site: Site):
    seen = Candidate(GbId(GB_ID), "192.0.2.9", 5060, Transport.UDP, "IPC", NOON_US, NOON_US, 3)
    other = Candidate(GbId(OTHER), "192.0.2.8", 5060, Transport.TCP, "IPC", NOON_US, NOON_US, 1)
    await site.rig.store.devices.saw_candidates([seen, other])

    listed = (await site.api("GET", "/candidates")).json["items"]
    approved = await site.api(
        "POST",
        "/candidates:approve",
        json={"items": [{"gb_id": GB_ID, "password": DEVICE_PASSWORD, "name": "东门"}]},
    )
    dismissed = await site.api("POST", "/candidates:dismiss", json={"gb_ids": [OTHER]})

    assert {(c["gb_id"], c["attempts"]) for c in listed} == {(GB_ID, 3), (OTHER, 1)}
    assert approved.json == {"approved": 1, "failed": []}
    assert dismissed.status == 204
    assert (await site.api("GET", "/candidates")).json["items"] == []


async def test_a_password_is_never_told_again(site: Site):
    await site.api("POST", "/devices", json={"gb_id": GB_ID, "password": DEVICE_PASSWORD})

    for path in ("/devices", f"/devices/{GB_ID}", "/audit?size=500"):
        assert DEVICE_PASSWORD not in (await site.api("GET", path)).text
