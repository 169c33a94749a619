"""Media sessions: INVITE for a live stream, its dialog, its end (GB/T 28181-2016 9.2, annex F, L).

One dialog is one stream from one channel. The offer carries the media worker's address, the answer
says who will send; between them stands the SIP dialog that has to be ended with BYE, because a
device goes on sending to nobody until it is told. So every dialog ever acknowledged is in the
ledger (ledger.py): it is up, or its BYE is repeated until it is answered: with growing pauses, and
at once when the device registers again.

Not here: who may look, which worker receives, when to try again (actions/streams.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import structlog

from vsp.config import SipConfig
from vsp.errors import Invalid, Unavailable, VspError
from vsp.faults import Point, reach
from vsp.model.device import MediaTransport, Presence
from vsp.model.dialog import DialogKey, DialogState
from vsp.model.ids import DeviceId
from vsp.model.stream import Leg, RemoteMedia
from vsp.ports import (
    Clock,
    DialogRow,
    Ids,
    InviteAnswer,
    InviteSpec,
    Metrics,
    StreamBook,
)
from vsp.sip.command import Outbox
from vsp.sip.core.agent import Peer
from vsp.sip.core.dialog import Answered, InviteDialog
from vsp.sip.core.message import Message
from vsp.sip.core.sdp import Answer, offer_live, parse_answer
from vsp.sip.endpoint import InviteRefused, SipEndpoint
from vsp.sip.ledger import Call, Ledger, Spawn
from vsp.sip.presence import Entry, Roster, address
from vsp.sip.quirks import QuirkLedger
from vsp.sip.registrar import Reply

log = structlog.get_logger(__name__)

BYE_TIMEOUT_S = 8.0
"""Wait for the answer to one BYE: five retransmissions over UDP (RFC 3261 17.1.2.2)."""

BYE_WAIT_S = 3.0
"""How long the caller of `bye` waits; the rest goes on behind."""

BYES_MAX = 64
"""BYEs on their way at once that are said again: a power cut owes them to thousands of devices."""

LOOK_S = 1.0
"""Period at which owed BYEs are looked at."""


class InviteFailed(Unavailable):
    """An INVITE led to no stream.

    leg     which leg of the attempt failed: DEVICE_OFFLINE, NO_SIP_ANSWER, REFUSED or BAD_ANSWER
    status  the SIP status of a refusal, else 0
    """

    def __init__(self, leg: Leg, message: str, *, status: int = 0, next_step: str = "") -> None:
        super().__init__(message, cause=f"{leg.value}: {message}", next_step=next_step)
        self.leg = leg
        self.status = status


class Sessions:
    """Opens and ends dialogs, and knows those that are up."""

    def __init__(
        self,
        config: SipConfig,
        outbox: Outbox,
        endpoint: SipEndpoint,
        roster: Roster,
        quirks: QuirkLedger,
        clock: Clock,
        ids: Ids,
        metrics: Metrics,
        book: StreamBook,
        spawn: Spawn,
    ) -> None:
        self._config = config
        self._outbox = outbox
        self._endpoint = endpoint
        self._roster = roster
        self._quirks = quirks
        self._clock = clock
        self._ids = ids
        self._metrics = metrics
        self._spawn = spawn
        self.ledger = Ledger(book, clock, spawn)
        self._ending: set[DialogKey] = set()
        self.on_dialog_ended: Callable[[str, str], None] | None = None
        endpoint.on_stray = self._strayed

    def __len__(self) -> int:
        return len(self.ledger)

    # ---- INVITE -----------------------------------------------------------------------------

    async def invite(self, entry: Entry, spec: InviteSpec) -> InviteAnswer:
        """One live stream of one channel. Raises InviteFailed naming leg and packet.

        Its dialog is written down before the device hears that we have its answer. Cancelling it
        cancels the INVITE; a 200 that still comes is ACKed and ended with BYE (RFC 3261 9.1,
        GB/T 28181-2016 annex F).
        """
        try:
            answer = await self._invite_once(entry, spec)
        except InviteFailed as failed:
            if failed.status != 486 or not await self._end_orphans(entry):
                self._metrics.count("vsp_sip_invites", result=failed.leg.value)
                raise
            answer = await self._invite_once(entry, spec)
        self._metrics.count("vsp_sip_invites", result="ok")
        return answer

    async def _invite_once(self, entry: Entry, spec: InviteSpec) -> InviteAnswer:
        transport_of(spec.transport)
        peer = self._reach(entry)
        dialog = InviteDialog(
            self._ids,
            local_uri=self._outbox.local_uri,
            remote_uri=self._outbox.remote_uri(spec.channel_gb_id),
            target=self._outbox.target(spec.channel_gb_id, peer),
            contact=self._outbox.contact,
            peer=peer,
        )
        began = self._clock.monotonic()
        answered = await self._call(dialog, spec, entry)
        took_s = self._clock.monotonic() - began
        self._metrics.observe("vsp_sip_request_seconds", took_s, method="INVITE")
        state = dialog.to_state()
        try:
            media = self._read_answer(entry, spec, answered)
        except VspError as error:
            await self._end(state, entry.id)
            where = packet(peer, state.call_id, answered.message)
            raise InviteFailed(
                Leg.BAD_ANSWER, f"the answer cannot be used: {error.message} ({where})"
            ) from error
        return InviteAnswer(state, remote_media(media, peer.host))

    async def _write_down(self, dialog: InviteDialog, spec: InviteSpec, entry: Entry) -> None:
        reach(Point.STREAM_ANSWERED)
        row = DialogRow(dialog.to_state(), entry.id, spec.use, self._clock.now_us())
        await self.ledger.begin(row)

    def _reach(self, entry: Entry) -> Peer:
        try:
            return self._outbox.reach(entry)
        except Unavailable as error:
            raise InviteFailed(
                Leg.DEVICE_OFFLINE, error.message, next_step=error.next_step
            ) from error

    async def _call(self, dialog: InviteDialog, spec: InviteSpec, entry: Entry) -> Answered:
        """Offer, and wait for the final answer."""
        offer = offer_live(
            self._config.id, spec.host, spec.port, MediaTransport(spec.transport), spec.ssrc
        )
        subject = subject_of(spec.channel_gb_id, spec.ssrc, self._config.id)
        try:
            return await self._endpoint.invite(
                dialog,
                offer,
                self._config.invite_timeout_s,
                headers=(("Subject", subject),),
                before_ack=partial(self._write_down, dialog, spec, entry),
            )
        except InviteRefused as refused:
            raise _refused(refused, dialog, dialog.peer) from refused
        except Unavailable as error:
            raise InviteFailed(
                Leg.NO_SIP_ANSWER,
                f"INVITE: {error.cause or error.message} "
                f"(peer {address(dialog.peer)}, Call-ID {dialog.call_id})",
                next_step="the device registered but does not answer; see its SIP trace",
            ) from error

    def _read_answer(self, entry: Entry, spec: InviteSpec, answered: Answered) -> Answer:
        """The SDP of the 200, leniently; what is odd about it is noted."""
        offered = MediaTransport(spec.transport)
        media = parse_answer(answered.body, offered)
        now_us = self._clock.now_us()
        if media.ssrc is None:
            self._quirks.seen(entry.id, "answer-without-ssrc", now_us)
        elif media.ssrc != spec.ssrc:
            self._quirks.seen(entry.id, "answer-ssrc-differs", now_us)
        if offered is not MediaTransport.UDP and b"a=setup" not in answered.body.lower():
            self._quirks.seen(entry.id, "answer-without-setup", now_us)
        return media

    def _strayed(self, dialog: InviteDialog, stray: DialogState) -> None:
        """A device answered whom nobody waits for."""
        device_id = self._device_at(stray)
        self._spawn(self._end_stray(dialog, stray, device_id), f"stray {stray.call_id}")

    async def _end_stray(
        self, dialog: InviteDialog, stray: DialogState, device_id: DeviceId | None
    ) -> None:
        call = self.ledger.owe(stray, device_id)
        await self.ledger.written(call)
        self._endpoint.acknowledge(dialog, stray.remote_tag)
        await self._deliver(call)

    # ---- BYE --------------------------------------------------------------------------------

    async def bye(self, state: DialogState) -> None:
        """End a dialog. Returns when the device has answered, or after a moment while the BYE is
        still being repeated; never fails. Ending it twice is harmless."""
        await self._end(state, self._device_at(state))

    async def _end(self, state: DialogState, device_id: DeviceId | None) -> None:
        call = self.ledger.owe(state, device_id)
        await self.ledger.written(call)
        if call.key not in self._ending:
            await asyncio.wait({self._deliver_behind(call)}, timeout=BYE_WAIT_S)

    async def run(self) -> None:
        """Owed BYEs again, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            room = BYES_MAX - len(self._ending)
            for call in self.ledger.due(self._clock.monotonic()):
                if room <= 0:
                    break
                if call.key not in self._ending and not self._is_away(call):
                    self._deliver_behind(call)
                    room -= 1

    def _is_away(self, call: Call) -> bool:
        """It cannot hear us, and will be told when it is back."""
        entry = self.device_of(call)
        return entry is not None and entry.presence is Presence.OFFLINE

    def _deliver_behind(self, call: Call) -> asyncio.Task[None]:
        return self._spawn(self._deliver(call), f"bye {call.key[0]}")

    async def _deliver(self, call: Call) -> None:
        """One BYE; when it is not answered, the next one has to wait."""
        if call.key in self._ending or call.over:
            return
        self._ending.add(call.key)
        try:
            if await self._bye_once(call):
                self.ledger.settle(call)
            else:
                call.put_off(self._clock.monotonic())
                log.info("BYE not answered", call_id=call.key[0], device=call.device_id)
        finally:
            self._ending.discard(call.key)

    async def _bye_once(self, call: Call) -> bool:
        """One BYE with the next CSeq (RFC 3261 12.2.1.1), to where the device is now."""
        entry = self.device_of(call)
        peer = entry.peer if entry is not None else None
        state = call.row.dialog
        if peer is not None:
            state = replace(state, transport=peer.transport, host=peer.host, port=peer.port)
        connection = peer.connection if peer is not None else 0
        try:
            dialog = InviteDialog.from_state(state, connection)
            await self._endpoint.bye(dialog, BYE_TIMEOUT_S)
        except VspError:
            self.ledger.moved(call, replace(state, cseq=state.cseq + 1))
            return False
        return True

    def returned(self, entry: Entry) -> None:
        """The device registered again: tell it what it should have ended."""
        for call in self.ledger.owed_to(entry.id):
            if call.key not in self._ending:
                self._deliver_behind(call)

    async def _end_orphans(self, entry: Entry) -> bool:
        """After 486: end our own stale dialogs with this device. True when there was one."""
        calls = self.ledger.owed_to(entry.id)
        for call in calls:
            await self._deliver(call)
        return any(call.over for call in calls)

    # ---- what devices say in a dialog -------------------------------------------------------

    def restore(self, rows: Iterable[DialogRow]) -> None:
        """Take over dialogs of a former run, so that their BYE is understood and can be sent."""
        self.ledger.restore(rows)

    def adopt(self) -> None:
        """Find the devices of dialogs that have none, once the roster is loaded."""
        for call in list(self.ledger.known()):
            device_id = None if call.device_id is not None else self._device_at(call.row.dialog)
            if device_id is not None:
                self.ledger.belongs(call, device_id)

    def _device_at(self, state: DialogState) -> DeviceId | None:
        entry = self._roster.by_peer(Peer(state.transport, state.host, state.port))
        return entry.id if entry is not None else None

    def find(self, message: Message, peer: Peer) -> Call | None:
        """The dialog a request belongs to. From elsewhere than its device: none."""
        call = self.find_call(message.call_id, peer)
        key = (message.call_id, message.to.tag, message.from_.tag)
        return call if call is not None and call.key == key else None

    def find_call(self, call_id: str, peer: Peer) -> Call | None:
        """The dialog with that Call-ID and host, whatever the tags (quirk `status-without-id`).

        A Call-ID is 64 random bits of ours, known to its device only.
        """
        call = self.ledger.up_with(call_id)
        return call if call is not None and self._is_of(call, peer) else None

    def _is_of(self, call: Call, peer: Peer) -> bool:
        entry = self.device_of(call)
        return peer.host in {call.row.dialog.host, entry.peer.host if entry and entry.peer else ""}

    def device_of(self, call: Call) -> Entry | None:
        """The device at the other end of a dialog, unless it was removed."""
        return self._roster.get(call.device_id) if call.device_id is not None else None

    def received_bye(self, message: Message, peer: Peer) -> Reply:
        """BYE of a device: 200 and the stream is over, or 481 (RFC 3261 15.1.2)."""
        call = self.find(message, peer)
        if call is not None:
            self.ledger.settle(call)
            self._tell_ended(call.key[0], "the device ended the stream with BYE")
            return OK
        owed = self.ledger.owing((message.call_id, message.to.tag, message.from_.tag))
        if owed is not None and self._is_of(owed, peer):
            self.ledger.settle(owed)
            return OK
        return NO_DIALOG

    def media_ended(self, call: Call, notice: str) -> None:
        """MediaStatus in the dialog (GB/T 28181-2016 9.8, annex A.2.5): the device sends no more.

        The receiver answers with BYE; the stream is over for us at once.
        """
        self.ledger.owe(call.row.dialog, call.device_id)
        self._spawn(self._end(call.row.dialog, call.device_id), f"bye {call.key[0]}")
        self._tell_ended(call.key[0], f"the device reported the end of its media ({notice})")

    def _tell_ended(self, call_id: str, cause: str) -> None:
        if self.on_dialog_ended is not None:
            self.on_dialog_ended(call_id, cause)


OK = Reply(200, "OK")
NO_DIALOG = Reply(481, "Call/Transaction Does Not Exist")


def subject_of(channel_gb_id: str, ssrc: int, platform_id: str) -> str:
    """`<sender>:<sender seq>,<receiver>:<receiver seq>` (GB/T 28181-2016 annex K).

    The sender's sequence is new for each session: a device that meets a known one drops the stream
    it already sends (annex M).
    """
    return f"{channel_gb_id}:{ssrc:010},{platform_id}:0"


def remote_media(answer: Answer, source_host: str) -> RemoteMedia:
    """Who may send: the answer's media address and, behind a translator, the signalling one."""
    hosts = (answer.host,) if answer.host == source_host else (answer.host, source_host)
    return RemoteMedia(hosts, answer.port, answer.ssrc, answer.payloads)


def packet(peer: Peer, call_id: str, message: Message) -> str:
    """What to look for in a capture."""
    return f"peer {address(peer)}, Call-ID {call_id}, CSeq {message.cseq[0]}"


def _refused(refused: InviteRefused, dialog: InviteDialog, peer: Peer) -> InviteFailed:
    warning = f", Warning {refused.warning}" if refused.warning else ""
    return InviteFailed(
        Leg.REFUSED,
        f"INVITE refused with {refused.status} {refused.reason}{warning} "
        f"(peer {address(peer)}, Call-ID {dialog.call_id})",
        status=refused.status,
        next_step=REFUSALS.get(refused.status, "see the device's SIP trace"),
    )


REFUSALS = {
    400: "the device could not read the request; see its SIP trace",
    403: "the device does not serve this platform; check its platform settings",
    404: "the device does not know this channel; refresh its catalogue",
    415: "the device cannot send what was offered; try the other media transport",
    480: "the channel behind the recorder is away; check the camera",
    486: "the device has reached its number of streams; close other viewers of it",
    488: "the device cannot send what was offered; try the other media transport",
    503: "the device is overloaded; try again later",
}
"""What an operator can do about a refusal (GB/T 28181-2016 annex F, G notes)."""


def transport_of(text: str) -> MediaTransport:
    """The media transport of an InviteSpec. Raises Invalid."""
    try:
        return MediaTransport(text)
    except ValueError as error:
        raise Invalid(f"no such media transport: {text}") from error


__all__ = [
    "NO_DIALOG",
    "InviteFailed",
    "Sessions",
    "packet",
    "remote_media",
    "subject_of",
    "transport_of",
]
