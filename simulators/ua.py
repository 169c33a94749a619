"""A simulated device as a pure state machine: camera and NVR alike.

    ua.start(now)  ua.stop(now)                    switched on; switched off in order
    ua.linked(peer, host, port, now)  ua.unlinked  what became of `Connect`
    ua.receive(data, peer, now)                    what the platform said
    ua.media_opened / media_failed / media_lost    what became of `OpenMedia`, `StartMedia`
    ua.advance(now)  ua.next_deadline()            time
    ua.take()                                      Send, Registered, OpenMedia, ... in order

It holds no socket and no clock but the device's own wall clock, which only answers questions about
the time of day.
"""

from __future__ import annotations

from simulators.calls import Calls
from simulators.desk import Desk
from simulators.line import ALLOW, Died, Line, Output
from simulators.registration import Registration, Standing
from simulators.spec import DeviceSpec, PlatformSpec
from simulators.templates import Speaker, Tongue
from vsp.ports import Clock, Ids
from vsp.sip.core.agent import (
    AckReceived,
    Peer,
    RequestReceived,
    ResponseReceived,
    Send,
    TimedOut,
)
from vsp.sip.core.transaction import ClientTransaction
from vsp.sip.core.uri import Malformed


class DeviceUa:
    """One device. All times `now` are monotonic seconds of the same clock."""

    def __init__(self, spec: DeviceSpec, platform: PlatformSpec, ids: Ids, clock: Clock) -> None:
        self.spec = spec
        self._line = Line(spec, platform, ids)
        speaker = Speaker(spec.gb_id, Tongue(spec.charset), spec.faults.label)
        self._registration = Registration(self._line, speaker)
        self._calls = Calls(self._line)
        self._desk = Desk(self._line, speaker, clock, lambda: self._calls.streaming > 0)
        self._dead = False

    @property
    def online(self) -> bool:
        return self._registration.standing is Standing.ONLINE

    @property
    def registrations(self) -> int:
        """Attempts so far, refreshes included."""
        return self._registration.attempts

    @property
    def streaming(self) -> int:
        """Streams under way."""
        return self._calls.streaming

    # ---- intents ----------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Switch on."""
        if self.spec.faults.silent_death_after_s is not None:
            self._line.at(now + self.spec.faults.silent_death_after_s, self._die)
        self._registration.start(now)

    def stop(self, now: float) -> None:
        """Hang up, unregister; `Gone` says when it is done."""
        self._calls.end_all(now)
        self._registration.leave(now)
        self._settle(now)

    def _die(self, now: float) -> None:
        self._dead = True
        self._line.out.append(Died())

    # ---- the link ---------------------------------------------------------------------------

    def linked(self, peer: Peer, host: str, port: int, now: float) -> None:
        """There is a way to the platform, from our end `host:port`."""
        self._line.link(peer, host, port)
        self._registration.linked(now)
        self._settle(now)

    def unlinked(self, now: float, why: str) -> None:
        """The way is gone, or could not be opened."""
        self._line.unlink()
        self._calls.drop_all()
        self._desk.forget()
        self._registration.unlinked(now, why)

    def receive(self, data: bytes, peer: Peer, now: float) -> None:
        """One datagram, or one message of a stream."""
        if self._dead or self._line.agent is None:
            return
        self._line.agent.receive(data, peer, now)
        self._settle(now)

    # ---- media ------------------------------------------------------------------------------

    def media_opened(self, call_id: str, host: str, port: int, now: float) -> None:
        self._calls.media_opened(call_id, host, port, now)
        self.advance(now)

    def media_failed(self, call_id: str, now: float) -> None:
        self._calls.media_failed(call_id, now)
        self._settle(now)

    def media_lost(self, call_id: str, now: float) -> None:
        self._calls.media_lost(call_id, now)
        self._settle(now)

    # ---- time and outbox --------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Time passed."""
        if self._dead:
            return
        self._line.advance(now)
        self._calls.advance(now)
        self._settle(now)

    def next_deadline(self) -> float | None:
        if self._dead:
            return None
        dues = [self._line.next_deadline(), self._calls.next_deadline()]
        return min((due for due in dues if due is not None), default=None)

    def take(self) -> list[Output]:
        """What is to be done now, in order. A dead device does nothing any more."""
        out, self._line.out = self._line.out, []
        if self._dead:
            return [output for output in out if isinstance(output, Died)]
        return out

    # ---- what the agent says ----------------------------------------------------------------

    def _settle(self, now: float) -> None:
        """Hand the agent's outputs round until nothing new comes of them."""
        while self._line.agent is not None and (outputs := self._line.agent.take()):
            for output in outputs:
                match output:
                    case Send():
                        self._line.out.append(output)
                    case RequestReceived():
                        self._request(output, now)
                    case AckReceived(message=message):
                        self._calls.ack(message, now)
                    case ResponseReceived(transaction=transaction, message=message):
                        if message.status >= 200:
                            self._final(transaction, message, now)
                    case TimedOut(transaction=transaction):
                        if isinstance(transaction, ClientTransaction):
                            self._final(transaction, None, now)
                    case _:
                        pass  # Dropped: noise that a device has no words for

    def _final(self, transaction: ClientTransaction, answer: object, now: float) -> None:
        on_final, transaction.user = transaction.user, None
        if callable(on_final):
            on_final(answer, now)

    def _request(self, received: RequestReceived, now: float) -> None:
        try:
            self._dispatch(received, now)
        except Malformed:  # a header is only read when somebody asks for it
            self._line.reply(received.transaction, 400, "Bad Request", now)

    def _dispatch(self, received: RequestReceived, now: float) -> None:
        transaction, request = received.transaction, received.message
        match request.method:
            case "INVITE":
                self._calls.invite(transaction, request, received.peer, now)
            case "CANCEL":
                assert self._line.agent is not None, "the agent that has just spoken"
                invite = self._line.agent.invite_of(request, received.peer)
                self._calls.cancel(transaction, invite, now)
            case "BYE":
                self._calls.bye(transaction, request, now)
            case "MESSAGE":
                self._desk.message(transaction, request, now)
            case "OPTIONS":
                self._line.reply(transaction, 200, "OK", now, [("Allow", ALLOW)])
            case _:
                allow = [("Allow", ALLOW)]
                self._line.reply(transaction, 405, "Method Not Allowed", now, allow)


__all__ = ["DeviceUa"]
