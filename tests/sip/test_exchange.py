from __future__ import annotations

import asyncio

import pytest

from simulators.chance import SeededIds
from tests.sip.core import examples
from tests.sip.wire import (
    ADDRESSES,
    URI,
    WAIT_S,
    UdpDevice,
    keepalive,
    running,
    udp_device,
    until,
)
from vsp.clock import SystemClock
from vsp.errors import Denied, Invalid, NotFound, Unavailable
from vsp.sip.core.agent import AckReceived, RequestReceived, SipAgent
from vsp.sip.core.dialog import InviteDialog, Phase, Ringing
from vsp.sip.core.message import reply_bytes
from vsp.sip.endpoint import InviteRefused, SipEndpoint

# ---- handlers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Invalid("x"), 400),
        (Denied("x"), 403),
        (NotFound("x"), 404),
        (Unavailable("x"), 503),
        (ValueError("x"), 500),
    ],
)
async def test_what_a_handler_raises_becomes_a_status(error, status):
    async with running() as endpoint, udp_device(endpoint) as device:

        def on_request(received: RequestReceived) -> None:
            raise error

        endpoint.on_request = on_request
        device.say(examples.KEEPALIVE)

        assert (await device.hear()).status == status


async def test_an_address_that_the_handler_cannot_read_is_answered_400():
    async with running() as endpoint, udp_device(endpoint) as device:
        endpoint.on_request = lambda received: print(received.message.from_)
        device.say(examples.KEEPALIVE.replace(b"From: <sip:", b"From: <s p:"))

        assert (await device.hear()).status == 400


async def test_a_broken_handler_spoils_no_other_datagram():
    async with running() as endpoint, udp_device(endpoint) as device:

        def on_request(received: RequestReceived) -> None:
            if received.message.branch == b"z9hG4bKk1":
                raise RuntimeError("a bug")
            endpoint.respond(received.transaction, 200, "OK")

        endpoint.on_request = on_request
        for number in range(3):
            device.say(keepalive(number))

        statuses = {(message := await device.hear()).branch: message.status for _ in range(3)}
        assert statuses == {b"z9hG4bKk0": 200, b"z9hG4bKk1": 500, b"z9hG4bKk2": 200}


async def test_without_a_handler_requests_are_answered_501():
    endpoint = SipEndpoint(SipAgent(SeededIds("e"), "h:1"), SystemClock(), "127.0.0.1", 0)
    await endpoint.start()
    async with udp_device(endpoint) as device:
        device.say(examples.KEEPALIVE)
        assert (await device.hear()).status == 501
    await endpoint.close()


# ---- requests of ours -----------------------------------------------------------------------


async def test_a_request_returns_its_final_answer_whatever_it_is():
    async with running() as endpoint, udp_device(endpoint) as device:
        waiting = asyncio.ensure_future(
            endpoint.request("MESSAGE", URI, ADDRESSES, b"q", device.peer, WAIT_S)
        )
        request = await device.hear()
        device.answer(request, 100)
        device.answer(request, 404, "Not Found")

        answer = await waiting

        assert (answer.status, answer.reason) == (404, "Not Found")
        assert request.body == b"q"


async def test_a_request_without_answer_names_peer_call_id_and_cseq():
    async with running() as endpoint, udp_device(endpoint) as device:
        with pytest.raises(Unavailable) as caught:
            await endpoint.request(
                "MESSAGE", URI, ADDRESSES, b"", device.peer, 0.05, call_id="c@h", cseq=7
            )

        for part in (f"127.0.0.1:{device.port}", "c@h", "CSeq 7"):
            assert part in caught.value.message
        assert endpoint.agent.live == 0


async def test_an_unanswered_request_is_repeated_by_the_timer():
    async with running() as endpoint, udp_device(endpoint) as device:
        waiting = asyncio.ensure_future(
            endpoint.request("MESSAGE", URI, ADDRESSES, b"", device.peer, WAIT_S)
        )
        first, second = await device.hear(), await device.hear()
        device.answer(second, 200)

        assert first.branch == second.branch
        assert (await waiting).status == 200


async def test_closing_fails_who_waits():
    async with running() as endpoint, udp_device(endpoint) as device:
        waiting = asyncio.ensure_future(
            endpoint.request("MESSAGE", URI, ADDRESSES, b"", device.peer, WAIT_S)
        )
        await device.hear()
        await endpoint.close()

        with pytest.raises(Unavailable, match="stops"):
            await waiting


# ---- INVITE ---------------------------------------------------------------------------------


def dialog_to(device: UdpDevice) -> InviteDialog:
    return InviteDialog(
        SeededIds("invite"),
        local_uri="sip:34020000002000000001@3402000000",
        remote_uri="sip:34020000001320000001@3402000000",
        target=URI,
        contact="sip:34020000002000000001@127.0.0.1",
        peer=device.peer,
    )


async def test_an_invite_is_answered_acknowledged_and_ended():
    async with running() as endpoint, udp_device(endpoint) as device:
        dialog, rings = dialog_to(device), list[Ringing]()
        waiting = asyncio.ensure_future(
            endpoint.invite(
                dialog, b"offer", WAIT_S, headers=(("Subject", "s"),), on_provisional=rings.append
            )
        )
        invite = await device.hear()
        device.answer(invite, 100)
        device.answer(invite, 180, "Ringing")
        device.answer(invite, 200, "OK", b"answer")

        answered = await waiting

        assert (invite.body, invite.header("subject")) == (b"offer", "s")
        assert answered.body == b"answer"
        assert [ring.status for ring in rings] == [100, 180]
        assert (await device.hear()).method == "ACK"
        assert dialog.phase is Phase.CONFIRMED

        device.answer(invite, 200, "OK", b"answer")
        assert (await device.hear()).method == "ACK"

        ending = asyncio.ensure_future(endpoint.bye(dialog, WAIT_S))
        bye = await device.hear()
        assert (bye.method, bye.cseq, bye.to.tag) == ("BYE", (2, "BYE"), "d77")
        device.answer(bye, 200)
        await ending


async def test_a_refused_invite_tells_status_and_warning():
    async with running() as endpoint, udp_device(endpoint) as device:
        waiting = asyncio.ensure_future(endpoint.invite(dialog_to(device), b"", WAIT_S))
        invite = await device.hear()
        warning = (("Warning", '399 h "session cap"'),)
        device.say(reply_bytes(invite, 486, "Busy Here", warning, to_tag="t"))

        with pytest.raises(InviteRefused) as caught:
            await waiting

        refused = caught.value
        assert (refused.status, refused.reason) == (486, "Busy Here")
        assert refused.warning == '399 h "session cap"'
        assert (await device.hear()).method == "ACK"


async def test_an_invite_that_rings_too_long_is_cancelled():
    async with running() as endpoint, udp_device(endpoint) as device:
        waiting = asyncio.ensure_future(endpoint.invite(dialog_to(device), b"", 0.1))
        invite = await device.hear()
        device.answer(invite, 100)

        with pytest.raises(Unavailable, match="no answer"):
            await waiting

        cancel = await device.hear()
        assert (cancel.method, cancel.branch) == ("CANCEL", invite.branch)
        device.answer(cancel, 200)
        device.answer(invite, 487)
        assert (await device.hear()).method == "ACK"


async def test_an_answer_after_the_cancel_is_acknowledged_and_ended():
    async with running() as endpoint, udp_device(endpoint) as device:
        waiting = asyncio.ensure_future(endpoint.invite(dialog_to(device), b"", 0.1))
        invite = await device.hear()
        device.answer(invite, 100)
        with pytest.raises(Unavailable):
            await waiting
        cancel = await device.hear()

        device.answer(cancel, 200)
        device.answer(invite, 200)

        assert (await device.hear()).method == "ACK"
        bye = await device.hear()
        assert (bye.method, bye.to.tag) == ("BYE", "d77")


async def test_cancelling_the_waiter_cancels_the_invite():
    async with running() as endpoint, udp_device(endpoint) as device:
        waiting = asyncio.ensure_future(endpoint.invite(dialog_to(device), b"", WAIT_S))
        invite = await device.hear()
        device.answer(invite, 100)
        await until(lambda: endpoint.stats.received == 1)

        waiting.cancel()

        assert (await device.hear()).method == "CANCEL"


async def test_a_waiter_that_leaves_as_the_answer_comes_leaves_no_stream():
    async with running() as endpoint, udp_device(endpoint) as device:
        dialog = dialog_to(device)
        waiting = asyncio.ensure_future(endpoint.invite(dialog, b"", WAIT_S))
        invite = await device.hear()
        answer = reply_bytes(invite, 200, "OK", to_tag="d77")
        endpoint.receive(answer, device.peer)
        assert dialog.phase is Phase.CONFIRMED

        waiting.cancel()

        assert (await device.hear_method("BYE")).cseq == (2, "BYE")


@pytest.mark.parametrize(("status", "fine"), [(200, True), (481, True), (408, True), (500, False)])
async def test_a_bye_is_done_when_the_device_says_that_it_is_over(status, fine):
    async with running() as endpoint, udp_device(endpoint) as device:
        dialog = dialog_to(device)
        waiting = asyncio.ensure_future(endpoint.invite(dialog, b"", WAIT_S))
        device.answer(await device.hear(), 200)
        await waiting
        ending = asyncio.ensure_future(endpoint.bye(dialog, WAIT_S))
        device.answer(await device.hear_method("BYE"), status)

        if fine:
            await ending
        else:
            with pytest.raises(Unavailable, match="500"):
                await ending


async def test_the_ack_of_an_answer_of_ours_is_reported():
    async with running() as endpoint, udp_device(endpoint) as device:
        acks: list[AckReceived] = []
        endpoint.on_ack = acks.append
        device.say(examples.BROADCAST_INVITE)
        while (await device.hear()).status < 200:
            pass
        device.say(examples.BROADCAST_INVITE.replace(b"INVITE", b"ACK").replace(b"bKbi1", b"bKa"))

        await until(lambda: len(acks) == 1)

        assert acks[0].peer == device.peer
