"""People of a world: they watch live and recorded pictures, and some try what they may not.

A visitor is a browser: it asks the node for a view, takes the ticket to the worker's door, looks
for a while and leaves. It is in no process of the platform; a node that dies while it is asked
simply never answers.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from simulators.world.loop import Process, VirtualLoop
from simulators.world.machine import Host
from simulators.world.processes import Keeper, NodeLife
from simulators.world.witness import Showing, Witness
from vsp.actions.timeline import Timeline
from vsp.actions.views import OpenedView
from vsp.composition import Platform
from vsp.errors import Unavailable, VspError
from vsp.model.ids import ChannelId, UserId, UtcMicros
from vsp.model.people import Actor, Role, User
from vsp.model.recording import Gap, Span

T = TypeVar("T")

PATIENCE_S = 12.0
"""Longest wait for an answer of the node."""

SLACK_US = 20_000_000
"""Between the moment up to which a timeline was made and the one at which it is looked at."""


def user_of(number: int, role: Role = Role.OPERATOR) -> User:
    return User(
        id=UserId(f"user-{number}"),
        name=f"user{number}",
        display_name=f"User {number}",
        role=role,
        department_id=None,
        enabled=True,
        must_change_password=False,
        created_at_us=UtcMicros(0),
    )


def actor_of(user: User) -> Actor:
    return Actor(user, "session", "203.0.113.9")


async def ask(loop: VirtualLoop, process: Process, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, done by `process`. Raises Unavailable when it does not answer."""
    answer: asyncio.Future[T] = loop.create_future()

    async def do() -> None:
        try:
            result = await work
        except VspError as error:
            if not answer.done():
                answer.set_exception(error)
        else:
            if not answer.done():
                answer.set_result(result)

    process.start(do(), "asked")
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await answer
    except TimeoutError as error:
        raise Unavailable("nobody answers") from error


@dataclass(slots=True)
class Eye:
    """A viewer's end of a media socket (`vsp.media.live.Socket`)."""

    loop: VirtualLoop
    showing: Showing
    left: asyncio.Future[None]

    async def send_text(self, text: str) -> None:
        """Words are not pictures."""

    async def send_bytes(self, data: bytes) -> None:
        self.showing.frames += 1
        self.showing.last_at = self.loop.now

    async def receive_text(self) -> str | None:
        await self.left
        return None

    def abort(self) -> None:
        self.leave()

    def leave(self) -> None:
        if not self.left.done():
            self.left.set_result(None)


class Person:
    """Somebody who does something now and then, until told to go home."""

    def __init__(
        self,
        user: User,
        host: Host,
        node: Keeper,
        channels: Callable[[], list[ChannelId]],
        witness: Witness,
        seed: str,
    ) -> None:
        self.user = user
        self.busy = True
        self._host = host
        self._node = node
        self._channels = channels
        self._witness = witness
        self._random = random.Random(f"person/{user.id}/{seed}")

    async def run(self) -> None:
        while self.busy:
            await asyncio.sleep(self._random.uniform(5, 90))
            channels, life = self._channels(), self._node.life
            if not self.busy or not channels or not isinstance(life, NodeLife):
                continue
            if life.platform is not None:
                try:
                    await self.act(life, life.platform, self._random.choice(channels))
                except VspError:
                    continue

    async def act(self, life: NodeLife, platform: Platform, channel: ChannelId) -> None:
        """What this person does, with the node of now."""
        raise NotImplementedError


class Auditor(Person):
    """Asks for timelines and looks whether they cover every moment once."""

    async def act(self, life: NodeLife, platform: Platform, channel: ChannelId) -> None:
        loop, clock = self._host.loop, self._host.clock
        until_us = clock.now_us() - round(self._random.choice((0, 0, 600)) * 1e6)
        from_us = UtcMicros(until_us - round(self._random.uniform(1, 3600) * 1e6))
        asked = platform.actions.channels.timeline(
            actor_of(self.user), channel, from_us, UtcMicros(until_us)
        )
        timeline = await ask(loop, life.process, asked)
        self._witness.timelines += 1
        for fault in faults_of(timeline, min(until_us, clock.now_us())):
            self._witness.find(f"timeline of {channel}: {fault}")


def faults_of(timeline: Timeline, until_us: int) -> list[str]:
    """Moments that spans and gaps cover twice or not at all, from the beginning to `until_us`."""
    edge, found = int(timeline.from_us), []
    pieces: list[Span | Gap] = [*timeline.spans, *timeline.gaps]
    for piece in sorted(pieces, key=lambda each: (each.start_us, each.end_us)):
        if piece.start_us != edge or piece.end_us <= piece.start_us:
            found.append(f"{piece} follows {edge}")
        edge = piece.end_us
    if not 0 <= until_us - edge < SLACK_US:
        found.append(f"it ends {until_us - edge} us before it was asked")
    return found


class Visitor(Person):
    """One person who looks at pictures, again and again."""

    async def act(self, life: NodeLife, platform: Platform, channel: ChannelId) -> None:
        opened = await ask(self._host.loop, life.process, self._open(platform, channel))
        showing = Showing(opened.view.id, self.user.id, channel, opened.view.opened_us)
        self._witness.showings.append(showing)
        if self._random.random() < 0.2:
            await self._try_what_is_forbidden(life, platform, opened)
        await self._watch(opened, showing)

    async def _open(self, platform: Platform, channel: ChannelId) -> OpenedView:
        views, actor = platform.actions.views, actor_of(self.user)
        if self._random.random() < 0.6:
            return await views.open_live(actor, channel)
        ago_s = self._random.uniform(60, 900)
        start_us = UtcMicros(self._host.clock.now_us() - round(ago_s * 1e6))
        return await views.open_playback(actor, channel, start_us, None)

    async def _watch(self, opened: OpenedView, showing: Showing) -> None:
        if self._random.random() < 0.1:
            return  # never comes: the view waits for nobody
        loop = self._host.loop
        await asyncio.sleep(self._random.uniform(0, 2))
        eye = Eye(loop, showing, loop.create_future())
        serving = self._knock(opened, opened.ticket, eye)
        if serving is None:
            return
        showing.admitted = loop.now
        await asyncio.wait({serving}, timeout=self._random.uniform(5, 200))
        eye.leave()

    def _knock(self, opened: OpenedView, ticket: str, eye: Eye) -> asyncio.Task[None] | None:
        """At the door that the URL names."""
        index = int(opened.url.partition("//")[2].partition("/")[0].rpartition(":")[2]) - 18_100
        door = self._host.doors.get(index)
        if door is None:
            return None
        try:
            serving = door.connect(opened.view.kind.value, opened.view.id, ticket, eye)
        except VspError:
            return None
        serving.add_done_callback(_look_at_error)
        return serving

    async def _try_what_is_forbidden(
        self, life: NodeLife, platform: Platform, opened: OpenedView
    ) -> None:
        """A ticket that was altered, and one that is for another view: nothing may come of it."""
        place = self._random.randrange(len(opened.ticket))
        letter = "A" if opened.ticket[place] != "A" else "B"
        self._intrude("forged", opened, opened.ticket[:place] + letter + opened.ticket[place + 1 :])
        try:
            # A view that waits for its viewer, and would take the first who comes.
            waiting = self._open(platform, self._random.choice(self._channels()))
            other = await ask(self._host.loop, life.process, waiting)
        except VspError:
            return
        self._intrude("borrowed", other, opened.ticket)

    def _intrude(self, what: str, opened: OpenedView, ticket: str) -> None:
        view, loop = opened.view, self._host.loop
        showing = Showing(view.id, self.user.id, view.channel_id, view.opened_us)
        eye = Eye(loop, showing, loop.create_future())
        serving = self._knock(opened, ticket, eye)
        if serving is not None:
            serving.add_done_callback(partial(self._judge_intruder, what, showing, eye))
            loop.call_later(30.0, eye.leave)

    def _judge_intruder(
        self, what: str, showing: Showing, eye: Eye, serving: asyncio.Task[None]
    ) -> None:
        eye.leave()
        refused = not serving.cancelled() and isinstance(serving.exception(), VspError)
        if showing.frames or not refused:
            self._witness.find(f"a {what} ticket was let in and saw {showing.frames} pictures")
        else:
            self._witness.denied += 1


def _look_at_error(serving: asyncio.Task[None]) -> None:
    if not serving.cancelled():
        serving.exception()


__all__ = ["Auditor", "Visitor", "actor_of", "ask", "faults_of", "user_of"]
