"""The event feed: who may open it, what it says, and what happens to a client that sleeps."""

import asyncio
import json

import aiohttp
import pytest

from tests.web.conftest import Site
from tests.web.test_security import cookie
from vsp.errors import Exhausted
from vsp.model.people import Role
from vsp.web import ws as ws_module
from vsp.web.ws import QUEUE_EVENTS_MAX, EventHub

PATH = "/api/v1/events"


def url(site: Site) -> str:
    return site.listener.url.rstrip("/") + PATH


async def bearer(site: Site, role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {await site.token(role)}"}


async def subscribed(site: Site, count: int = 1) -> None:
    async with asyncio.timeout(5):
        while site.listener.events.clients != count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_every_open_feed_hears_what_is_published_in_order(site: Site):
    async with (
        site.http.ws_connect(url(site), headers=await bearer(site, "operator")) as one,
        site.http.ws_connect(url(site), headers=await bearer(site, "auditor")) as two,
    ):
        await subscribed(site, 2)
        site.listener.publish({"type": "presence", "device": "d1", "presence": "online"})
        site.listener.publish({"type": "counts"})

        for socket in (one, two):
            first, second = await socket.receive_json(), await socket.receive_json()
            assert first == {"type": "presence", "device": "d1", "presence": "online", "seq": 1}
            assert second == {"type": "counts", "seq": 2}


async def test_a_browser_opens_it_with_its_cookie_from_our_own_page_only(site: Site):
    sent = await cookie(site)
    ours = {**sent, "Origin": site.listener.url.rstrip("/")}

    async with site.http.ws_connect(url(site), headers=ours) as socket:
        await subscribed(site)
        site.listener.publish({"type": "counts"})
        assert (await socket.receive_json())["type"] == "counts"

    for foreign in ({"Origin": "https://evil.example"}, {}):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await site.http.ws_connect(url(site), headers={**sent, **foreign})
        assert refused.value.status == 403


async def test_nobody_opens_it(site: Site):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await site.http.ws_connect(url(site))

    assert refused.value.status == 401


async def test_news_of_candidates_is_for_those_who_decide_on_them(site: Site):
    async with (
        site.http.ws_connect(url(site), headers=await bearer(site, "operator")) as operator,
        site.http.ws_connect(url(site), headers=await bearer(site, "admin")) as admin,
    ):
        await subscribed(site, 2)
        site.listener.publish({"type": "candidate"})
        site.listener.publish({"type": "counts"})

        assert (await admin.receive_json())["type"] == "candidate"
        assert (await operator.receive_json())["type"] == "counts"


async def test_a_feed_ends_when_its_session_does(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ws_module, "RECHECK_S", 0.02)
    async with site.http.ws_connect(url(site), headers=await bearer(site, "operator")) as socket:
        await subscribed(site)
        user, _ = await site.rig.store.people.user_by_name("operator")
        await site.rig.store.people.set_user(user.id, role=Role.AUDITOR)
        await asyncio.sleep(0.1)
        assert not socket.closed

        await site.rig.store.people.set_user(user.id, enabled=False)
        message = await socket.receive(timeout=5)

        assert message.type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 4401
    await subscribed(site, 0)


async def test_a_stop_closes_every_feed_at_once(site: Site):
    async with site.http.ws_connect(url(site), headers=await bearer(site, "operator")) as socket:
        await subscribed(site)
        async with asyncio.timeout(5):
            await site.listener.close()
            message = await socket.receive()

        assert message.type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 1001


async def test_whatever_a_client_says_is_ignored_and_too_much_of_it_ends_the_feed(site: Site):
    async with site.http.ws_connect(url(site), headers=await bearer(site, "operator")) as socket:
        await subscribed(site)
        await socket.send_str('{"type":"presence"}')
        await socket.send_bytes(b"\x00" * 100)
        site.listener.publish({"type": "counts"})
        assert (await socket.receive_json())["type"] == "counts"

        await socket.send_bytes(b"\x00" * 5000)
        message = await socket.receive(timeout=5)

        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    await subscribed(site, 0)


# ---- the hub alone --------------------------------------------------------------------------


async def test_a_client_that_does_not_keep_up_is_told_to_read_everything_again():
    hub = EventHub()
    with hub.subscribe() as subscription:
        for number in range(QUEUE_EVENTS_MAX + 1):
            hub.publish({"type": "presence", "device": number})

        kind, text = await subscription.next()
        assert kind == json.loads(text)["type"] == "resync"
        hub.publish({"type": "counts"})
        assert (await subscription.next())[0] == "counts"


async def test_the_queue_holds_its_limit_without_loss():
    hub = EventHub()
    with hub.subscribe() as subscription:
        for number in range(QUEUE_EVENTS_MAX):
            hub.publish({"type": "presence", "device": number})

        seen = [json.loads((await subscription.next())[1])["device"] for _ in range(256)]

    assert seen == list(range(QUEUE_EVENTS_MAX))


def test_the_number_of_feeds_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ws_module, "CLIENTS_MAX", 1)
    hub = EventHub()

    with hub.subscribe(), pytest.raises(Exhausted), hub.subscribe():
        pass
    with hub.subscribe():
        assert hub.clients == 1
    assert hub.clients == 0


async def test_a_closed_hub_ends_its_readers_and_takes_no_new_ones():
    hub = EventHub()
    with hub.subscribe() as subscription:
        reading = asyncio.create_task(subscription.next())
        await asyncio.sleep(0)
        hub.close()
        assert await reading is None

    with pytest.raises(Exhausted), hub.subscribe():
        pass
