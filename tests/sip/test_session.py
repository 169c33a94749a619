"""INVITE, its dialog and its end, over real sockets towards a raw test device."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.platform import until
from tests.sip import ua
from tests.sip.stage import Stage, stage
from vsp.errors import Invalid, NotFound
from vsp.model.device import Transport
from vsp.model.ids import ChannelId, DeviceId, GbId, SessionId, WorkerId
from vsp.model.stream import Leg
from vsp.ports import DialogUse, InviteSpec
from vsp.sip import ledger, session
from vsp.sip.core.sdp import Answer
from vsp.sip.session import InviteFailed, remote_media, subject_of, transport_of

SSRC = 200_000_001
USE = DialogUse(ChannelId("c1"), SessionId("s1"), WorkerId(0))


@pytest.fixture
async def at(tmp_path):
    async with stage(tmp_path) as on_stage:
        yield on_stage


def busy(data: bytes) -> list[bytes]:
    return [ua.reply(data, "486 Busy Here")] if data.startswith(b"MESSAGE") else []


@asynccontextmanager
async def registered(at: Stage):
    """A recorder on line that refuses every MESSAGE, so that only INVITE traffic is queued."""
    async with at.device() as nvr:
        nvr.script = busy
        await nvr.register()
        yield nvr


def spec(at: Stage, transport: str = "udp", device_id: DeviceId | None = None) -> InviteSpec:
    return InviteSpec(
        device_id=device_id or at.nvr.id,
        channel_gb_id=GbId(ua.CAMERA),
        host="192.0.2.11",
        port=30000,
        transport=transport,
        ssrc=SSRC,
        use=USE,
    )


def call(at: Stage, transport: str = "udp") -> asyncio.Task:
    return asyncio.create_task(at.service.invite(spec(at, transport)))


def ok(nvr: ua.UdpUa, invite: bytes, body: bytes | None = None) -> bytes:
    contact = f"sip:{ua.CAMERA}@{nvr.address}"
    return ua.reply(invite, body=ua.answer_sdp() if body is None else body, contact=contact)


async def up(at: Stage, nvr: ua.UdpUa):
    """A confirmed dialog: the answer, and the INVITE as the device saw it."""
    calling = call(at)
    invite = await nvr.receive(b"INVITE")
    nvr.send(ok(nvr, invite))
    answer = await calling
    await nvr.receive(b"ACK")
    return answer, invite


# ---- a stream comes up ----------------------------------------------------------------------


async def test_the_invite_is_what_the_standard_prints(at):
    async with registered(at) as nvr:
        calling = call(at)

        invite = await nvr.receive(b"INVITE")

        assert invite.startswith(f"INVITE sip:{ua.CAMERA}@{nvr.address} SIP/2.0\r\n".encode())
        assert ua.header(invite, "To") == f"<sip:{ua.CAMERA}@3402000000>"
        assert ua.header(invite, "From").startswith(f"<sip:{ua.PLATFORM}@3402000000>;tag=")
        contact = f"<sip:{ua.PLATFORM}@127.0.0.1:{at.service.port}>"
        assert ua.header(invite, "Contact") == contact
        assert ua.header(invite, "Subject") == f"{ua.CAMERA}:0200000001,{ua.PLATFORM}:0"
        assert ua.header(invite, "CSeq") == "1 INVITE"
        assert ua.header(invite, "Content-Type").upper() == "APPLICATION/SDP"
        lines = ua.body_of(invite).decode().split("\r\n")
        assert lines[:6] == [
            "v=0",
            f"o={ua.PLATFORM} 0 0 IN IP4 192.0.2.11",
            "s=Play",
            "c=IN IP4 192.0.2.11",
            "t=0 0",
            lines[5],
        ]
        assert lines[5].startswith("m=video 30000 RTP/AVP 96")
        assert "a=recvonly" in lines
        assert "a=rtpmap:96 PS/90000" in lines
        assert lines[-2:] == ["y=0200000001", ""]
        nvr.send(ok(nvr, invite))
        await calling


async def test_an_answer_brings_the_dialog_and_who_will_send(at):
    async with registered(at) as nvr:
        answer, invite = await up(at, nvr)

        assert answer.remote.hosts == ("127.0.0.1",)
        assert answer.remote.port == 15060
        assert answer.remote.ssrc == SSRC
        assert (96, "PS") in answer.remote.payloads
        assert answer.dialog.call_id == ua.header(invite, "Call-ID")
        assert answer.dialog.remote_tag == "d77"
        assert answer.dialog.remote_target == f"sip:{ua.CAMERA}@{nvr.address}"
        assert (answer.dialog.transport, answer.dialog.host) == (Transport.UDP, "127.0.0.1")
        assert at.counted("vsp_sip_invites ok") == 1


async def test_the_ack_is_bodiless_and_in_the_dialog(at):
    async with registered(at) as nvr:
        calling = call(at)
        invite = await nvr.receive(b"INVITE")
        nvr.send(ok(nvr, invite))

        ack = await nvr.receive(b"ACK")

        assert ua.header(ack, "CSeq") == "1 ACK"
        assert ua.header(ack, "To").endswith(";tag=d77")
        assert ua.header(ack, "Via") != ua.header(invite, "Via")
        assert ua.body_of(ack) == b""
        await calling


async def test_a_repeated_200_is_acknowledged_again(at):
    async with registered(at) as nvr:
        _, invite = await up(at, nvr)

        nvr.send(ok(nvr, invite))

        assert (await nvr.receive()).startswith(b"ACK")


async def test_provisional_answers_of_every_kind_are_waited_through(at):
    async with registered(at) as nvr:
        calling = call(at)
        invite = await nvr.receive(b"INVITE")
        for status in (
            "100 Trying",
            "101 Dialog Establishment",
            "180 Ringing",
            "183 Session Progress",
        ):
            nvr.send(ua.reply(invite, status))

        nvr.send(ok(nvr, invite))

        assert (await calling).remote.port == 15060


async def test_media_behind_a_translator_may_come_from_the_signalling_address_too(at):
    async with registered(at) as nvr:
        calling = call(at)
        invite = await nvr.receive(b"INVITE")

        nvr.send(ok(nvr, invite, ua.answer_sdp(host="10.1.2.3")))

        assert (await calling).remote.hosts == ("10.1.2.3", "127.0.0.1")


async def test_an_answer_without_ssrc_is_taken_and_noted(at):
    async with registered(at) as nvr:
        calling = call(at)
        nvr.send(ok(nvr, await nvr.receive(b"INVITE"), ua.answer_sdp(y=None)))

        assert (await calling).remote.ssrc is None
        assert "answer-without-ssrc" in at.quirks(at.nvr)


async def test_another_ssrc_in_the_answer_is_followed_and_noted(at):
    async with registered(at) as nvr:
        calling = call(at)
        nvr.send(ok(nvr, await nvr.receive(b"INVITE"), ua.answer_sdp(y="100000077")))

        assert (await calling).remote.ssrc == 100_000_077
        assert "answer-ssrc-differs" in at.quirks(at.nvr)


async def test_tcp_passive_is_offered_and_an_answer_without_setup_is_taken(at):
    async with registered(at) as nvr:
        calling = call(at, "tcp_passive")
        invite = await nvr.receive(b"INVITE")

        nvr.send(ok(nvr, invite, ua.answer_sdp(profile="TCP/RTP/AVP")))

        offer = ua.body_of(invite)
        assert b"m=video 30000 TCP/RTP/AVP 96" in offer
        assert b"a=setup:passive\r\na=connection:new\r\n" in offer
        assert (await calling).remote.port == 15060
        assert "answer-without-setup" in at.quirks(at.nvr)


async def test_a_proper_tcp_answer_is_no_quirk(at):
    async with registered(at) as nvr:
        calling = call(at, "tcp_passive")
        sdp = ua.answer_sdp(profile="TCP/RTP/AVP", setup="active")
        nvr.send(ok(nvr, await nvr.receive(b"INVITE"), sdp))

        await calling
        assert at.quirks(at.nvr) == set()


# ---- a stream does not come up --------------------------------------------------------------


async def failure(calling: asyncio.Task) -> InviteFailed:
    with pytest.raises(InviteFailed) as caught:
        await calling
    return caught.value


async def test_a_device_off_line_is_that_leg(at):
    failed = await failure(call(at))

    assert failed.leg is Leg.DEVICE_OFFLINE
    assert ua.NVR in failed.message
    assert at.counted("vsp_sip_invites device_offline") == 1


async def test_no_answer_is_that_leg_and_is_cancelled(tmp_path):
    async with stage(tmp_path, invite_timeout_s=0.4) as at, registered(at) as nvr:
        calling = call(at)
        invite = await nvr.receive(b"INVITE")
        nvr.send(ua.reply(invite, "100 Trying"))

        failed = await failure(calling)

        assert failed.leg is Leg.NO_SIP_ANSWER
        assert nvr.address in failed.message
        assert ua.header(invite, "Call-ID") in failed.message
        cancel = await nvr.receive(b"CANCEL")
        assert ua.header(cancel, "Via") == ua.header(invite, "Via")
        assert ua.header(cancel, "CSeq") == "1 CANCEL"


async def test_a_200_after_the_cancel_is_acknowledged_and_ended(tmp_path):
    async with stage(tmp_path, invite_timeout_s=0.4) as at, registered(at) as nvr:
        calling = call(at)
        invite = await nvr.receive(b"INVITE")
        nvr.send(ua.reply(invite, "100 Trying"))
        await failure(calling)
        cancel = await nvr.receive(b"CANCEL")

        nvr.send(ok(nvr, invite))
        nvr.send(ua.reply(cancel))

        await nvr.receive(b"ACK")
        bye = await nvr.receive(b"BYE")
        assert ua.header(bye, "To").endswith(";tag=d77")


async def test_cancelling_the_task_cancels_the_invite(at):
    async with registered(at) as nvr:
        calling = call(at)
        nvr.send(ua.reply(await nvr.receive(b"INVITE"), "180 Ringing"))
        async with at.device() as probe:  # one round trip: the 180 has been read
            await probe.ask(ua.request("OPTIONS", "34020000001320009999"))

        calling.cancel()

        assert (await nvr.receive(b"CANCEL")).startswith(b"CANCEL")


async def test_a_refusal_names_status_warning_peer_and_call(at):
    async with registered(at) as nvr:
        calling = call(at)
        invite = await nvr.receive(b"INVITE")

        warning = 'Warning: 399 34020000001180000001 "session cap reached"'
        nvr.send(ua.reply(invite, "486 Busy Here", extra=warning))

        failed = await failure(calling)
        assert (failed.leg, failed.status) == (Leg.REFUSED, 486)
        assert "486 Busy Here" in failed.message
        assert "session cap reached" in failed.message
        assert nvr.address in failed.message
        assert ua.header(invite, "Call-ID") in failed.message
        assert "number of streams" in failed.next_step
        assert (await nvr.receive(b"ACK")).startswith(b"ACK")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no sdp at all",
        ua.answer_sdp(port=0),
        ua.answer_sdp().replace(b"PS/90000", b"DAHUA/90000"),
    ],
    ids=["empty", "text", "port-0", "private"],
)
async def test_a_bad_answer_is_that_leg_and_the_dialog_is_ended(at, body):
    async with registered(at) as nvr:
        calling = call(at)
        invite = await nvr.receive(b"INVITE")
        nvr.send(ok(nvr, invite, body))
        await nvr.receive(b"ACK")
        nvr.send(ua.reply(await nvr.receive(b"BYE")))

        failed = await failure(calling)

        assert failed.leg is Leg.BAD_ANSWER
        assert ua.header(invite, "Call-ID") in failed.message


async def test_an_unknown_device_is_not_found(at):
    with pytest.raises(NotFound):
        await at.service.invite(spec(at, device_id=DeviceId("nobody")))


async def test_an_unknown_transport_is_our_callers_fault(at):
    async with registered(at):
        with pytest.raises(Invalid, match="quic"):
            await at.service.invite(spec(at, "quic"))


# ---- ending ---------------------------------------------------------------------------------


async def test_bye_ends_the_dialog_with_the_next_number(at):
    async with registered(at) as nvr:
        answer, invite = await up(at, nvr)
        ending = asyncio.create_task(at.service.bye(answer.dialog))

        bye = await nvr.receive(b"BYE")

        assert bye.startswith(f"BYE sip:{ua.CAMERA}@{nvr.address} SIP/2.0".encode())
        assert ua.header(bye, "CSeq") == "2 BYE"
        assert ua.header(bye, "Call-ID") == ua.header(invite, "Call-ID")
        assert ua.header(bye, "From") == ua.header(invite, "From")
        nvr.send(ua.reply(bye))
        await ending
        assert len(at.service._sessions) == 0
        assert at.service._sessions.ledger.owed == 0


async def test_a_bye_answered_481_is_done_too(at):
    async with registered(at) as nvr:
        answer, _ = await up(at, nvr)
        ending = asyncio.create_task(at.service.bye(answer.dialog))

        nvr.send(ua.reply(await nvr.receive(b"BYE"), "481 Call/Transaction Does Not Exist"))

        await ending
        assert at.service._sessions.ledger.owed == 0


async def test_a_bye_that_is_not_answered_is_repeated_when_the_device_returns(at, monkeypatch):
    monkeypatch.setattr(session, "BYE_TIMEOUT_S", 0.2)
    async with registered(at) as nvr:
        answer, _ = await up(at, nvr)
        await at.service.bye(answer.dialog)
        first = await nvr.receive(b"BYE")
        assert at.service._sessions.ledger.owed == 1

        async with at.device() as rebooted:  # the same device, from another port
            await rebooted.register()
            again = await rebooted.receive(b"BYE")
            rebooted.send(ua.reply(again, "481 Call/Transaction Does Not Exist"))
            async with at.device() as probe:
                await probe.ask(ua.request("OPTIONS", "34020000001320009999"))

        assert ua.header(again, "Call-ID") == ua.header(first, "Call-ID")
        assert int(ua.header(again, "CSeq").split()[0]) > int(ua.header(first, "CSeq").split()[0])
        assert at.service._sessions.ledger.owed == 0


async def test_a_busy_device_is_first_told_of_our_stale_dialogs_then_asked_again(at, monkeypatch):
    monkeypatch.setattr(session, "BYE_TIMEOUT_S", 0.2)
    async with registered(at) as nvr:
        answer, _ = await up(at, nvr)
        await at.service.bye(answer.dialog)
        await nvr.receive(b"BYE")
        calling = call(at)
        nvr.send(ua.reply(await nvr.receive(b"INVITE"), "486 Busy Here"))
        await nvr.receive(b"ACK")

        nvr.send(ua.reply(await nvr.receive(b"BYE")))
        nvr.send(ok(nvr, await nvr.receive(b"INVITE")))

        assert (await calling).remote.port == 15060


async def test_a_bye_of_the_device_is_answered_and_told(at):
    async with registered(at) as nvr:
        answer, invite = await up(at, nvr)

        reply = await nvr.ask(ua.bye(invite))

        assert ua.status_of(reply) == 200
        call_id, cause = at.ended.get_nowait()
        assert call_id == answer.dialog.call_id
        assert "BYE" in cause
        assert len(at.service._sessions) == 0


async def test_a_bye_with_a_wrong_tag_is_no_dialog_of_ours(at):
    async with registered(at) as nvr:
        _, invite = await up(at, nvr)

        reply = await nvr.ask(ua.bye(invite, tag="other"))

        assert ua.status_of(reply) == 481
        assert at.ended.empty()
        assert len(at.service._sessions) == 1


async def test_a_bye_from_another_host_is_no_dialog_of_ours(at):
    async with registered(at) as nvr, at.device(host="127.0.0.2") as forger:
        _, invite = await up(at, nvr)

        reply = await forger.ask(ua.bye(invite, address=forger.address))

        assert ua.status_of(reply) == 481
        assert at.ended.empty()


@pytest.mark.parametrize("in_dialog", [True, False], ids=["in dialog", "tags lost"])
async def test_the_end_of_media_ends_the_dialog_from_both_sides(at, in_dialog):
    async with registered(at) as nvr:
        _, invite = await up(at, nvr)
        our_tag = ua.header(invite, "From").split("tag=")[1]
        status = ua.message(
            ua.media_status(),
            from_=f"<sip:{ua.CAMERA}@3402000000>;tag={'d77' if in_dialog else 'x'}",
            call_id=ua.header(invite, "Call-ID"),
            to_tag=our_tag if in_dialog else "",
            address=nvr.address,
        )

        assert ua.status_of(await nvr.ask(status)) == 200

        call_id, cause = at.ended.get_nowait()
        assert call_id == ua.header(invite, "Call-ID")
        assert "121" in cause
        nvr.send(ua.reply(await nvr.receive(b"BYE")))
        assert ("status-without-id" in at.quirks(at.nvr)) is not in_dialog


# ---- the ledger -----------------------------------------------------------------------------


async def rows(at: Stage) -> list[tuple[str, bool]]:
    """Call-IDs of the dialogs in the ledger, and whether each is being ended."""
    return [(row.dialog.call_id, row.ending_us is not None) for row in await at.store.streams.all()]


@asynccontextmanager
async def lasting(folder: Path, port: int):
    """A service and a recorder on line; the recorder outlives it, and is to be closed."""
    async with stage(folder, port) as first:
        nvr = first.device()
        await nvr.__aenter__()
        nvr.script = busy
        await nvr.register()
        yield first, nvr


async def no_rows(at: Stage) -> None:
    async def gone() -> bool:
        return not await rows(at)

    await until("the ledger is empty", gone, 5)


async def test_a_dialog_is_written_down_before_it_is_acknowledged(at, monkeypatch):
    may_write, save = asyncio.Event(), at.store.streams.save

    async def slow(row):
        await may_write.wait()
        await save(row)

    monkeypatch.setattr(at.store.streams, "save", slow)
    monkeypatch.setattr(ledger, "WRITE_WAIT_S", 30.0)
    async with registered(at) as nvr:
        calling = call(at)
        invite = await nvr.receive(b"INVITE")
        nvr.send(ok(nvr, invite))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await nvr.receive(b"ACK")

        may_write.set()
        await nvr.receive(b"ACK")
        answer = await calling

        assert await rows(at) == [(answer.dialog.call_id, False)]
        [row] = await at.store.streams.all()
        assert (row.device_id, row.use) == (at.nvr.id, USE)


async def test_a_picture_does_not_wait_for_a_database(at, monkeypatch):
    async def never(row):
        await asyncio.Event().wait()

    monkeypatch.setattr(at.store.streams, "save", never)
    monkeypatch.setattr(ledger, "WRITE_WAIT_S", 0.05)
    async with registered(at) as nvr:
        await up(at, nvr)


async def test_a_row_goes_when_either_side_has_ended_the_dialog(at):
    async with registered(at) as nvr:
        _, theirs = await up(at, nvr)
        ours, _ = await up(at, nvr)

        await nvr.ask(ua.bye(theirs))
        ending = asyncio.create_task(at.service.bye(ours.dialog))
        nvr.send(ua.reply(await nvr.receive(b"BYE")))
        await ending

        await no_rows(at)


async def test_a_bye_that_nobody_answered_is_said_again_after_a_restart(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "BYE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(session, "BYE_WAIT_S", 0.1)
    monkeypatch.setattr(session, "LOOK_S", 0.05)
    port = ua.free_port()
    async with lasting(tmp_path, port) as (first, nvr):
        answer, _ = await up(first, nvr)
        await first.service.bye(answer.dialog)
        assert await rows(first) == [(answer.dialog.call_id, True)]
        unheard = await nvr.receive(b"BYE")

    async with stage(tmp_path, port) as second:
        async with asyncio.timeout(5):
            again = await nvr.receive(b"BYE")
            while ua.header(again, "CSeq") == ua.header(unheard, "CSeq"):
                again = await nvr.receive(b"BYE")
        assert ua.header(again, "Call-ID") == answer.dialog.call_id
        nvr.send(ua.reply(again))
        await no_rows(second)
    await nvr.__aexit__()


async def test_owed_byes_go_out_a_few_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "BYES_MAX", 3)
    monkeypatch.setattr(session, "BYE_WAIT_S", 0.1)
    monkeypatch.setattr(session, "LOOK_S", 0.05)
    port = ua.free_port()
    async with lasting(tmp_path, port) as (first, nvr):
        answer, _ = await up(first, nvr)
        await first.service.bye(answer.dialog)
        [owed] = await first.store.streams.all()
        for number in range(20):
            other = replace(owed.dialog, call_id=f"{number}@192.0.2.10")
            await first.store.streams.save(replace(owed, dialog=other))
    before = len(nvr.seen)

    async with stage(tmp_path, port):
        await asyncio.sleep(1.0)  # many looks, and no BYE has timed out yet
        byes = [data for data in nvr.seen[before:] if data.startswith(b"BYE")]
        assert len({ua.header(bye, "Call-ID") for bye in byes}) == 3
    await nvr.__aexit__()


async def test_an_answer_that_came_too_late_is_ended_however_often_it_takes(at, monkeypatch):
    monkeypatch.setattr(session, "BYE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(session, "LOOK_S", 0.05)
    monkeypatch.setattr(ledger, "PAUSE_MIN_S", 0.05)
    async with registered(at) as nvr:
        calling = call(at)
        invite = await nvr.receive(b"INVITE")
        nvr.send(ua.reply(invite, "100 Trying"))
        rings = at.service._endpoint.stats.received + 1

        async def is_heard() -> bool:
            return at.service._endpoint.stats.received >= rings

        await until("the provisional answer is heard", is_heard, 5)
        calling.cancel()
        await nvr.receive(b"CANCEL")

        nvr.send(ok(nvr, invite))

        await nvr.receive(b"ACK")
        first = await nvr.receive(b"BYE")
        assert await rows(at) == [(ua.header(invite, "Call-ID"), True)]
        async with asyncio.timeout(5):
            again = await nvr.receive(b"BYE")
            while ua.header(again, "CSeq") == ua.header(first, "CSeq"):
                again = await nvr.receive(b"BYE")
        nvr.send(ua.reply(again))
        await no_rows(at)


async def test_a_device_that_ends_what_we_are_ending_has_heard_enough(at, monkeypatch):
    monkeypatch.setattr(session, "BYE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(session, "BYE_WAIT_S", 0.1)
    async with registered(at) as nvr:
        answer, invite = await up(at, nvr)
        await at.service.bye(answer.dialog)

        assert ua.status_of(await nvr.ask(ua.bye(invite))) == 200

        assert at.service._sessions.ledger.owed == 0
        assert at.ended.empty()


# ---- after a restart ------------------------------------------------------------------------


async def test_a_restored_dialog_can_be_ended_by_either_side(tmp_path):
    port = ua.free_port()
    async with lasting(tmp_path, port) as (first, nvr):
        one, invite = await up(first, nvr)
        other, _ = await up(first, nvr)

    async with stage(tmp_path, port) as second:
        assert ua.status_of(await nvr.ask(ua.bye(invite))) == 200
        assert second.ended.get_nowait()[0] == one.dialog.call_id
        ending = asyncio.create_task(second.service.bye(other.dialog))
        bye = await nvr.receive(b"BYE")
        assert ua.header(bye, "CSeq") == "2 BYE"
        nvr.send(ua.reply(bye))
        await ending
    await nvr.__aexit__()


# ---- pure parts -----------------------------------------------------------------------------


def test_the_subject_names_sender_sequence_and_receiver():
    assert subject_of(ua.CAMERA, 200_000_001, ua.PLATFORM) == (
        "34020000001320000001:0200000001,34020000002000000001:0"
    )


def test_one_address_is_named_once():
    media = Answer("192.0.2.7", 15060, transport_of("udp"), None, ((96, "PS"),))

    assert remote_media(media, "192.0.2.7").hosts == ("192.0.2.7",)
    assert remote_media(media, "203.0.113.1").hosts == ("192.0.2.7", "203.0.113.1")
