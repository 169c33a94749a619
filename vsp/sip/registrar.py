"""Registration and heartbeats (GB/T 28181-2016 9.1, 9.6; RFC 3261 10.3), and their write-behind.

`Registrar` is pure: a message, its source and the time in, an answer out; what follows for presence
happens in `Roster`. It never waits, because behind it the socket fills: after an outage the whole
fleet registers within seconds.

`WriteBehind` is the other half: the only task here. It writes changed rows once a second, so that a
heartbeat costs no row of its own, and a database that stalls holds up nobody.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from vsp.config import SipConfig
from vsp.errors import VspError
from vsp.model.changes import ChangePoint
from vsp.model.device import Binding, Candidate, Presence
from vsp.model.ids import GbId, UtcMicros
from vsp.ports import ChangeLog, DeviceBook, Metrics
from vsp.sip.admission import Buckets
from vsp.sip.core.agent import Peer
from vsp.sip.core.digest import (
    Accepted,
    Challenge,
    DigestServer,
    NonceIssuer,
    Refused,
    parse_auth,
)
from vsp.sip.core.manscdp.envelope import format_time
from vsp.sip.core.message import Message
from vsp.sip.presence import Edge, Entry, Move, Roster, address
from vsp.sip.quirks import QuirkLedger

log = structlog.get_logger(__name__)

GB_VERSION = "3.0"
"""X-GB-Ver of an implementation of the 2022 edition (GB/T 28181-2022 annex I)."""

CANDIDATES_MAX = 2000
"""Unknown devices remembered: more than anybody approves by hand; floods push out the oldest."""

FAILURES_PER_S = 0.5
FAILURES_BURST = 10.0
"""Refused passwords answered per device and source: guessing gets one try in two seconds, a device
with a slip in its password still hears 403 each time (it retries after 60 s, 2016 9.1.2.1)."""

FAILURE_BUCKETS_MAX = 10_000
"""Such pairs remembered; about 150 bytes each."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request. `silent`: none at all."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()
    silent: bool = False


SILENCE = Reply(0, "", silent=True)
FORBIDDEN = Reply(403, "Forbidden")


@dataclass(frozen=True, slots=True)
class Registered:
    """A REGISTER was accepted. `returned`: the device was not there before."""

    entry: Entry
    returned: bool
    moved: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """Answer and consequence of one REGISTER. `stranger`: the answer is subject to admission."""

    reply: Reply
    registered: Registered | None = None
    stranger: bool = False


class Registrar:
    """Judges REGISTER and heartbeats."""

    def __init__(
        self,
        config: SipConfig,
        roster: Roster,
        issuer: NonceIssuer,
        quirks: QuirkLedger,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._roster = roster
        self._issuer = issuer
        self._digest = DigestServer(config.domain, issuer)
        self._quirks = quirks
        self._metrics = metrics
        self._failures = Buckets[tuple[str, str]](
            FAILURES_PER_S, FAILURES_BURST, FAILURE_BUCKETS_MAX
        )
        self.candidates = CandidateTable()

    # ---- REGISTER ---------------------------------------------------------------------------

    def register(self, message: Message, peer: Peer, now: float, now_us: UtcMicros) -> Verdict:
        """Judge one REGISTER. The device is the user of From; the host parts mean nothing."""
        gb_id = message.from_user
        entry = self._roster.by_gb_id(gb_id)
        if entry is None:
            self._metrics.count("vsp_sip_registers", result="unknown")
            if is_gb_id(gb_id):
                self.candidates.saw(GbId(gb_id), peer, message.user_agent, now_us)
            return Verdict(self._with_version(FORBIDDEN), stranger=True)
        return self._register_known(entry, message, peer, now, now_us)

    def _register_known(
        self, entry: Entry, message: Message, peer: Peer, now: float, now_us: UtcMicros
    ) -> Verdict:
        refusal = self._authenticate(entry, message, peer, now, now_us)
        if refusal is not None:
            return Verdict(self._with_version(refusal))
        expires_s = self._expires_s(message)
        if expires_s is None:
            self._metrics.count("vsp_sip_registers", result="too_brief")
            brief = (("Min-Expires", str(self._config.expires_min_s)),)
            return Verdict(self._with_version(Reply(423, "Interval Too Brief", brief)))
        wait_s = self._roster.move_wait_s(entry, peer, now)
        if wait_s > 0:
            self._metrics.count("vsp_sip_registers", result="moves_too_often")
            later = (("Retry-After", str(math.ceil(wait_s))),)
            return Verdict(self._with_version(Reply(503, "Registered Elsewhere", later)))
        registered = self._accept(entry, message, peer, expires_s, now, now_us)
        self._metrics.count("vsp_sip_registers", result="ok" if expires_s else "unregistered")
        return Verdict(self._ok(entry, message, expires_s, now_us), registered)

    def _authenticate(
        self, entry: Entry, message: Message, peer: Peer, now: float, now_us: UtcMicros
    ) -> Reply | None:
        """None when the password is right; else the challenge or the refusal."""
        header = message.header("authorization")
        if header is not None and not header.lstrip().lower().startswith("digest"):
            self._quirks.seen(entry.id, "foreign-auth-scheme", now_us)
        result = self._check(entry, header, peer.host, now)
        if isinstance(result, Accepted):
            return None
        if isinstance(result, Challenge):
            self._metrics.count("vsp_sip_registers", result="challenged")
            return Reply(401, "Unauthorized", (("WWW-Authenticate", result.header),))
        self._metrics.count("vsp_sip_registers", result="refused")
        if not self._failures.take((entry.gb_id, peer.host), now):
            return SILENCE
        log.warning(
            "registration refused", device=entry.id, peer=address(peer), reason=result.reason
        )
        return FORBIDDEN

    def _check(
        self, entry: Entry, header: str | None, host: str, now: float
    ) -> Accepted | Challenge | Refused:
        if entry.digest_secret is None:
            return Refused("the device has no password")
        algorithm = entry.settings.digest
        username = entry.settings.auth_username or entry.gb_id
        secret = entry.digest_secret
        result = self._digest.check(
            header, "REGISTER", entry.gb_id, username, secret, host, now, algorithm
        )
        if isinstance(result, Refused) and header is not None and self._foreign_nonce(header):
            # A nonce from before our restart: 403 would keep the device away for minutes.
            return self._digest.challenge(entry.gb_id, host, now, algorithm, stale=True)
        return result

    def _foreign_nonce(self, header: str) -> bool:
        return self._issuer.issued_s(parse_auth(header)[1].get("nonce", "")) is None

    def _expires_s(self, message: Message) -> int | None:
        """Seconds granted; 0 unregisters; None when too brief (RFC 3261 10.3, step 7)."""
        wanted_s = message.expires
        if wanted_s is None:
            return self._config.expires_max_s
        if 0 < wanted_s < self._config.expires_min_s:
            return None
        return max(0, min(wanted_s, self._config.expires_max_s))

    def _accept(
        self,
        entry: Entry,
        message: Message,
        peer: Peer,
        expires_s: int,
        now: float,
        now_us: UtcMicros,
    ) -> Registered | None:
        if expires_s == 0:
            # From elsewhere it ends what was there before, which may be nothing: the device that
            # moves says so with the REGISTER that follows.
            if not self._roster.is_held_elsewhere(entry, peer, now):
                self._roster.unbind(entry, peer, now, now_us)
            return None
        returned = entry.presence is not Presence.ONLINE
        moved = entry.peer is not None and entry.peer != peer
        contact = message.contact
        binding = Binding(
            transport=peer.transport,
            host=peer.host,
            port=peer.port,
            contact=str(contact.uri) if contact else "",
            registered_at_us=now_us,
            expires_at_us=UtcMicros(now_us + expires_s * 1_000_000),
            user_agent=message.user_agent[:200],
            gb_version=(message.header("x-gb-ver") or "")[:10],
        )
        self._roster.bind(entry, binding, peer, expires_s, now)
        return Registered(entry, returned, moved)

    def _ok(self, entry: Entry, message: Message, expires_s: int, now_us: UtcMicros) -> Reply:
        """200 with all that strict devices insist on: without Contact some register in a loop."""
        headers = []
        if message.contact is not None:
            headers.append(("Contact", f"<{message.contact.uri}>"))
        if self._config.date_header and entry.settings.send_date:
            headers.append(("Date", date_text(now_us)))
        headers.append(("Expires", str(expires_s)))
        return self._with_version(Reply(200, "OK", tuple(headers)))

    def _with_version(self, reply: Reply) -> Reply:
        """X-GB-Ver on success and failure alike (GB/T 28181-2022 annex I)."""
        return replace(reply, headers=(*reply.headers, ("X-GB-Ver", GB_VERSION)))

    # ---- heartbeats -------------------------------------------------------------------------

    def keepalive(self, entry: Entry, peer: Peer, now: float, now_us: UtcMicros) -> Reply:
        """Judge one heartbeat: from the bound host, within a valid registration.

        403 makes a device register again (GB/T 28181-2016 9.6), which is what it should do when we
        do not know where it is. A stranger who knows the code gets the same, and changes nothing.
        """
        if not self._roster.registered(entry, now):
            self._metrics.count("vsp_sip_refused", reason="keepalive_unregistered")
            return FORBIDDEN
        if not same_host(entry, peer):
            self._metrics.count("vsp_sip_refused", reason="keepalive_foreign")
            return FORBIDDEN
        if entry.presence is Presence.OFFLINE:
            self._quirks.seen(entry.id, "keepalive-after-offline", now_us)
        before = entry.peer
        if self._roster.beat(entry, peer, now, now_us):
            self._quirks.seen(entry.id, "source-port-moved", now_us)
            log.info(
                "binding moved by heartbeat",
                device=entry.id,
                before=address(before) if before else "",
                peer=address(peer),
            )
        self._metrics.count("vsp_sip_keepalives")
        return Reply(200, "OK")


def same_host(entry: Entry, peer: Peer) -> bool:
    """Whether a message comes from the host the device registered from."""
    return entry.binding is not None and entry.binding.host == peer.host


def is_gb_id(text: str) -> bool:
    """Twenty decimal digits (GB/T 28181-2016 annex D)."""
    return len(text) == 20 and text.isascii() and text.isdigit()


def date_text(at_us: UtcMicros) -> str:
    """Date of a 200 to REGISTER: Beijing time, milliseconds, no zone; not the form of RFC 3261.

    GB/T 28181-2016 9.10 and 2022 9.10: `yyyy-MM-dd'T'HH:mm:ss.SSS`.
    """
    return f"{format_time(at_us)}.{at_us // 1000 % 1000:03}"


# ---- unknown devices ------------------------------------------------------------------------


class CandidateTable:
    """Unknown devices that tried to register, newest last, bounded."""

    def __init__(self) -> None:
        self._rows: OrderedDict[GbId, Candidate] = OrderedDict()
        self._dirty: dict[GbId, int] = {}

    def saw(self, gb_id: GbId, peer: Peer, user_agent: str, now_us: UtcMicros) -> None:
        """Note one attempt."""
        old = self._rows.pop(gb_id, None)
        self._rows[gb_id] = Candidate(
            gb_id=gb_id,
            host=peer.host,
            port=peer.port,
            transport=peer.transport,
            user_agent=user_agent[:200],
            first_seen_us=old.first_seen_us if old else now_us,
            last_seen_us=now_us,
            attempts=0,
        )
        self._dirty[gb_id] = self._dirty.get(gb_id, 0) + 1
        if len(self._rows) > CANDIDATES_MAX:
            gone, _ = self._rows.popitem(last=False)
            self._dirty.pop(gone, None)

    def known(self, gb_id: GbId) -> None:
        """It was added as a device, or dismissed."""
        self._rows.pop(gb_id, None)
        self._dirty.pop(gb_id, None)

    def take(self, limit: int) -> list[Candidate]:
        """Sightings since they were last taken; `attempts` counts only those."""
        taken = [gb_id for gb_id, _ in zip(self._dirty, range(limit), strict=False)]
        return [replace(self._rows[gb_id], attempts=self._dirty.pop(gb_id)) for gb_id in taken]

    def put_back(self, sightings: Sequence[Candidate]) -> None:
        """Writing failed: count them again."""
        for sighting in sightings:
            if sighting.gb_id in self._rows:
                waiting = self._dirty.get(sighting.gb_id, 0)
                self._dirty[sighting.gb_id] = waiting + sighting.attempts

    def __len__(self) -> int:
        return len(self._rows)


# ---- write-behind ---------------------------------------------------------------------------

FLUSH_PERIOD_S = 1.0
"""How far rows lag behind: a crash loses this much of last_seen, which a heartbeat mends."""

FLUSH_ROWS_MAX = 1000
"""Rows of one write: about 5 ms of the loop's time at 3-7 us a row."""

FLUSH_TIMEOUT_S = 30.0
"""Longest wait for one write; then it is tried again, so that a hung store shows in the log."""

POINTS_MAX = 200_000
"""Change points kept while the database is away: four for each device of the largest fleet. Beyond
it the oldest go, with an error in the log."""


class WriteBehind:
    """Writes what changed, in the background, in order, until it is stopped."""

    def __init__(
        self,
        roster: Roster,
        candidates: CandidateTable,
        devices: DeviceBook,
        changes: ChangeLog,
    ) -> None:
        self._roster = roster
        self._candidates = candidates
        self._devices = devices
        self._changes = changes
        self._points: list[ChangePoint] = []
        self._full = asyncio.Event()
        self.on_candidates: Callable[[Sequence[Candidate]], None] | None = None

    def add(self, changes: Sequence[Edge | Move]) -> None:
        """Queue the change points of these."""
        self._points.extend(change.point() for change in changes)
        over = len(self._points) - POINTS_MAX
        if over > 0:
            del self._points[:over]
            log.error("change points dropped", dropped=over)

    def nudge(self) -> None:
        """Called in the receive path: write early when a full batch waits."""
        if self._roster.dirty() >= FLUSH_ROWS_MAX:
            self._full.set()

    async def run(self) -> None:
        """Flush once a second or at a full batch, for ever; to be cancelled."""
        while True:
            try:
                async with asyncio.timeout(FLUSH_PERIOD_S):
                    await self._full.wait()
            except TimeoutError:
                pass
            self._full.clear()
            await self.flush()

    async def flush(self) -> bool:
        """Write everything that waits. False when the store did not take it; nothing is lost."""
        try:
            while await self._flush_once():
                pass
        except (VspError, TimeoutError) as error:
            log.error("device states not written", error=str(error) or type(error).__name__)
            return False
        except Exception:
            log.exception("device states not written")
            return False
        return True

    async def _flush_once(self) -> bool:
        """One batch of each kind; True while a full batch may be left."""
        more = await self._flush_points()
        more |= await self._flush_states()
        more |= await self._flush_candidates()
        return more

    async def _flush_points(self) -> bool:
        points, self._points = self._points[:FLUSH_ROWS_MAX], self._points[FLUSH_ROWS_MAX:]
        if not points:
            return False
        written = False
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                await self._changes.append(points)
            written = True
        finally:
            if not written:
                self._points[:0] = points
        return bool(self._points)

    async def _flush_states(self) -> bool:
        states = self._roster.take_states(FLUSH_ROWS_MAX)
        if not states:
            return False
        written = False
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                await self._devices.save_states(states)
            written = True
        finally:
            if not written:
                self._roster.put_back(states)
        return self._roster.dirty() >= FLUSH_ROWS_MAX

    async def _flush_candidates(self) -> bool:
        sightings = self._candidates.take(FLUSH_ROWS_MAX)
        if not sightings:
            return False
        written = False
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                await self._devices.saw_candidates(sightings)
            written = True
        finally:
            if not written:
                self._candidates.put_back(sightings)
        if self.on_candidates is not None:
            self.on_candidates(sightings)
        return False


__all__ = [
    "CANDIDATES_MAX",
    "GB_VERSION",
    "CandidateTable",
    "Registered",
    "Registrar",
    "Reply",
    "Verdict",
    "WriteBehind",
    "date_text",
    "is_gb_id",
    "same_host",
]
