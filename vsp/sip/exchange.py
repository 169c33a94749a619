"""One agent, one timer, and whoever waits for an answer: signalling of a node without its sockets.

`Exchange` acts on what the `SipAgent` says: bytes go to `_transmit`, which a subclass with sockets
provides; requests go to the handlers, synchronously; responses go to the coroutine that waits for
them. `endpoint.SipEndpoint` is the subclass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from vsp.errors import (
    Conflict,
    Denied,
    Exhausted,
    Invalid,
    NotFound,
    Unavailable,
    Unsupported,
    VspError,
)
from vsp.model.dialog import DialogState
from vsp.ports import Clock
from vsp.sip.core.agent import (
    AckReceived,
    Dropped,
    Peer,
    RequestReceived,
    ResponseReceived,
    Send,
    SipAgent,
    TimedOut,
)
from vsp.sip.core.dialog import (
    Answered,
    Ended,
    Failed,
    InviteDialog,
    Outgoing,
    Phase,
    Ringing,
    Strayed,
    Transmit,
)
from vsp.sip.core.message import Message
from vsp.sip.core.transaction import ClientTransaction, ServerTransaction
from vsp.sip.core.uri import Malformed

log = structlog.get_logger(__name__)

T = TypeVar("T")

Headers = Sequence[tuple[str, str]]


class InviteRefused(Unavailable):
    """The device answered an INVITE with a final refusal. warning: its Warning header, or ""."""

    def __init__(self, message: str, status: int, reason: str, warning: str) -> None:
        super().__init__(message, cause=f"{status} {reason} {warning}".strip())
        self.status = status
        self.reason = reason
        self.warning = warning


@dataclass(slots=True)
class EndpointStats:
    """Counted since start; a shell above turns them into metrics."""

    received: int = 0
    sent: int = 0
    send_dropped: int = 0
    junk: int = 0
    resyncs: int = 0
    refused_connections: int = 0


# ---- requests of ours -----------------------------------------------------------------------


class _Call:
    """A request whose final response somebody waits for."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.answered: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    def on_response(self, message: Message) -> None:
        if message.status >= 200 and not self.answered.done():
            self.answered.set_result(message)

    def on_failure(self, cause: str) -> None:
        if not self.answered.done():
            self.answered.set_exception(Unavailable(f"{self.what}: {cause}", cause=cause))


class _Invite:
    """An INVITE that is being run: tells its waiter, and goes on alone when that has left."""

    def __init__(
        self, exchange: Exchange, dialog: InviteDialog, on_ringing: Callable[[Ringing], None]
    ) -> None:
        self._exchange = exchange
        self._dialog = dialog
        self._on_ringing = on_ringing
        self.answered: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self.what = f"INVITE (peer {dialog.peer}, Call-ID {dialog.call_id})"

    def on_response(self, message: Message) -> None:
        waited = not self.answered.done()
        for event in self._dialog.on_response(message):
            if isinstance(event, Transmit):
                self._exchange._send_outgoing(event.outgoing, self._dialog.peer)
            elif isinstance(event, Strayed):
                self._exchange.on_stray(self._dialog, event.dialog)
            elif not waited:
                continue
            elif isinstance(event, Ringing):
                self._on_ringing(event)
            elif isinstance(event, Answered):
                self.answered.set_result(event)
            elif isinstance(event, Failed):
                text = f"{self.what} refused with {event.status} {event.reason}"
                refused = InviteRefused(text, event.status, event.reason, event.warning)
                self.answered.set_exception(refused)

    def on_failure(self, cause: str) -> None:
        ended = self._dialog.on_timeout()
        if any(isinstance(event, Ended) for event in ended) and not self.answered.done():
            self.answered.set_exception(Unavailable(f"{self.what}: {cause}", cause=cause))


class Exchange:
    """Callbacks are set before traffic begins and run in the loop."""

    def __init__(self, agent: SipAgent, clock: Clock) -> None:
        self.agent = agent
        self.stats = EndpointStats()
        self.on_request: Callable[[RequestReceived], None] = self._unclaimed
        """Sync. A VspError that it raises is answered with the SIP status of its kind."""
        self.on_ack: Callable[[AckReceived], None] = ignore
        self.on_timed_out: Callable[[TimedOut], None] = ignore
        """A refusal of ours whose ACK never came."""
        self.on_stray: Callable[[InviteDialog, DialogState], None] = self._end_stray
        """A dialog that nobody waits for was set up; it is to be acknowledged and ended."""
        self._clock = clock
        self._calls: dict[int, dict[_Call | _Invite, None]] = {}
        self._draining = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = 0.0

    def _transmit(self, data: bytes, peer: Peer) -> None:
        """Send bytes; a subclass with sockets says how."""
        raise Unavailable(f"no way to {peer}")

    def connected(self, peer: Peer) -> bool:
        """Whether requests can be sent there."""
        raise Unavailable(f"no way to {peer}")

    # ---- what the agent says ----------------------------------------------------------------

    def receive(self, data: bytes, peer: Peer) -> None:
        """One datagram, or one message of a stream."""
        self.agent.receive(data, peer, self._clock.monotonic())
        self._drain()

    def _drain(self) -> None:
        """Act on what the agent has to say until it is silent, then see to the timer."""
        if self._draining:
            return
        self._draining = True
        try:
            while outputs := self.agent.take():
                for output in outputs:
                    if isinstance(output, Send):
                        self._transmit(output.data, output.peer)
                    elif isinstance(output, RequestReceived):
                        self._on_request(output)
                    else:
                        self._act(output)
        finally:
            self._draining = False
        self._see_to_timer()

    def _act(self, output: AckReceived | ResponseReceived | TimedOut | Dropped) -> None:
        """One event other than a request, to whoever it concerns; the top of what it sets off."""
        try:
            match output:
                case ResponseReceived():
                    call = output.transaction.user
                    if isinstance(call, _Call | _Invite):
                        call.on_response(output.message)
                case AckReceived():
                    self.on_ack(output)
                case TimedOut():
                    self._on_timed_out(output)
                case Dropped():
                    self.stats.junk += 1
                    log.debug("sip bytes dropped", reason=output.reason, peer=str(output.peer))
        except Exception:
            log.exception("sip event failed", event_kind=type(output).__name__)

    def _on_request(self, output: RequestReceived) -> None:
        """Hand it on; what the handler refuses by raising is answered here."""
        try:
            self.on_request(output)
        except VspError as error:
            status = error.status if isinstance(error, Malformed) else _status_of(error)
            self._refuse(output.transaction, status, _REASONS[status])
        except Exception:
            log.exception("sip request failed", call_id=output.message.call_id)
            self._refuse(output.transaction, 500, _REASONS[500])

    def _refuse(self, transaction: ServerTransaction, status: int, reason: str) -> None:
        if not transaction.answered:
            self.respond(transaction, status, reason)

    def _unclaimed(self, received: RequestReceived) -> None:
        """Nobody is set as handler: say so, as a server without that service."""
        self.respond(received.transaction, 501, "Not Implemented")

    def _on_timed_out(self, output: TimedOut) -> None:
        transaction = output.transaction
        if not isinstance(transaction, ClientTransaction):
            self.on_timed_out(output)
        elif isinstance(transaction.user, _Call | _Invite):
            transaction.user.on_failure("no answer within 32 s")

    # ---- time -------------------------------------------------------------------------------

    def _see_to_timer(self) -> None:
        """One wake-up in the loop, for the agent's earliest deadline."""
        deadline = self.agent.next_deadline()
        if deadline is None or (self._timer is not None and self._timer_at_s <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        delay_s = max(0.0, deadline - self._clock.monotonic())
        self._timer_at_s = deadline
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self.agent.advance(self._clock.monotonic())
        self._drain()

    # ---- what we want -----------------------------------------------------------------------

    def respond(
        self,
        transaction: ServerTransaction,
        status: int,
        reason: str,
        headers: Headers = (),
        body: bytes = b"",
        to_tag: str | None = None,
    ) -> None:
        """Answer a request, at once or later."""
        now = self._clock.monotonic()
        self.agent.respond(transaction, status, reason, headers, body, now=now, to_tag=to_tag)
        self._drain()

    async def request(
        self,
        method: str,
        uri: str,
        headers: Headers,
        body: bytes,
        peer: Peer,
        timeout_s: float,
        *,
        call_id: str | None = None,
        cseq: int = 1,
    ) -> Message:
        """The final response, whatever its status. Raises Unavailable when none comes.

        From and To must be among the headers; the rest is as in `SipAgent.request`. ACK, INVITE and
        CANCEL have their own ways.
        """
        self._check_connected(peer)
        now = self._clock.monotonic()
        transaction = self.agent.request(
            method, uri, headers, body, peer, now, call_id=call_id, cseq=cseq
        )
        what = f"{method} (peer {peer}, Call-ID {transaction.call_id}, CSeq {cseq})"
        call = transaction.user = _Call(what)
        try:
            return await self._await(call, call.answered, peer, timeout_s)
        finally:
            if not _succeeded(call.answered):
                self.agent.abandon(transaction)

    async def invite(
        self,
        dialog: InviteDialog,
        body: bytes,
        timeout_s: float,
        *,
        headers: Headers = (),
        on_provisional: Callable[[Ringing], None] | None = None,
        before_ack: Callable[[], Awaitable[object]] | None = None,
    ) -> Answered:
        """Run an INVITE to its end: ACKs the 2xx and each repetition of it.

        No final response in time: CANCEL, and Unavailable; a 2xx that comes all the same is a
        stray. Cancelling the task does the same. A refusal raises InviteRefused.

        before_ack  awaited between the answer and its ACK: a device that gets no ACK gives up
        """
        self._check_connected(dialog.peer)
        invite = _Invite(self, dialog, on_provisional or ignore)
        outgoing = dialog.invite(body, headers)
        transaction = self._send_outgoing(outgoing, dialog.peer)
        assert transaction is not None
        transaction.user = invite
        try:
            answered = await self._await(invite, invite.answered, dialog.peer, timeout_s)
            if before_ack is not None:
                await before_ack()
        except BaseException:
            self._give_up(dialog, transaction)
            raise
        self.acknowledge(dialog)
        return answered

    def acknowledge(self, dialog: InviteDialog, tag: str = "") -> None:
        """ACK the 2xx with this tag, or the dialog's own; each repetition of it, too."""
        self._send_outgoing(dialog.acknowledge(tag), dialog.peer)
        self._drain()

    def _give_up(self, dialog: InviteDialog, transaction: ClientTransaction) -> None:
        """The waiter has left: cancel what rings; what was answered meanwhile is a stray."""
        if dialog.cancel():
            self.agent.cancel(transaction, self._clock.monotonic())
        elif dialog.phase is Phase.CONFIRMED:
            self.on_stray(dialog, dialog.to_state())
        self._drain()

    def _end_stray(self, dialog: InviteDialog, stray: DialogState) -> None:
        """What becomes of a stray that nobody claims: one BYE."""
        self.acknowledge(dialog, stray.remote_tag)
        again = InviteDialog.from_state(stray, dialog.peer.connection)
        self._send_outgoing(again.bye(), dialog.peer)

    async def bye(self, dialog: InviteDialog, timeout_s: float) -> None:
        """End a confirmed dialog. Raises Unavailable when the device does not answer, or oddly.

        481 and 408 say that it is over there already (RFC 3261 15.1.1).
        """
        out = dialog.bye()
        response = await self.request(
            out.method,
            out.uri,
            out.headers,
            out.body,
            dialog.peer,
            timeout_s,
            call_id=out.call_id,
            cseq=out.cseq,
        )
        if response.status >= 300 and response.status not in {408, 481}:
            raise Unavailable(
                f"BYE answered {response.status} {response.reason} "
                f"(peer {dialog.peer}, Call-ID {out.call_id}, CSeq {out.cseq})"
            )

    async def _await(
        self, call: _Call | _Invite, answered: asyncio.Future[T], peer: Peer, timeout_s: float
    ) -> T:
        """Wait for one call, for so long, or until its connection breaks."""
        calls = self._calls.setdefault(peer.connection, {})
        calls[call] = None
        try:
            self._drain()
            async with asyncio.timeout(timeout_s):
                return await answered
        except TimeoutError:
            raise Unavailable(
                f"{call.what}: no answer within {timeout_s:g} s",
                cause=f"no answer within {timeout_s:g} s",
            ) from None
        finally:
            calls.pop(call, None)
            if not calls:
                self._calls.pop(peer.connection, None)

    def _send_outgoing(self, out: Outgoing, peer: Peer) -> ClientTransaction | None:
        """A request of a dialog; None for an ACK, which has no transaction."""
        if out.method == "ACK":
            self.agent.ack(out.uri, out.headers, peer, call_id=out.call_id, cseq=out.cseq)
            return None
        now = self._clock.monotonic()
        return self.agent.request(
            out.method,
            out.uri,
            out.headers,
            out.body,
            peer,
            now,
            call_id=out.call_id,
            cseq=out.cseq,
        )

    def _check_connected(self, peer: Peer) -> None:
        if not self.connected(peer):
            raise Unavailable(
                f"the connection {peer} is closed", cause="the device closed its TCP connection"
            )

    def _fail_calls(self, connection: int, cause: str) -> None:
        """Whoever waits for answers over that connection gets Unavailable."""
        for call in list(self._calls.get(connection, ())):
            call.on_failure(cause)

    def _stop(self) -> None:
        """No more timers; whoever waits gets Unavailable."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in list(self._calls):
            self._fail_calls(connection, "signalling stops")


_STATUS: tuple[tuple[type[VspError], int], ...] = (
    (Invalid, 400),
    (Denied, 403),
    (NotFound, 404),
    (Conflict, 486),
    (Unsupported, 501),
    (Exhausted, 503),
    (Unavailable, 503),
)
_REASONS = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    486: "Busy Here",
    500: "Server Internal Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "Version Not Supported",
}


def _status_of(error: VspError) -> int:
    """The SIP status of an error's kind; the one place where one becomes the other."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def _succeeded(future: asyncio.Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def ignore(_: object) -> None:
    """What nobody asked to hear of."""


__all__ = ["EndpointStats", "Exchange", "InviteRefused", "ignore"]
