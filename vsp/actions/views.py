"""Looking: one person's view of one channel, live or recorded.

Opening asks for the right, writes the audit row, lets the stream manager open the view on a worker,
and signs the ticket that opens the worker's socket. The audit entry stays open as long as the view
does and is ended with the cause, so "who saw what, from when to when" is one pair of rows. The
right is asked again every few seconds while the view is open (`enforce`, invariant I4): a ticket
opens a stream, the right keeps it open.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Protocol

from vsp.access.policy import Resource, ResourceKind
from vsp.access.scope import Access, channel_resource
from vsp.access.ticket import TicketSigner
from vsp.errors import Exhausted, Invalid, NotFound, Unavailable, Unsupported, VspError
from vsp.faults import Point, reach
from vsp.model.device import Channel
from vsp.model.ids import ChannelId, DeviceId, UserId, UtcMicros, ViewId
from vsp.model.people import Action, Actor, Ticket
from vsp.model.recording import OpenSegment
from vsp.model.stream import Attempt, SessionStatus, StreamState, ViewEndpoint, ViewKind
from vsp.ports import AuditEntry, Clock, Ids, Metrics, People, StreamBook

MICROS = 1_000_000

VIEWS_PER_USER_MAX = 256
"""Open views of one user: sixteen walls of sixteen tiles."""

VIEWS_MAX = 4096
"""Open views of the node; more than its workers could ever send."""

ENDED_KEPT = 1000
"""Ended views whose cause can still be asked for; oldest forgotten first."""


class Streams(Protocol):
    """The stream manager, as the actions use it."""

    on_view_ended: Callable[[ViewId, str], Awaitable[None]] | None

    async def attach_live(
        self, channel: Channel, view_id: ViewId, actor_name: str
    ) -> ViewEndpoint: ...
    async def attach_playback(
        self,
        channel: Channel,
        view_id: ViewId,
        start_us: UtcMicros,
        end_us: UtcMicros | None,
    ) -> ViewEndpoint: ...
    async def detach(self, view_id: ViewId, cause: str) -> None: ...
    def status_of(self, channel_id: ChannelId) -> SessionStatus | None: ...
    def statuses(self) -> Sequence[SessionStatus]: ...
    async def open_segments(self, channel_id: ChannelId) -> Sequence[OpenSegment]: ...


@dataclass(frozen=True, slots=True)
class View:
    """One view as its owner may know it. `ended_us` None: still open."""

    id: ViewId
    kind: ViewKind
    channel_id: ChannelId
    device_id: DeviceId
    user_id: UserId
    opened_us: UtcMicros
    ended_us: UtcMicros | None = None
    cause: str = ""


@dataclass(frozen=True, slots=True)
class OpenedView:
    """What the viewer needs: where to connect, with what, and until when the ticket is good."""

    view: View
    url: str
    ticket: str
    expires_at_us: UtcMicros


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """A view with the stream behind it and the last attempt to bring that stream up."""

    view: View
    state: StreamState
    status: SessionStatus | None
    attempt: Attempt | None


@dataclass(slots=True)
class _Open:
    """An open view: who, under which right, and the audit entry that its end will complete."""

    view: View
    actor: Actor
    action: Action
    entry: AuditEntry
    audit: AsyncExitStack


class Views:
    """Use cases of watching. Sets itself as `streams.on_view_ended`."""

    def __init__(
        self,
        *,
        streams: Streams,
        access: Access,
        signer: TicketSigner,
        people: People,
        book: StreamBook,
        clock: Clock,
        ids: Ids,
        metrics: Metrics,
        ticket_life_s: int,
    ) -> None:
        self._streams = streams
        self._access = access
        self._signer = signer
        self._people = people
        self._book = book
        self._clock = clock
        self._ids = ids
        self._metrics = metrics
        self._ticket_life_s = ticket_life_s
        self._open: dict[ViewId, _Open] = {}
        self._ended: OrderedDict[ViewId, View] = OrderedDict()
        streams.on_view_ended = self.ended

    # ---- opening and closing ------------------------------------------------------------------

    async def open_live(self, actor: Actor, reference: str, reason: str = "") -> OpenedView:
        """Watch a channel now. The INVITE goes on behind; the media socket tells how."""
        channel = await self._access.channel(actor, reference, Action.VIEW_LIVE)

        async def attach(view_id: ViewId) -> ViewEndpoint:
            return await self._streams.attach_live(channel, view_id, actor.user.name)

        return await self._open_view(actor, channel, ViewKind.LIVE, reason, attach)

    async def open_playback(
        self,
        actor: Actor,
        reference: str,
        start_us: UtcMicros,
        end_us: UtcMicros | None,
        reason: str = "",
    ) -> OpenedView:
        """Watch what was recorded from `start_us` on."""
        channel = await self._access.channel(actor, reference, Action.PLAYBACK)
        if end_us is not None and end_us <= start_us:
            raise Invalid("playback's end is not after its start")

        async def attach(view_id: ViewId) -> ViewEndpoint:
            return await self._streams.attach_playback(channel, view_id, start_us, end_us)

        return await self._open_view(actor, channel, ViewKind.PLAYBACK, reason, attach)

    async def _open_view(
        self,
        actor: Actor,
        channel: Channel,
        kind: ViewKind,
        reason: str,
        attach: Callable[[ViewId], Awaitable[ViewEndpoint]],
    ) -> OpenedView:
        """Audit entry, worker, ticket, in this order: no media without a row that says who."""
        action = Action.VIEW_LIVE if kind is ViewKind.LIVE else Action.PLAYBACK
        view = View(
            id=ViewId(self._ids.token()),
            kind=kind,
            channel_id=channel.id,
            device_id=channel.device_id,
            user_id=actor.user.id,
            opened_us=self._clock.now_us(),
        )
        async with AsyncExitStack() as audit:
            entry = await audit.enter_async_context(
                self._access.act(actor, action, channel_resource(channel.id), reason)
            )
            reach(Point.VIEW_AUDITED)
            self._require_room(actor, channel)
            # Known before it is attached: its end may be reported while we still wait.
            opened = _Open(view, actor, action, entry, audit)
            self._open[view.id] = opened
            try:
                endpoint = await attach(view.id)
            except BaseException:
                self._open.pop(view.id, None)
                raise
            reach(Point.VIEW_ATTACHED)
            if view.id not in self._open:
                await self._streams.detach(view.id, "ended while it was being opened")
                raise Unavailable("the view ended while it was being opened")
            opened.audit = audit.pop_all()
        self._metrics.count("vsp_views_opened", kind=kind.value)
        return self._ticketed(view, endpoint)

    def _require_room(self, actor: Actor, channel: Channel) -> None:
        if not channel.playable:
            raise Unsupported("this catalogue entry is not a camera that can be played")
        mine = sum(1 for each in self._open.values() if each.view.user_id == actor.user.id)
        if mine >= VIEWS_PER_USER_MAX or len(self._open) >= VIEWS_MAX:
            raise Exhausted(
                f"{mine} views of this user and {len(self._open)} in all are open",
                next_step="close views that are not needed",
            )

    def _ticketed(self, view: View, endpoint: ViewEndpoint) -> OpenedView:
        expires_at_us = UtcMicros(self._clock.now_us() + self._ticket_life_s * MICROS)
        ticket = Ticket(view.id, view.channel_id, view.kind.value, view.user_id, expires_at_us)
        return OpenedView(view, endpoint.url, self._signer.sign(ticket), expires_at_us)

    async def close(self, actor: Actor, view_id: ViewId) -> None:
        """End one's own view (an administrator: anybody's); one that ended already is as good.

        Raises NotFound.
        """
        self._access.require(actor, Action.OWN_SESSION)
        opened = self._open.get(view_id)
        view = opened.view if opened is not None else self._ended.get(view_id)
        if view is None or not self._may_see(actor, view):
            raise NotFound("no such view")
        if opened is None:
            return
        await self._cut(opened, "closed by its viewer" if _owns(actor, opened) else "closed")

    async def ended(self, view_id: ViewId, cause: str) -> None:
        """The worker says that a view is over. Completes its audit entry; repeats are harmless."""
        opened = self._open.pop(view_id, None)
        if opened is None:
            return
        self._remember(replace(opened.view, ended_us=self._clock.now_us(), cause=cause))
        reach(Point.VIEW_ENDED)
        opened.entry.note(cause)
        await opened.audit.aclose()

    # ---- keeping rights true while views are open ---------------------------------------------

    async def enforce(self) -> None:
        """Ask every open view's right again with the user as stored now; cut what lost it.

        To be called every few seconds: whatever changed the right (also another process), the
        stream ends within that period (I4: 5 s).
        """
        users = {opened.view.user_id for opened in self._open.values()}
        for user_id in users:
            await self._enforce_user(user_id)

    async def _enforce_user(self, user_id: UserId) -> None:
        try:
            user = await self._people.user(user_id)
        except NotFound:
            await self.cut_user(user_id, "the account was removed")
            return
        for opened in self._of_user(user_id):
            actor = replace(opened.actor, user=user)
            decision = self._access.decision(
                actor, opened.action, channel_resource(opened.view.channel_id)
            )
            if not decision.allowed:
                await self._cut(opened, f"the right has ended: {decision.reason}")

    async def cut_user(self, user_id: UserId, cause: str, session_id: str | None = None) -> None:
        """Close the user's views, or only those opened in one session."""
        for opened in self._of_user(user_id):
            if session_id is None or opened.actor.session_id == session_id:
                await self._cut(opened, cause)

    async def cut_device(self, device_id: DeviceId, cause: str) -> None:
        """Close every view of a device's channels; the device is being removed."""
        for opened in [*self._open.values()]:
            if opened.view.device_id == device_id:
                await self._cut(opened, cause)

    async def close_all(self, cause: str) -> None:
        """Complete every audit entry; for an orderly stop."""
        for view_id in [*self._open]:
            await self.ended(view_id, cause)

    async def _cut(self, opened: _Open, cause: str) -> None:
        """The stream first, then the books. The books are closed even if the worker is away."""
        try:
            await self._streams.detach(opened.view.id, cause)
        except VspError as error:
            opened.entry.note(f"worker did not confirm: {error.message}")
        await self.ended(opened.view.id, cause)

    def _of_user(self, user_id: UserId) -> list[_Open]:
        return [opened for opened in self._open.values() if opened.view.user_id == user_id]

    # ---- asking -------------------------------------------------------------------------------

    async def get(self, actor: Actor, view_id: ViewId) -> ViewStatus:
        """A view of one's own, open or lately ended. Raises NotFound."""
        self._access.require(actor, Action.OWN_SESSION)
        opened = self._open.get(view_id)
        view = opened.view if opened is not None else self._ended.get(view_id)
        if view is None or not self._may_see(actor, view):
            raise NotFound("no such view")
        live = view.kind is ViewKind.LIVE
        status = self._streams.status_of(view.channel_id) if live else None
        attempts = await self._book.attempts(view.channel_id, 1) if live else []
        return ViewStatus(view, _state(view, status), status, attempts[0] if attempts else None)

    @property
    def open_count(self) -> int:
        return len(self._open)

    def _may_see(self, actor: Actor, view: View) -> bool:
        resource = Resource(ResourceKind.VIEW, view.id, view.user_id)
        return self._access.decision(actor, Action.OWN_SESSION, resource).allowed

    def _remember(self, view: View) -> None:
        self._ended[view.id] = view
        while len(self._ended) > ENDED_KEPT:
            self._ended.popitem(last=False)


def _owns(actor: Actor, opened: _Open) -> bool:
    return opened.view.user_id == actor.user.id


def _state(view: View, status: SessionStatus | None) -> StreamState:
    if view.ended_us is not None:
        return StreamState.ENDED
    if status is None:
        return StreamState.FLOWING if view.kind is ViewKind.PLAYBACK else StreamState.SIGNALLING
    return status.state
