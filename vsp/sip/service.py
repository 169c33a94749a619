"""Signalling as one thing: what the node starts, and what use cases call (`ports.SignalControl`).

    endpoint ──requests──▶ _on_request ─▶ registrar · directory · command · session
                                 └──────▶ one answer, at once, never after an await

The receive path is synchronous from the socket to the answer: nothing in it waits for a database, a
device or a person. What takes time is handed on (a catalogue to its assembly, rows to the
write-behind, a very long body to a thread). One task group owns every task here.

Who sent a MESSAGE is decided in `_sender`, and nowhere else: the user of From must be a device we
know, and the source must be the host it registered from (GB/T 28181-2016 9.1, 8.1). Everything else
gets 403 and changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from vsp.config import SipConfig
from vsp.errors import Invalid, NotFound, Unavailable, VspError
from vsp.model.device import Candidate, CatalogDiff, Device, DeviceSecret, Presence
from vsp.model.dialog import DialogState
from vsp.model.ids import DeviceId, GbId, UtcMicros
from vsp.ports import (
    ChangeLog,
    Clock,
    DeviceBook,
    DeviceFacts,
    DialogRow,
    Ids,
    InviteAnswer,
    InviteSpec,
    Metrics,
    RecordItem,
    StreamBook,
    TraceLine,
)
from vsp.sip.admission import Admission
from vsp.sip.command import Answers, Commands, Outbox
from vsp.sip.core.agent import AckReceived, Peer, RequestReceived, SipAgent
from vsp.sip.core.digest import NonceIssuer
from vsp.sip.core.manscdp.envelope import Body, parse_body
from vsp.sip.core.manscdp.keepalive import parse_keepalive
from vsp.sip.core.message import Message, reply_bytes
from vsp.sip.directory import Directory
from vsp.sip.endpoint import SipEndpoint, Sockets
from vsp.sip.presence import Entry, PresenceRules, Roster
from vsp.sip.quirks import QuirkLedger, Sighting
from vsp.sip.registrar import FORBIDDEN, Registrar, Reply, WriteBehind, same_host
from vsp.sip.session import NO_DIALOG, InviteFailed, Sessions
from vsp.sip.tally import Tally
from vsp.sip.trace import HEAD_SEARCHED, LINES_MAX, TraceBook, parties

log = structlog.get_logger(__name__)

USER_AGENT = "vsp"

ALLOW = "INVITE, ACK, INFO, CANCEL, BYE, OPTIONS, MESSAGE, REGISTER"
"""GB/T 28181-2016 annex G: Allow lists at least the first seven."""

COUNTED_METHODS = frozenset(ALLOW.split(", ")) | {"SUBSCRIBE", "NOTIFY"}
"""Methods with a counter of their own; what strangers invent is counted as `other`."""

TICK_S = 1.0
"""How often presence is judged; a heartbeat's deadline is tens of seconds away."""

INLINE_BODY_BYTES = 32 * 1024
"""Largest body parsed in the receive path: about 2 ms; the loop's budget is 20 ms."""

LONG_BODIES_MAX = 8
"""Larger bodies in work at once; more are answered 503 and come again."""

FLUSH_AT_CLOSE_S = 5.0
"""Longest wait for the last rows when stopping."""

OK = Reply(200, "OK")
BAD_BODY = Reply(400, "Bad MANSCDP Body")
BUSY = Reply(503, "Busy", (("Retry-After", "5"),))
NOT_ALLOWED = Reply(405, "Method Not Allowed", (("Allow", ALLOW),))
NOT_ACCEPTABLE = Reply(488, "Not Acceptable Here")


class SignalService:
    """Implements `ports.SignalControl`. Callbacks are set before `start` and run in the loop."""

    def __init__(
        self,
        config: SipConfig,
        advertised: str,
        devices: DeviceBook,
        changes: ChangeLog,
        clock: Clock,
        ids: Ids,
        metrics: Metrics,
        book: StreamBook,
        nonce_key: bytes,
        sockets: Sockets | None = None,
    ) -> None:
        """`nonce_key` outlives the process: a nonce from before a restart is merely stale.

        sockets  where they come from; None: from the system
        """
        self.on_presence: Callable[[DeviceId, Presence, str], None] | None = None
        self.on_catalog: Callable[[DeviceId, CatalogDiff], None] | None = None
        self.on_dialog_ended: Callable[[str, str], None] | None = None
        self.on_candidates: Callable[[Sequence[Candidate]], None] | None = None
        self._config = config
        self._advertised = advertised
        self._devices = devices
        self._clock = clock
        metrics = self._metrics = Tally(metrics)
        self._agent = SipAgent(ids, f"{advertised}:{config.port}", USER_AGENT, trying=False)
        self._endpoint = SipEndpoint(
            self._agent, clock, config.host, config.port, config.transports, sockets=sockets
        )
        self._quirks = QuirkLedger()
        self._trace = TraceBook()
        self._admission = Admission(clock.monotonic())
        self._roster = Roster(
            PresenceRules(config.keepalive_interval_s, config.keepalive_misses, config.tcp_leave_s)
        )
        issuer = NonceIssuer(nonce_key, config.nonce_life_s)
        self._registrar = Registrar(config, self._roster, issuer, self._quirks, metrics)
        self._writer = WriteBehind(self._roster, self._registrar.candidates, devices, changes)
        self._answers = Answers(ids, self._quirks, clock)
        self._outbox = Outbox(config, advertised, self._endpoint, clock, metrics)
        self._commands = Commands(config, self._outbox, self._answers, self._quirks, clock)
        self._directory = Directory(
            config, self._outbox, self._answers, devices, self._quirks, clock, metrics
        )
        self._sessions = Sessions(
            config,
            self._outbox,
            self._endpoint,
            self._roster,
            self._quirks,
            clock,
            ids,
            metrics,
            book,
            self._spawn,
        )
        self._group: asyncio.TaskGroup | None = None
        self._main: asyncio.Task[None] | None = None
        self._long_bodies = 0

    # ---- life -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the devices, open the sockets. Raises Conflict when the port is taken."""
        now, now_us = self._clock.monotonic(), self._clock.now_us()
        self._roster.load(await self._devices.all_devices(), now, now_us)
        self._sessions.adopt()
        self._endpoint.on_request = self._on_request
        self._endpoint.on_ack = self._on_ack
        self._endpoint.on_traffic = self._on_traffic
        self._endpoint.on_disconnect = self._on_disconnect
        self._directory.on_catalog = self._catalog_applied
        self._sessions.on_dialog_ended = self._dialog_ended
        self._writer.on_candidates = self._candidates_seen
        ready = asyncio.Event()
        self._main = asyncio.create_task(self._run(ready), name="signalling")
        await ready.wait()
        try:
            await self._endpoint.start()
        except BaseException:
            await self._stop_tasks()
            raise
        self._agent.sent_by = f"{self._advertised}:{self._endpoint.port}"
        online = [entry for entry in self._roster if entry.presence is Presence.ONLINE]
        self._directory.plan_all(online)
        log.info("signalling up", port=self._endpoint.port, devices=len(self._roster))

    async def close(self) -> None:
        """Stop receiving, then write what is left. Dialogs stay up: the media goes on."""
        await self._endpoint.close()
        await self._stop_tasks()
        try:
            async with asyncio.timeout(FLUSH_AT_CLOSE_S):
                await self._writer.flush()
        except TimeoutError:
            log.error("last device states not written", rows=self._roster.dirty())
        self._metrics.flush()

    @property
    def port(self) -> int:
        """The port that is really listened on."""
        return self._endpoint.port

    async def _run(self, ready: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._tick(), name="presence")
            group.create_task(self._writer.run(), name="write-behind")
            group.create_task(self._sessions.run(), name="owed BYEs")
            group.create_task(
                self._directory.run(self._roster.get, self._survey), name="catalogues"
            )
            ready.set()

    async def _stop_tasks(self) -> None:
        main, self._main, self._group = self._main, None, None
        if main is not None:
            main.cancel()
            await asyncio.wait({main})

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """A task of the group. Its failure is logged and ends only itself."""
        if self._group is None:
            work.close()
            raise Unavailable("signalling is stopped")
        return self._group.create_task(_guarded(work, name), name=name)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self._roster.advance(self._clock.monotonic(), self._clock.now_us())
                self._publish()
                self._metrics.flush()
            except Exception:
                log.exception("presence not judged")

    def _publish(self) -> None:
        """Tell of every edge of presence, once, in order."""
        moves = self._roster.take_moves()
        if moves:
            self._writer.add(moves)
            for move in moves:
                log.warning(
                    "device moved", device=move.device_id, before=move.before, to=move.after
                )
        edges = self._roster.take_edges()
        if not edges:
            return
        self._writer.add(edges)
        for edge in edges:
            self._metrics.count("vsp_device_transitions", state=edge.presence.value)
            log.info(
                "device presence",
                device=edge.device_id,
                state=edge.presence.value,
                cause=edge.cause,
                evidence=edge.evidence,
            )
            entry = self._roster.get(edge.device_id)
            if entry is not None and edge.presence is Presence.ONLINE:
                self._directory.came_online(entry)
                self._sessions.returned(entry)
            if self.on_presence is not None:
                self.on_presence(edge.device_id, edge.presence, edge.evidence)

    async def _survey(self, entry: Entry) -> CatalogDiff:
        """What is asked of a device in its turn: its catalogue, and once who made it."""
        diff = await self._directory.refresh(entry)
        if not entry.device.manufacturer:
            try:
                await self._learn_facts(entry)
            except VspError as error:
                log.info("device info not read", device=entry.id, error=error.message)
        return diff

    async def _learn_facts(self, entry: Entry) -> DeviceFacts:
        facts = await self._commands.device_info(entry)
        await self._devices.save_facts(entry.id, facts)
        entry.device = replace(
            entry.device,
            manufacturer=facts.manufacturer,
            model=facts.model,
            firmware=facts.firmware,
        )
        return facts

    def _catalog_applied(self, device_id: DeviceId, diff: CatalogDiff) -> None:
        if self.on_catalog is not None:
            self.on_catalog(device_id, diff)

    def _dialog_ended(self, call_id: str, cause: str) -> None:
        if self.on_dialog_ended is not None:
            self.on_dialog_ended(call_id, cause)

    def _candidates_seen(self, candidates: Sequence[Candidate]) -> None:
        if self.on_candidates is not None:
            self.on_candidates(candidates)

    # ---- what use cases call ----------------------------------------------------------------

    def device_added(self, device: Device, secret: DeviceSecret) -> None:
        """A device was added or changed; takes effect with its next message."""
        self._roster.put(device, secret)
        self._registrar.candidates.known(device.gb_id)

    def device_removed(self, device_id: DeviceId) -> None:
        self._roster.remove(device_id)
        self._directory.forget(device_id)
        self._trace.forget(device_id)
        self._quirks.forget(device_id)

    def presence(self, device_id: DeviceId) -> tuple[Presence, UtcMicros]:
        """State and since when. UNKNOWN since 0 for a device that is gone."""
        entry = self._roster.get(device_id)
        if entry is None:
            return Presence.UNKNOWN, UtcMicros(0)
        return entry.presence, entry.presence_since_us

    def restore(self, dialogs: Iterable[DialogRow]) -> None:
        """Take over the dialogs of a former run; before `start`."""
        self._sessions.restore(dialogs)

    async def invite(self, spec: InviteSpec) -> InviteAnswer:
        """Raises InviteFailed naming leg and packet; NotFound for a device that is gone."""
        return await self._sessions.invite(self._entry(spec.device_id), spec)

    async def bye(self, dialog: DialogState) -> None:
        await self._sessions.bye(dialog)

    async def refresh_catalog(self, device_id: DeviceId) -> CatalogDiff:
        return await self._directory.refresh(self._entry(device_id))

    def catalog_progress(self, device_id: DeviceId) -> tuple[int, int | None] | None:
        """(received, expected) of a catalogue answer coming in now; None when none is."""
        return self._directory.progress(device_id)

    async def device_info(self, device_id: DeviceId) -> DeviceFacts:
        return await self._learn_facts(self._entry(device_id))

    async def device_status(self, device_id: DeviceId) -> Mapping[str, str]:
        return await self._commands.device_status(self._entry(device_id))

    async def records(
        self, device_id: DeviceId, channel_gb_id: GbId, from_us: UtcMicros, until_us: UtcMicros
    ) -> Sequence[RecordItem]:
        """A `RecordItems`: its `complete` is False when the device announced more than it sent."""
        entry = self._entry(device_id)
        return await self._commands.records(entry, channel_gb_id, from_us, until_us)

    def trace(self, device_id: DeviceId, limit: int = LINES_MAX) -> Sequence[TraceLine]:
        return self._trace.lines(device_id, limit)

    def strangers(self) -> Sequence[TraceLine]:
        """The last messages of unknown peers."""
        return self._trace.strangers()

    def quirks(self, device_id: DeviceId) -> tuple[Sighting, ...]:
        """Tolerances that this device made use of since the start."""
        return self._quirks.of(device_id)

    def _entry(self, device_id: DeviceId) -> Entry:
        entry = self._roster.get(device_id)
        if entry is None:
            raise NotFound(f"no such device: {device_id}")
        return entry

    # ---- what the network says --------------------------------------------------------------

    def _on_traffic(self, outgoing: bool, peer: Peer, data: bytes) -> None:
        """Into the ring of the device that the message is from or to."""
        entry = self._roster.by_peer(peer)
        if entry is None or entry.gb_bytes not in data[:HEAD_SEARCHED]:
            # Several devices share an address, or a stranger names a device of ours.
            sender, receiver = parties(data)
            named = self._roster.by_gb_id(sender) or self._roster.by_gb_id(receiver)
            entry = named or entry
        device_id = entry.id if entry is not None else None
        self._trace.note(device_id, self._clock.now_us(), outgoing, peer, data)

    def _on_disconnect(self, peer: Peer) -> None:
        self._roster.disconnected(peer, self._clock.monotonic())

    def _on_ack(self, received: AckReceived) -> None:
        """We answer no INVITE with 2xx, so no ACK of one is ours."""

    def _on_request(self, request: RequestReceived) -> None:
        message, peer = request.message, request.peer
        method = message.method or ""
        counted = method if method in COUNTED_METHODS else "other"
        self._metrics.count("vsp_sip_requests", method=counted)
        if method == "MESSAGE":
            self._on_message(request)
        elif method == "REGISTER":
            self._on_register(request)
        elif method == "BYE":
            self._answer(request, self._sessions.received_bye(message, peer))
        else:
            self._on_other(request, method)

    def _on_register(self, request: RequestReceived) -> None:
        now, now_us = self._clock.monotonic(), self._clock.now_us()
        verdict = self._registrar.register(request.message, request.peer, now, now_us)
        if verdict.stranger:
            self._answer_stranger(request, verdict.reply)
            return
        if verdict.reply.status >= 300:
            self._answer_known(request, verdict.reply)
            return
        self._answer(request, verdict.reply)
        self._publish()
        if verdict.registered is not None:
            self._note_oddities(verdict.registered.entry, request.message, now_us)
            self._sessions.returned(verdict.registered.entry)
        self._writer.nudge()

    def _on_other(self, request: RequestReceived, method: str) -> None:
        """OPTIONS, and what we do not do: each with the answer that ends it for the sender."""
        entry = self._sender(request.message, request.peer)
        if method == "OPTIONS":
            reply = Reply(200, "OK", (("Allow", ALLOW),))
        elif method == "INVITE":
            reply = NOT_ACCEPTABLE
        elif method in {"INFO", "CANCEL", "NOTIFY", "UPDATE", "PRACK"}:
            reply = NO_DIALOG
        else:
            reply = NOT_ALLOWED
        if entry is not None:
            self._answer(request, reply)
        elif method == "INVITE":
            # A refusal of INVITE is repeated for 32 s (RFC 3261 17.2.1): ten answers for one.
            self._metrics.count("vsp_sip_refused", reason="silenced")
        else:
            self._answer_stranger(request, reply if method == "OPTIONS" else FORBIDDEN)

    # ---- MESSAGE ----------------------------------------------------------------------------

    def _sender(self, message: Message, peer: Peer) -> Entry | None:
        """The device a request comes from: From's user, at the host that device registered from.

        A From that names nobody we know (TP-Link; recorders naming a channel) is forgiven when the
        source is exactly the address a device registered from.
        """
        user = message.from_user
        entry = self._roster.by_gb_id(user)
        if entry is not None:
            return entry if same_host(entry, peer) else None
        entry = self._roster.by_peer(peer)
        if entry is not None:
            name = "from-names-channel" if user else "from-without-id"
            self._quirks.seen(entry.id, name, self._clock.now_us())
        return entry

    def _on_message(self, request: RequestReceived) -> None:
        message, peer = request.message, request.peer
        if MEDIA_STATUS in message.body and self._on_media_status(request):
            return
        entry = self._sender(message, peer)
        if entry is None:
            self._refuse_message(request)
            return
        now, now_us = self._clock.monotonic(), self._clock.now_us()
        if message.oddities or not message.branch:
            self._note_oddities(entry, message, now_us)
        if parse_keepalive(message.body) is not None:
            self._on_keepalive(request, entry, now, now_us)
        elif not self._roster.registered(entry, now):
            self._metrics.count("vsp_sip_refused", reason="unregistered")
            self._answer(request, FORBIDDEN)
        elif len(message.body) > INLINE_BODY_BYTES:
            self._on_long_body(request, entry)
        else:
            self._roster.heard(entry, now, now_us)
            self._answer(request, self._on_body(request, entry))

    def _refuse_message(self, request: RequestReceived) -> None:
        """403 makes a device that we forgot register again; a stranger gets few of them."""
        if self._roster.by_gb_id(request.message.from_user) is not None:
            self._metrics.count("vsp_sip_refused", reason="foreign")
            self._answer_known(request, FORBIDDEN)
        else:
            self._metrics.count("vsp_sip_refused", reason="unknown")
            self._answer_stranger(request, FORBIDDEN)

    def _on_keepalive(
        self, request: RequestReceived, entry: Entry, now: float, now_us: UtcMicros
    ) -> None:
        reply = self._registrar.keepalive(entry, request.peer, now, now_us)
        self._answer(request, reply)
        self._publish()
        self._writer.nudge()

    def _on_body(self, request: RequestReceived, entry: Entry) -> Reply:
        """Everything but the plain heartbeat. Broken XML is answered 400, so that the sender stops
        repeating it, but for the cases that are known to take that badly."""
        data = request.message.body
        now_us = self._clock.now_us()
        if not data.strip(b" \r\n\t\x00"):
            self._quirks.seen(entry.id, "empty-message", now_us)
            return OK
        try:
            body = parse_body(data, entry.settings.charset)
        except Invalid:
            if PRIVATE_COMMAND not in data:
                self._metrics.count("vsp_sip_refused", reason="body")
                return BAD_BODY
            self._quirks.seen(entry.id, "private-command", now_us)
            return OK
        return self._on_parsed(request, entry, body)

    def _on_parsed(self, request: RequestReceived, entry: Entry, body: Body) -> Reply:
        for oddity in body.oddities:
            name = BODY_QUIRKS.get(oddity)
            if name is not None:
                self._quirks.seen(entry.id, name, self._clock.now_us())
        command = body.cmd_type.lower()
        if body.root == "Response":
            try:
                self._answers.deliver(entry.id, body)
            except Invalid:
                return BAD_BODY
        elif command == "keepalive":
            now, now_us = self._clock.monotonic(), self._clock.now_us()
            reply = self._registrar.keepalive(entry, request.peer, now, now_us)
            self._publish()
            return reply
        return OK

    def _on_media_status(self, request: RequestReceived) -> bool:
        """End of media in its dialog (GB/T 28181-2016 9.8). False when it is in none of ours.

        Its ids and tags are often wrong, so the dialog says who speaks: Call-ID and host.
        """
        message = request.message
        call = self._sessions.find_call(message.call_id, request.peer)
        if call is None:
            return False
        entry = self._sessions.device_of(call)
        try:
            body = parse_body(message.body)
        except Invalid:
            self._answer(request, BAD_BODY)
            return True
        if entry is not None and self._sessions.find(message, request.peer) is None:
            self._quirks.seen(entry.id, "status-without-id", self._clock.now_us())
        self._answer(request, OK)
        self._sessions.media_ended(call, f"NotifyType {body.text('NotifyType') or 'missing'}")
        return True

    def _on_long_body(self, request: RequestReceived, entry: Entry) -> None:
        """A long body is parsed in a thread; its answer waits for that, the loop does not."""
        if self._long_bodies >= LONG_BODIES_MAX:
            self._answer(request, BUSY)
            return
        self._long_bodies += 1
        self._spawn(self._parse_long(request, entry), "long body")

    async def _parse_long(self, request: RequestReceived, entry: Entry) -> None:
        try:
            data, charset = request.message.body, entry.settings.charset
            body = await asyncio.to_thread(parse_body, data, charset)
            reply = self._on_parsed(request, entry, body)
        except Invalid:
            self._metrics.count("vsp_sip_refused", reason="body")
            reply = BAD_BODY
        finally:
            self._long_bodies -= 1
        self._roster.heard(entry, self._clock.monotonic(), self._clock.now_us())
        self._answer(request, reply)

    def _note_oddities(self, entry: Entry, message: Message, now_us: UtcMicros) -> None:
        for oddity in message.oddities:
            name = MESSAGE_QUIRKS.get(oddity)
            if name is not None:
                self._quirks.seen(entry.id, name, now_us)
        if not message.branch:
            self._quirks.seen(entry.id, "via-without-branch", now_us)

    # ---- answers ----------------------------------------------------------------------------

    def _answer(self, request: RequestReceived, reply: Reply) -> None:
        if reply.silent:
            return
        self._metrics.count("vsp_sip_responses", status=f"{reply.status // 100}xx")
        self._endpoint.respond(request.transaction, reply.status, reply.reason, reply.headers)

    def _answer_known(self, request: RequestReceived, reply: Reply) -> None:
        """Refuse or challenge somebody who says that it is a device of ours, a few times."""
        host, gb_id = request.peer.host, request.message.from_user
        if self._admission.allow_known(host, gb_id, self._clock.monotonic()):
            self._answer(request, reply)
        else:
            self._metrics.count("vsp_sip_refused", reason="silenced")

    def _answer_stranger(self, request: RequestReceived, reply: Reply) -> None:
        """Answer somebody unknown, if admission lets it out; else silence."""
        message, peer = request.message, request.peer
        answer_bytes = len(
            reply_bytes(message, reply.status, reply.reason, reply.headers, peer=peer)
        )
        now = self._clock.monotonic()
        if self._admission.allow(peer.host, request_bytes(message), answer_bytes, now):
            self._answer(request, reply)
        else:
            self._metrics.count("vsp_sip_refused", reason="silenced")


MEDIA_STATUS = b"MediaStatus"
"""CmdType of the end-of-media notice; looked for before anything is parsed."""

PRIVATE_COMMAND = b"DataTransfer"
"""DJI's own command; its body is not always XML."""

BODY_QUIRKS: Mapping[str, str] = {
    "charset": "wrong-charset",
    "controls": "broken-xml",
    "ampersand": "broken-xml",
    "tail": "broken-xml",
    "brackets": "broken-xml",
    "broken": "broken-xml",
}
"""Oddities of `parse_body` by the quirk they are."""

MESSAGE_QUIRKS: Mapping[str, str] = {
    "content-length": "content-length-wrong",
    "bare-lf": "bare-line-feeds",
    "lower-method": "method-in-lower-case",
}
"""Oddities of `parse_message` by the quirk they are."""


def request_bytes(message: Message) -> int:
    """At least how long a request was: what a forged source would have cost to send."""
    headers = ("from", "to", "call-id", "cseq", "authorization", "contact", "user-agent")
    echoed = sum(len(message.raw(name) or b"") for name in headers)
    vias = sum(len(via) for via in message.vias)
    return len(message.start_line) + echoed + vias + len(message.body)


async def _guarded(work: Coroutine[Any, Any, None], name: str) -> None:
    """The top of a task: a failure is logged here and does not reach its siblings."""
    try:
        await work
    except Exception:
        log.exception("task failed", task=name)


__all__ = ["InviteFailed", "SignalService"]
