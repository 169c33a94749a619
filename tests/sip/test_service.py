"""The whole of signalling over its own sockets and its own store, towards raw test devices."""

import asyncio
import contextlib
import random
import re

import pytest
from structlog.testing import capture_logs

from tests.sip import ua
from tests.sip.stage import Stage, add, obedient, stage
from vsp.errors import Conflict, NotFound, Unavailable, Unsupported
from vsp.model.changes import Axis
from vsp.model.device import DeviceSecret, Presence, Transport
from vsp.model.ids import DeviceId, GbId, UtcMicros
from vsp.ports import PageRequest
from vsp.sip.admission import KNOWN_BURST, KNOWN_PER_S
from vsp.sip.core.agent import Peer

CHANNELS = [f"3402000000132000{n:04}" for n in range(1, 6)]
STRANGER = "34020000001320009999"
MUTANTS = 3000


@pytest.fixture
async def at(tmp_path):
    async with stage(tmp_path) as on_stage:
        yield on_stage


async def until_catalogued(at: Stage, device: ua.UdpUa, *channels: str):
    device.script = obedient(device, *channels)
    await device.register()
    async with asyncio.timeout(5):
        return (await at.catalogs.get())[1]


# ---- registration ---------------------------------------------------------------------------


async def test_a_device_registers_and_is_on_line_in_memory_callback_row_and_log(at):
    async with at.device() as nvr:
        answer = await nvr.register()

        assert ua.status_of(answer) == 200
        assert ua.header(answer, "Contact") == f"<sip:{ua.NVR}@{nvr.address}>"
        assert ua.header(answer, "Expires") == "3600"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", ua.header(answer, "Date"))
        assert ua.header(answer, "X-GB-Ver") == "3.0"
        assert f"rport={nvr.port}" in ua.header(answer, "Via")
        assert at.service.presence(at.nvr.id)[0] is Presence.ONLINE
        device_id, state, evidence = at.presence.get_nowait()
        assert (device_id, state) == (at.nvr.id, Presence.ONLINE)
        assert evidence == f"registered from {nvr.address}/udp, expires in 3600 s"
        row = await at.row()
        assert row.presence is Presence.ONLINE
        assert (row.binding.host, row.binding.port) == ("127.0.0.1", nvr.port)
        points = await at.store.changes.between(
            f"device:{at.nvr.id}", Axis.PRESENCE, UtcMicros(0), UtcMicros(1 << 60)
        )
        assert [point.state for point in points] == ["online"]


async def test_a_wrong_password_is_answered_403_with_the_version(at):
    async with at.device() as nvr:
        answer = await nvr.register(password="wrong")

        assert ua.status_of(answer) == 403
        assert ua.header(answer, "X-GB-Ver") == "3.0"
        assert at.service.presence(at.nvr.id)[0] is not Presence.ONLINE


async def test_unregistering_takes_it_off_line(at):
    async with at.device() as nvr:
        await nvr.register()

        answer = await nvr.register(expires="0")

        assert ua.status_of(answer) == 200
        assert at.service.presence(at.nvr.id)[0] is Presence.OFFLINE
        assert (await at.row()).binding is None


async def test_an_unknown_device_becomes_a_candidate_in_the_book(at):
    async with at.device(STRANGER) as stranger:
        answer = await stranger.ask(ua.register(STRANGER, address=stranger.address))

        assert ua.status_of(answer) == 403
        await at.service._writer.flush()
        (seen,) = (await at.store.devices.candidates(PageRequest())).items
        assert (seen.gb_id, seen.host, seen.port) == (STRANGER, "127.0.0.1", stranger.port)


async def test_a_stranger_gets_five_answers_then_silence(at):
    async with at.device(STRANGER) as stranger:
        for _ in range(12):
            stranger.send(ua.register(STRANGER, address=stranger.address))

        for _ in range(5):
            assert ua.status_of(await stranger.receive()) == 403
        assert await stranger.silent(0.1)
        assert at.counted("vsp_sip_refused silenced") == 7


async def test_a_flood_of_strangers_does_not_silence_a_known_device_behind_the_same_address(at):
    async with at.device(STRANGER) as stranger, at.device() as nvr:
        for _ in range(50):
            stranger.send(ua.register(STRANGER, address=stranger.address))

        assert ua.status_of(await nvr.register()) == 200


async def test_a_device_added_while_running_can_register(at):
    async with at.device(STRANGER) as fresh:
        await fresh.ask(ua.register(STRANGER, address=fresh.address))

        device = await add(at.store, STRANGER)
        at.service.device_added(device, DeviceSecret(device.id, ua.PASSWORD))

        assert ua.status_of(await fresh.register()) == 200


async def test_a_removed_device_is_a_stranger(at):
    async with at.device() as nvr:
        await nvr.register()

        at.service.device_removed(at.nvr.id)

        answer = await nvr.ask(ua.message(ua.keepalive(), address=nvr.address))
        assert ua.status_of(answer) == 403
        assert at.service.presence(at.nvr.id) == (Presence.UNKNOWN, 0)
        assert at.service.trace(at.nvr.id) == []
        with pytest.raises(NotFound):
            await at.service.refresh_catalog(at.nvr.id)


async def test_after_a_restart_presence_goes_on_and_the_heartbeat_is_still_accepted(tmp_path):
    port = ua.free_port()
    nvr_socket = None
    async with stage(tmp_path, port) as before:
        nvr_socket = before.device()
        await nvr_socket.__aenter__()
        await nvr_socket.register()
        since = before.service.presence(before.nvr.id)[1]

    async with stage(tmp_path, port) as after:
        assert after.service.presence(after.nvr.id) == (Presence.ONLINE, since)
        beat = ua.message(ua.keepalive(), address=nvr_socket.address)
        assert ua.status_of(await nvr_socket.ask(beat)) == 200
        assert after.presence.empty()
    await nvr_socket.__aexit__()


async def test_a_taken_port_is_a_conflict_that_names_the_setting(at, tmp_path):
    other = tmp_path / "other"
    other.mkdir()

    with pytest.raises(Conflict, match=r"sip\.port"):
        async with stage(other, at.service.port):
            pass


# ---- MESSAGE: who speaks --------------------------------------------------------------------


async def test_a_heartbeat_is_answered_and_seen(at):
    async with at.device() as nvr:
        await nvr.register()
        before = (await at.row()).last_seen_us

        answer = await nvr.ask(ua.message(ua.keepalive(), address=nvr.address))

        assert ua.status_of(answer) == 200
        assert ua.body_of(answer) == b""
        assert (await at.row()).last_seen_us > before


async def test_a_heartbeat_of_a_device_we_forgot_is_answered_403(at):
    async with at.device() as nvr:
        assert ua.status_of(await nvr.ask(ua.message(ua.keepalive()))) == 403


async def test_a_heartbeat_from_another_host_has_no_effect(at):
    async with at.device() as nvr, at.device(host="127.0.0.2") as forger:
        await nvr.register()

        answer = await forger.ask(ua.message(ua.keepalive(), address=forger.address))

        assert ua.status_of(answer) == 403
        assert (await at.row()).binding.host == "127.0.0.1"


async def test_a_catalogue_from_another_host_has_no_effect(at):
    async with at.device() as nvr, at.device(host="127.0.0.2") as forger:
        await nvr.register()
        query = await nvr.query("Catalog")
        forged = ua.catalog(ua.sn_of(query), 1, ua.catalog_item(CHANNELS[0]))

        answer = await forger.ask(ua.message(forged, address=forger.address))

        assert ua.status_of(answer) == 403
        assert at.service.catalog_progress(at.nvr.id) == (0, None)


async def test_a_heartbeat_from_a_new_port_moves_where_queries_go(at):
    async with at.device() as before, at.device() as after:
        await before.register()
        await before.query("Catalog")

        answer = await after.ask(ua.message(ua.keepalive(), address=after.address))

        assert ua.status_of(answer) == 200
        asked = asyncio.create_task(at.service.device_status(at.nvr.id))
        query = await after.query("DeviceStatus")
        after.send(ua.reply(query))
        after.send(ua.message(ua.device_status(ua.sn_of(query)), address=after.address))
        assert (await asked)["Online"] == "ONLINE"
        assert "source-port-moved" in at.quirks(at.nvr)


@pytest.mark.parametrize(
    ("sender", "quirk"),
    [
        ("<sip:3402000000>;tag=1", "from-without-id"),
        (f"<sip:{CHANNELS[3]}@3402000000>;tag=1", "from-names-channel"),
    ],
)
async def test_a_device_that_does_not_name_itself_is_known_by_its_exact_address(at, sender, quirk):
    async with at.device() as nvr, at.device() as neighbour:
        await nvr.register()
        beat = ua.message(ua.keepalive(), from_=sender, address=nvr.address)

        assert ua.status_of(await nvr.ask(beat)) == 200
        assert quirk in at.quirks(at.nvr)
        other = ua.message(ua.keepalive(), from_=sender, address=neighbour.address)
        assert ua.status_of(await neighbour.ask(other)) == 403


async def test_a_heartbeat_without_a_branch_is_taken_and_noted(at):
    async with at.device() as nvr:
        await nvr.register()
        beat = re.sub(rb";branch=[^;\r]+", b"", ua.message(ua.keepalive(), address=nvr.address))

        assert ua.status_of(await nvr.ask(beat)) == 200
        assert "via-without-branch" in at.quirks(at.nvr)


async def test_a_device_that_unregisters_is_answered_and_gone_at_once(at):
    async with at.device() as nvr:
        await nvr.register()

        answer = await nvr.register(expires="0")

        assert ua.status_of(answer) == 200
        assert at.presence.qsize() == 2, "told before anything else happens, not with a tick"
        assert at.service.presence(at.nvr.id)[0] is Presence.OFFLINE


def forged_heartbeat(address: str) -> bytes:
    return ua.message(ua.keepalive(), address=address)


@pytest.mark.parametrize("forged", [ua.register, forged_heartbeat])
async def test_who_only_says_that_it_is_a_device_is_soon_met_with_silence(at, forged):
    async with at.device(host="127.0.0.2") as forger:
        answered = 0
        for _ in range(30):
            forger.send(forged(address=forger.address))
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(0.3):
                    await forger.receive(b"SIP/2.0")
                answered += 1

        assert KNOWN_BURST <= answered <= KNOWN_BURST + KNOWN_PER_S
        assert at.counted("vsp_sip_refused silenced") == 30 - answered


# ---- MESSAGE: bodies ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 200),
        (b"this is not XML", 400),
        (b"<Notify><CmdType>Alarm</CmdType><SN>1</SN></Notify>", 200),
        (b"<Response><CmdType>Unheard</CmdType><SN>1</SN></Response>", 200),
        (b"\x01\x02DataTransfer\x03", 200),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><Notify><CmdType>Alarm</CmdType></Notify>', 400),
        (b"<Notify>" * 5000, 400),
    ],
    ids=["empty", "text", "alarm", "unheard", "private", "dtd", "deep"],
)
async def test_bodies_are_answered_for_what_they_are(at, body, status):
    async with at.device() as nvr:
        await nvr.register()

        answer = await nvr.ask(ua.message(body, address=nvr.address))

        assert ua.status_of(answer) == status


async def test_tolerances_are_noted_by_name(at):
    async with at.device() as nvr:
        await nvr.register()

        await nvr.ask(ua.message(b"", address=nvr.address))
        await nvr.ask(ua.message(ua.keepalive(), address=nvr.address, length=0))
        await nvr.ask(ua.message(b"xDataTransferx", address=nvr.address))
        broken = b"<Notify><CmdType>Alarm</CmdType><SN>1</SN><A>a & b</A></Notify>"
        await nvr.ask(ua.message(broken, address=nvr.address))

        assert at.quirks(at.nvr) == {
            "empty-message",
            "content-length-wrong",
            "private-command",
            "broken-xml",
        }


async def test_a_long_body_is_parsed_beside_the_loop_and_answered_after(at):
    items = [ua.catalog_item(f"3402000000132{n:07}") for n in range(120)]
    async with at.device() as nvr:
        await nvr.register()
        query = await nvr.query("Catalog")
        page = ua.catalog(ua.sn_of(query), 120, *items)
        assert len(page) > 32 * 1024
        nvr.send(ua.reply(query))

        answer = await nvr.ask(ua.message(page, address=nvr.address))

        assert ua.status_of(answer) == 200
        async with asyncio.timeout(5):
            _, diff = await at.catalogs.get()
        assert (diff.received, diff.complete) == (120, True)


async def test_a_repeated_request_gets_the_same_answer_and_counts_once(at):
    async with at.device() as nvr:
        await nvr.register()
        beat = ua.message(ua.keepalive(), address=nvr.address)

        first, second = await nvr.ask(beat), await nvr.ask(beat)

        assert first == second
        assert at.counted("vsp_sip_keepalives") == 1


# ---- other methods --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "status"),
    [
        ("OPTIONS", 200),
        ("SUBSCRIBE", 405),
        ("FROBNICATE", 405),
        ("INFO", 481),
        ("NOTIFY", 481),
        ("BYE", 481),
        ("INVITE", 488),
    ],
)
async def test_each_method_has_the_answer_that_ends_it(at, method, status):
    async with at.device() as nvr:
        await nvr.register()

        answer = await nvr.ask(ua.request(method))

        assert ua.status_of(answer) == status
        if status in (200, 405):
            allowed = ua.header(answer, "Allow").split(", ")
            assert {"INVITE", "ACK", "INFO", "CANCEL", "BYE", "OPTIONS", "MESSAGE"} <= set(allowed)


async def test_a_strangers_options_probe_is_answered_and_its_invite_is_not(at):
    async with at.device(STRANGER) as stranger:
        assert ua.status_of(await stranger.ask(ua.request("OPTIONS", STRANGER))) == 200

        stranger.send(ua.request("INVITE", STRANGER))

        assert await stranger.silent(0.7)  # longer than T1: no refusal is repeated either


async def test_junk_and_line_ends_do_no_harm(at):
    async with at.device() as nvr:
        for junk in (b"\r\n\r\n", b"\x00\x01\x00\x00", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 900):
            nvr.send(junk)

        assert ua.status_of(await nvr.register()) == 200


# ---- catalogue ------------------------------------------------------------------------------


async def test_after_registration_the_catalogue_is_asked_for_and_applied(at):
    async with at.device() as nvr:
        diff = await until_catalogued(at, nvr, *CHANNELS)

        assert diff.complete
        assert (diff.received, diff.expected) == (5, 5)
        found = await at.channels(at.nvr)
        assert sorted(found) == CHANNELS
        assert found[CHANNELS[0]].name == "东门球机"
        assert found[CHANNELS[0]].playable


async def test_the_query_is_what_the_standard_prints(at):
    async with at.device() as nvr:
        await nvr.register()

        query = await nvr.query("Catalog")

        assert query.startswith(f"MESSAGE sip:{ua.NVR}@127.0.0.1:{nvr.port} SIP/2.0\r\n".encode())
        assert ua.header(query, "To") == f"<sip:{ua.NVR}@3402000000>"
        assert ua.header(query, "From").startswith("<sip:34020000002000000001@3402000000>;tag=")
        assert ua.header(query, "Content-Type") == "Application/MANSCDP+xml"
        assert re.fullmatch(
            rb'<\?xml version="1.0" encoding="GB2312"\?>\r\n<Query><CmdType>Catalog</CmdType>'
            rb"<SN>\d+</SN><DeviceID>34020000001180000001</DeviceID></Query>\r\n",
            ua.body_of(query),
        )


async def test_progress_can_be_read_while_pages_come(at):
    async with at.device() as nvr:
        await nvr.register()
        query = await nvr.query("Catalog")
        nvr.send(ua.reply(query))
        page = ua.catalog(ua.sn_of(query), 5, ua.catalog_item(CHANNELS[0]))

        await nvr.ask(ua.message(page, address=nvr.address))

        assert at.service.catalog_progress(at.nvr.id) == (1, 5)


async def test_a_short_answer_stays_partial_and_takes_nothing_away(at):
    async with at.device() as nvr:
        await until_catalogued(at, nvr, *CHANNELS)
        nvr.script = None
        asked = asyncio.create_task(at.service.refresh_catalog(at.nvr.id))
        query = await nvr.query("Catalog")
        nvr.send(ua.reply(query))
        page = ua.catalog(ua.sn_of(query), 5, *map(ua.catalog_item, CHANNELS[:2]))
        nvr.send(ua.message(page, address=nvr.address))

        diff = await asked

        assert (diff.received, diff.expected, diff.complete) == (2, 5, False)
        assert diff.missing == ()
        found = await at.channels(at.nvr)
        assert all(channel.missing_since_us is None for channel in found.values())
        assert not (await at.row()).catalog_complete


async def test_a_whole_answer_marks_what_is_missing_and_deletes_nothing(at):
    async with at.device() as nvr:
        await until_catalogued(at, nvr, *CHANNELS)
        nvr.script = obedient(nvr, *CHANNELS[:4])

        diff = await at.service.refresh_catalog(at.nvr.id)

        assert diff.missing == (CHANNELS[4],)
        assert sorted(await at.channels(at.nvr)) == CHANNELS


async def test_who_asks_while_an_answer_comes_in_shares_it(at):
    async with at.device() as nvr:
        await until_catalogued(at, nvr, *CHANNELS)
        before = len(nvr.seen)

        diffs = await asyncio.gather(*(at.service.refresh_catalog(at.nvr.id) for _ in range(5)))

        queries = [data for data in nvr.seen[before:] if b"<CmdType>Catalog" in data]
        assert len(queries) == 1
        assert all(diff.received == 5 for diff in diffs)


async def test_a_camera_with_an_empty_catalogue_becomes_its_own_channel(at):
    async with at.device(ua.CAMERA) as camera:
        diff = await until_catalogued(at, camera)

        assert diff.complete
        found = await at.channels(at.camera)
        assert list(found) == [ua.CAMERA]
        assert found[ua.CAMERA].playable
        assert "catalog-without-self" in at.quirks(at.camera)


async def test_a_camera_that_refuses_the_catalogue_becomes_its_own_channel_too(at):
    async with at.device(ua.CAMERA) as camera:
        camera.script = lambda data: (
            [ua.reply(data, "405 Method Not Allowed")] if data.startswith(b"MESSAGE") else []
        )
        await camera.register()

        async with asyncio.timeout(5):
            _, diff = await at.catalogs.get()

        assert not diff.complete
        assert list(await at.channels(at.camera)) == [ua.CAMERA]


async def test_a_recorder_that_does_not_answer_is_unavailable_and_says_so(tmp_path):
    async with stage(tmp_path, query_timeout_s=0.3) as at, at.device() as nvr:
        nvr.script = lambda data: [ua.reply(data)] if data.startswith(b"MESSAGE") else []
        await nvr.register()

        with pytest.raises(Unavailable, match=r"did not answer Catalog within 0\.3 s"):
            await at.service.refresh_catalog(at.nvr.id)


async def test_a_device_that_is_away_is_not_asked(at):
    with pytest.raises(Unavailable, match=f"device {ua.NVR} is "):
        await at.service.refresh_catalog(at.nvr.id)


async def test_a_refresh_of_the_registration_asks_nothing(at):
    async with at.device() as nvr:
        await until_catalogued(at, nvr, *CHANNELS)
        await nvr.register()
        before = len(nvr.seen)

        await nvr.register()

        assert not [data for data in nvr.seen[before:] if b"<CmdType>Catalog" in data]


async def test_coming_back_with_a_fresh_catalogue_asks_nothing(at):
    async with at.device() as nvr:
        await until_catalogued(at, nvr, *CHANNELS)
        await nvr.register(expires="0")
        before = len(nvr.seen)

        await nvr.register()

        await nvr.ask(ua.message(ua.keepalive(), address=nvr.address))
        assert not [data for data in nvr.seen[before:] if b"<CmdType>Catalog" in data]


async def test_the_catalogue_is_asked_for_again_after_the_refresh_period(tmp_path):
    async with stage(tmp_path, catalog_refresh_s=0.2) as at, at.device() as nvr:
        await until_catalogued(at, nvr, *CHANNELS)

        async with asyncio.timeout(5):
            _, again = await at.catalogs.get()

        assert again.complete


# ---- other queries --------------------------------------------------------------------------


async def test_device_info_is_asked_for_and_kept(at):
    async with at.device() as nvr:
        await until_catalogued(at, nvr, *CHANNELS)

        facts = await at.service.device_info(at.nvr.id)

        assert (facts.manufacturer, facts.model, facts.firmware) == ("Sim", "N-16", "V5.1")
        row = await at.row()
        assert (row.manufacturer, row.model, row.firmware) == ("Sim", "N-16", "V5.1")


async def test_an_answer_may_overtake_the_200_of_its_query(at):
    async with at.device() as nvr:
        await until_catalogued(at, nvr, *CHANNELS)
        nvr.script = None
        asked = asyncio.create_task(at.service.device_status(at.nvr.id))
        query = await nvr.query("DeviceStatus")

        await nvr.ask(ua.message(ua.device_status(ua.sn_of(query)), address=nvr.address))
        nvr.send(ua.reply(query))

        assert (await asked)["Record"] == "OFF"


async def test_a_device_that_cannot_do_a_query_is_unsupported(at):
    async with at.device() as nvr:
        await until_catalogued(at, nvr, *CHANNELS)
        nvr.script = lambda data: [ua.reply(data, "501 Not Implemented")]

        with pytest.raises(Unsupported, match="501 Not Implemented"):
            await at.service.device_status(at.nvr.id)


async def test_records_come_in_pages_out_of_order(at):
    start = UtcMicros(1_772_330_400_000_000)
    async with at.device() as nvr:
        await until_catalogued(at, nvr, *CHANNELS)
        nvr.script = None
        asked = asyncio.create_task(
            at.service.records(at.nvr.id, GbId(ua.CAMERA), start, UtcMicros(start + 3_600_000_000))
        )
        query = await nvr.query("RecordInfo")
        nvr.send(ua.reply(query))
        late = ua.record_item("2026-03-01T10:30:00", "2026-03-01T11:00:00", "alarm")
        early = ua.record_item("2026-03-01T10:00:00", "2026-03-01T10:30:00")
        sn = ua.sn_of(query)
        await nvr.ask(ua.message(ua.records(sn, 2, late), address=nvr.address))
        await nvr.ask(ua.message(ua.records(sn, 2, early), address=nvr.address))

        items = await asked

        assert b"<StartTime>2026-03-01T10:00:00</StartTime>" in query
        assert f"sip:{ua.CAMERA}@".encode() in query.split(b"\r\n")[0]
        assert [item.kind for item in items] == ["time", "alarm"]
        assert items[0].start_us == start
        assert items.complete
        assert items.expected == 2


async def test_a_short_record_list_is_marked(tmp_path, monkeypatch):
    monkeypatch.setattr("vsp.sip.command.RECORD_IDLE_S", 0.2)
    start = UtcMicros(1_772_330_400_000_000)
    async with stage(tmp_path) as at, at.device() as nvr:
        await until_catalogued(at, nvr, *CHANNELS)
        nvr.script = None
        asked = asyncio.create_task(
            at.service.records(at.nvr.id, GbId(ua.CAMERA), start, UtcMicros(start + 3_600_000_000))
        )
        query = await nvr.query("RecordInfo")
        nvr.send(ua.reply(query))
        item = ua.record_item("2026-03-01T10:00:00", "2026-03-01T10:30:00")
        nvr.send(ua.message(ua.records(ua.sn_of(query), 9, item), address=nvr.address))

        items = await asked

        assert len(items) == 1
        assert not items.complete
        assert items.expected == 9


# ---- trace ----------------------------------------------------------------------------------


async def test_the_trace_shows_both_directions_without_the_digest(at):
    async with at.device() as nvr:
        await nvr.register()

        lines = at.service.trace(at.nvr.id)

        assert [line.summary for line in lines[:4]] == [
            "REGISTER",
            "401 Unauthorized (REGISTER)",
            "REGISTER",
            "200 OK (REGISTER)",
        ]
        assert [line.outgoing for line in lines[:4]] == [False, True, False, True]
        assert lines[0].peer == f"{nvr.address}/udp"
        assert 'response="(removed)"' in lines[2].text


async def test_strangers_are_traced_apart(at):
    async with at.device(STRANGER) as stranger:
        await stranger.ask(ua.register(STRANGER, address=stranger.address))

        assert [line.summary for line in at.service.strangers()] == [
            "REGISTER",
            "403 Forbidden (REGISTER)",
        ]


# ---- TCP ------------------------------------------------------------------------------------


class TcpUa:
    """A device that speaks over one TCP connection of its own."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        self.port = self.writer.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *exc):
        self.writer.close()
        await asyncio.wait_for(self.writer.wait_closed(), 5)

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def receive(self) -> bytes:
        async with asyncio.timeout(5):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(ua.header(head, "Content-Length"))
            return head + await self.reader.readexactly(length)

    async def ask(self, data: bytes) -> bytes:
        self.send(data)
        while True:
            got = await self.receive()
            if got.startswith(b"SIP/2.0"):
                return got

    async def register(self) -> bytes:
        address = f"127.0.0.1:{self.port}"
        challenged = await self.ask(ua.register(address=address, transport="TCP"))
        signed = ua.authorization(ua.header(challenged, "WWW-Authenticate"))
        return await self.ask(
            ua.register(authorization=signed, cseq=2, address=address, transport="TCP")
        )


async def test_a_tcp_device_is_asked_over_its_own_connection(at):
    async with TcpUa(at.service.port) as nvr:
        assert ua.status_of(await nvr.register()) == 200

        query = await nvr.receive()

        assert query.startswith(b"MESSAGE")
        assert ua.header(query, "Via").startswith("SIP/2.0/TCP ")
        assert (await at.row()).binding.transport.value == "tcp"


async def test_a_tcp_device_whose_connection_closed_cannot_be_asked_and_goes_off_line(tmp_path):
    async with stage(tmp_path, tcp_leave_s=0.0) as at:
        async with TcpUa(at.service.port) as nvr:
            await nvr.register()
            await at.presence.get()

        async with asyncio.timeout(5):
            _, state, evidence = await at.presence.get()

        assert state is Presence.OFFLINE
        assert "TCP connection closed" in evidence
        with pytest.raises(Unavailable):
            await at.service.device_status(at.nvr.id)


async def test_within_the_leave_a_closed_connection_is_named_as_the_reason(at):
    async with TcpUa(at.service.port) as nvr:
        await nvr.register()
        await nvr.receive()
        nvr.writer.close()
        await nvr.writer.wait_closed()
        async with at.device() as probe:  # one round trip: the close has been seen
            await probe.ask(ua.request("OPTIONS", STRANGER))

        with pytest.raises(Unavailable, match="TCP connection"):
            await at.service.device_status(at.nvr.id)


async def test_unknown_devices_have_no_presence(at):
    assert at.service.presence(DeviceId("nobody")) == (Presence.UNKNOWN, 0)


# ---- hostile input and faults ---------------------------------------------------------------


def mutated(data: bytes, chance: random.Random) -> bytes:
    """One to four bytes changed, doubled, cut or moved."""
    mutant = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(mutant))
        match chance.randrange(4):
            case 0:
                mutant[at] = chance.randrange(256)
            case 1:
                mutant[at:at] = mutant[at : at + chance.randint(1, 40)]
            case 2:
                del mutant[at : at + chance.randint(1, 40)]
            case _:
                mutant[at:at] = chance.choice([b"\r\n", b"<", b"&", b"\x00", b";tag=", b'"'])
        if not mutant:
            return b"x"
    return bytes(mutant)


async def test_mutated_messages_cause_no_error_of_our_own(at):
    chance = random.Random(28181)
    async with at.device() as nvr:
        await nvr.register()
        query = await nvr.query("Catalog")
        sn = ua.sn_of(query)
        peer = Peer(Transport.UDP, "127.0.0.1", nvr.port)
        originals = [
            ua.register(address=nvr.address, authorization='Digest username="x", nonce="y"'),
            ua.message(ua.keepalive(), address=nvr.address),
            ua.message(ua.catalog(sn, 9, ua.catalog_item(CHANNELS[0])), address=nvr.address),
            ua.message(ua.device_info(sn), address=nvr.address),
            ua.message(ua.media_status(), address=nvr.address),
            ua.request("OPTIONS"),
            ua.bye(ua.reply(query).replace(b"To:", b"To: <sip:1@h>\r\nX:")),
            ua.reply(query),
        ]

        with capture_logs() as logged:
            for _ in range(MUTANTS):
                data = mutated(chance.choice(originals), chance)
                at.service._endpoint._received(data, peer)

        assert [line for line in logged if line["log_level"] == "error"] == []
        assert ua.status_of(await nvr.register()) == 200


async def test_a_fault_in_a_listener_does_not_stop_signalling(tmp_path):
    async with stage(tmp_path, tcp_leave_s=0.0) as at:

        def fail(*_):
            raise RuntimeError("the console is broken")

        at.service.on_presence = fail
        async with TcpUa(at.service.port) as nvr:
            assert ua.status_of(await nvr.register()) == 200
        at.service.on_presence = lambda *news: at.presence.put_nowait(news)
        async with TcpUa(at.service.port) as nvr:
            assert ua.status_of(await nvr.register()) == 200

        async with asyncio.timeout(5):
            while (await at.presence.get())[1] is not Presence.OFFLINE:
                pass


async def test_heartbeats_are_answered_while_the_database_hangs(at, monkeypatch):
    never = asyncio.Event()

    async def hang(*_):
        await never.wait()

    monkeypatch.setattr(at.store.devices, "save_states", hang)
    monkeypatch.setattr("vsp.sip.registrar.FLUSH_TIMEOUT_S", 0.1)
    async with at.device() as nvr:
        await nvr.register()
        assert not await at.service._writer.flush()

        answer = await nvr.ask(ua.message(ua.keepalive(), address=nvr.address))

        assert ua.status_of(answer) == 200
        assert at.service._roster.dirty() == 1
