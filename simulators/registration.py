"""Registering, keeping alive, leaving (GB/T 28181-2016 9.1, 9.6).

start -> jitter -> link -> REGISTER -> 401 -> REGISTER -> 200: online
  online:  REGISTER again at 0.8 of Expires; a Keepalive each interval
  offline: 3 Keepalives unanswered, or one refused with 403/404, or the connection lost
  refused: again after a random wait, `retry_s` to twice that; 503 with Retry-After: as told
leave -> REGISTER with Expires 0 -> 401 -> REGISTER -> 200
"""

from __future__ import annotations

from enum import Enum

from simulators import digest
from simulators.line import Alarm, Connect, Disconnect, Gone, Line, Registered
from simulators.templates import Speaker
from vsp.model.device import Transport
from vsp.sip.core.message import Message
from vsp.sip.core.transaction import ClientTransaction

REFRESH_SHARE = 0.8
"""Of Expires; 80 to 90 % is what devices do."""
CHALLENGES_MAX = 2
"""In one attempt: the first, and one for a nonce gone stale. A third means a wrong password."""


class Standing(Enum):
    """Where the registration stands."""

    IDLE = "idle"
    CONNECTING = "connecting"
    REGISTERING = "registering"
    ONLINE = "online"
    LEAVING = "leaving"
    GONE = "gone"


class Registration:
    """One device's registration. `standing` is for reading."""

    def __init__(self, line: Line, speaker: Speaker) -> None:
        self._line = line
        self._speaker = speaker
        self._timing = line.spec.timing
        self.standing = Standing.IDLE
        self.attempts = 0
        self._expires_s = self._timing.expires_s
        self._call_id = ""
        self._tag = ""
        self._cseq = 0
        self._challenges = 0
        self._register: ClientTransaction | None = None
        self._keepalive: ClientTransaction | None = None
        self._misses = 0
        self._next_register: Alarm | None = None
        self._next_keepalive: Alarm | None = None

    # ---- intents ----------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Switched on: the first REGISTER comes after a random part of the jitter."""
        self._register_at(now + self._line.random_s(self._timing.register_jitter_s))

    def leave(self, now: float) -> None:
        """Switched off in order: unregister, if there is anything to take back."""
        self._quiet()
        if self.standing in (Standing.ONLINE, Standing.REGISTERING) and self._line.linked:
            self._line.abandon(self._register)
            self.standing = Standing.LEAVING
            self._challenges = 0
            self._send_register(now)
        else:
            self._gone()

    def linked(self, now: float) -> None:
        """The link is there. A new one is a new registration: Call-ID, tag and CSeq begin anew."""
        self._call_id = f"{self._line.ids.token(8)}@{self._line.host}"
        self._tag = self._line.ids.token(4)
        self._cseq = 0
        if self.standing is Standing.CONNECTING:
            self._attempt(now)

    def unlinked(self, now: float, why: str) -> None:
        """The connection broke or did not open; for TCP this is being offline (2022 9.1.1 f)."""
        self._register = self._keepalive = None
        if self.standing is Standing.LEAVING:
            self._gone()
        elif self.standing is not Standing.GONE:
            self._failed(now, why)

    # ---- REGISTER ---------------------------------------------------------------------------

    def _register_at(self, due: float) -> None:
        if self._next_register is not None:
            self._next_register.cancel()
        self._next_register = self._line.at(due, self._attempt)

    def _attempt(self, now: float) -> None:
        if not self._line.linked:
            self.standing = Standing.CONNECTING
            self._line.out.append(Connect())
            return
        if self.standing is not Standing.ONLINE:
            self.standing = Standing.REGISTERING
        self.attempts += 1
        self._challenges = 0
        self._line.abandon(self._register)
        self._send_register(now)

    def _send_register(self, now: float, authorization: str = "") -> None:
        self._cseq += 1
        line = self._line
        leaving = self.standing is Standing.LEAVING
        headers = [
            ("From", f"<{line.own_uri}>;tag={self._tag}"),
            ("To", f"<{line.own_uri}>"),
            ("Contact", f"<{line.contact}>"),
            *([("Authorization", authorization)] if authorization else []),
            ("X-GB-Ver", line.spec.gb_version),
            ("Expires", "0" if leaving else str(self._expires_s)),
        ]
        self._register = line.call(
            "REGISTER",
            line.registrar_uri,
            headers,
            b"",
            now,
            self._on_register_final,
            call_id=self._call_id,
            cseq=self._cseq,
        )

    def _on_register_final(self, answer: Message | None, now: float) -> None:
        self._register = None
        if (
            answer is not None
            and answer.status in (401, 407)
            and self._answer_challenge(answer, now)
        ):
            return
        if self.standing is Standing.LEAVING:
            self._gone()
        elif answer is None:
            self._failed(now, "REGISTER was not answered")
            if self._line.spec.transport is Transport.TCP:
                self._line.out.append(Disconnect())
        elif 200 <= answer.status < 300:
            self._succeeded(answer, now)
        elif answer.status == 423 and (shortest := answer.header("min-expires")):
            self._expires_s = max(self._expires_s, int(shortest) if shortest.isdigit() else 0)
            self._failed(now, "REGISTER answered 423: Expires was too short")
        else:
            after = answer.header("retry-after") or ""
            self._failed(now, f"REGISTER answered {answer.status} {answer.reason}", after)

    def _answer_challenge(self, answer: Message, now: float) -> bool:
        header = "www-authenticate" if answer.status == 401 else "proxy-authenticate"
        challenge = digest.choose(answer.headers(header))
        if challenge is None or self._challenges >= CHALLENGES_MAX:
            return False
        if self._challenges and not challenge.stale:
            return False
        self._challenges += 1
        line = self._line
        self._send_register(
            now,
            digest.authorization(
                challenge,
                "REGISTER",
                line.registrar_uri,
                line.spec.username or line.spec.gb_id,
                line.spec.password,
                line.ids.token(4),
            ),
        )
        return True

    def _succeeded(self, answer: Message, now: float) -> None:
        was_online = self.standing is Standing.ONLINE
        self.standing = Standing.ONLINE
        granted_s = answer.expires or self._expires_s
        self._register_at(now + granted_s * REFRESH_SHARE)
        if not was_online:
            self._misses = 0
            self._line.out.append(Registered(True, f"registered for {granted_s} s"))
            self._keepalive_at(now + self._timing.keepalive_s)

    def _failed(self, now: float, why: str, retry_after: str = "") -> None:
        """Offline, and again later (2016 9.1.2.1: a configurable random wait, normally 60 s)."""
        self._offline(why)
        if retry_after.isdigit():
            wait_s = int(retry_after) + self._line.random_s(1.0)
        else:
            wait_s = self._timing.retry_s + self._line.random_s(self._timing.retry_s)
        self.standing = Standing.IDLE
        self._register_at(now + wait_s)

    def _offline(self, why: str) -> None:
        if self._next_keepalive is not None:
            self._next_keepalive.cancel()
        self._line.abandon(self._keepalive)
        self._keepalive = None
        if self.standing is Standing.ONLINE:
            self._line.out.append(Registered(False, why))

    # ---- Keepalive --------------------------------------------------------------------------

    def _keepalive_at(self, due: float) -> None:
        self._next_keepalive = self._line.at(due, self._send_keepalive)

    def _send_keepalive(self, now: float) -> None:
        if self._keepalive is not None:  # the last one is still unanswered: that is a miss
            self._line.abandon(self._keepalive)
            self._missed(now)
            if self.standing is not Standing.ONLINE:
                return
        body = self._speaker.keepalive(self._line.next_serial())
        self._keepalive = self._line.message(
            self._line.platform.gb_id, body, now, self._on_keepalive_final
        )
        self._keepalive_at(now + self._timing.keepalive_s)

    def _on_keepalive_final(self, answer: Message | None, now: float) -> None:
        self._keepalive = None
        if answer is None:
            self._missed(now)
        elif answer.status in (403, 404):
            self._register_again(now, f"Keepalive answered {answer.status}")
        else:
            self._misses = 0

    def _missed(self, now: float) -> None:
        self._misses += 1
        if self._misses >= self._timing.keepalive_misses:
            self._register_again(now, f"{self._misses} Keepalives were not answered")

    def _register_again(self, now: float, why: str) -> None:
        """The platform has forgotten us, or is new: register soon, but not all devices at once."""
        self._offline(why)
        self.standing = Standing.IDLE
        self._register_at(now + self._line.random_s(self._timing.register_jitter_s))

    # ---- the end ----------------------------------------------------------------------------

    def _quiet(self) -> None:
        for alarm in (self._next_register, self._next_keepalive):
            if alarm is not None:
                alarm.cancel()
        self._line.abandon(self._keepalive)
        self._keepalive = None

    def _gone(self) -> None:
        self._quiet()
        if self.standing is not Standing.GONE:
            self.standing = Standing.GONE
            self._line.out += [Registered(False, "stopped"), Gone()]


__all__ = ["Registration", "Standing"]
