"""Media sessions: INVITE for a live stream, its dialog, its end (GB/T 28181-2016 9.2, annex F, L).

One dialog is one stream from one channel. The offer carries the media worker's address, the answer
says who will send; between them stands the SIP dialog that has to be ended with BYE, because a
device goes on sending to nobody until it is told. So every dialog ever confirmed is either live
here, or its BYE is on the way and repeated: at once, then whenever the device registers again.

Not here: who may look, which worker receives, when to try again (actions/streams.py).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from typing import Any

import structlog

from vsp.config import SipConfig
from vsp.errors import Invalid, Unavailable, VspError
from vsp.model.device import MediaTransport
from vsp.model.ids import DeviceId
from vsp.model.stream import Leg, RemoteMedia
from vsp.ports import Clock, DialogState, Ids, InviteAnswer, InviteSpec, Metrics
from vsp.sip.command import Outbox
from vsp.sip.core.agent import Peer
from vsp.sip.core.dialog import Answered, InviteDialog
from vsp.sip.core.message import Message
from vsp.sip.core.sdp import Answer, offer_live, parse_answer
from vsp.sip.endpoint import InviteRefused, SipEndpoint
from vsp.sip.presence import Entry, Roster, address
from vsp.sip.quirks import QuirkLedger
from vsp.sip.registrar import Reply

log = structlog.get_logger(__name__)

BYE_TRIES = 3
"""BYEs sent at once, each with its own retransmissions; then we wait for the device to return."""

BYE_TIMEOUT_S = 8.0
"""Wait for the answer to one BYE: five retransmissions over UDP (RFC 3261 17.1.2.2)."""

BYE_WAIT_S = 3.0
"""How long the caller of `bye` waits; the rest goes on behind."""

ORPHANS_MAX = 10_000
"""Dialogs whose BYE was not answered; as many as a platform can have streams. The oldest go."""

Key = tuple[str, str, str]
"""Call-ID, our tag, their tag (RFC 3261 12). SSRC and channel are never keys: both repeat."""


class InviteFailed(Unavailable):
    """An INVITE led to no stream.

    leg     which leg of the attempt failed: DEVICE_OFFLINE, NO_SIP_ANSWER, REFUSED or BAD_ANSWER
    status  the SIP status of a refusal, else 0
    """

    def __init__(self, leg: Leg, message: str, *, status: int = 0, next_step: str = "") -> None:
        super().__init__(message, cause=f"{leg.value}: {message}", next_step=next_step)
        self.leg = leg
        self.status = status


@dataclass(slots=True)
class _Live:
    """A confirmed dialog; after a restart its device is found by address."""

    state: DialogState
    device_id: DeviceId | None


Spawn = Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"]
"""Starts a task that belongs to the service's group."""


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
        self._live: dict[Key, _Live] = {}
        self._keys: dict[str, Key] = {}
        self._orphans: OrderedDict[Key, _Live] = OrderedDict()
        self._orphans_of: dict[DeviceId, set[Key]] = {}
        self._ending: set[Key] = set()
        self.on_dialog_ended: Callable[[str, str], None] | None = None

    def __len__(self) -> int:
        return len(self._live)

    @property
    def orphans(self) -> int:
        """Dialogs whose BYE nobody has answered yet."""
        return len(self._orphans)

    # ---- INVITE -----------------------------------------------------------------------------

    async def invite(self, entry: Entry, spec: InviteSpec) -> InviteAnswer:
        """One live stream of one channel. Raises InviteFailed naming leg and packet.

        Cancelling it cancels the INVITE; a 200 that still comes is ACKed and ended with BYE
        (RFC 3261 9.1, GB/T 28181-2016 annex F).
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
        answered = await self._call(dialog, spec, peer)
        took_s = self._clock.monotonic() - began
        self._metrics.observe("vsp_sip_request_seconds", took_s, method="INVITE")
        state = dialog.to_state()
        live = _Live(state, entry.id)
        try:
            media = self._read_answer(entry, spec, answered)
        except VspError as error:
            await self._end(key_of(state), live)
            where = packet(peer, state.call_id, answered.message)
            raise InviteFailed(
                Leg.BAD_ANSWER, f"the answer cannot be used: {error.message} ({where})"
            ) from error
        self._keep(live)
        return InviteAnswer(state, remote_media(media, peer.host))

    def _reach(self, entry: Entry) -> Peer:
        try:
            return self._outbox.reach(entry)
        except Unavailable as error:
            raise InviteFailed(
                Leg.DEVICE_OFFLINE, error.message, next_step=error.next_step
            ) from error

    async def _call(self, dialog: InviteDialog, spec: InviteSpec, peer: Peer) -> Answered:
        """Offer, and wait for the final answer."""
        offer = offer_live(
            self._config.id, spec.host, spec.port, MediaTransport(spec.transport), spec.ssrc
        )
        subject = subject_of(spec.channel_gb_id, spec.ssrc, self._config.id)
        try:
            return await self._endpoint.invite(
                dialog, offer, self._config.invite_timeout_s, headers=(("Subject", subject),)
            )
        except InviteRefused as refused:
            raise _refused(refused, dialog, peer) from refused
        except Unavailable as error:
            raise InviteFailed(
                Leg.NO_SIP_ANSWER,
                f"INVITE: {error.cause or error.message} "
                f"(peer {address(peer)}, Call-ID {dialog.call_id})",
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

    # ---- BYE --------------------------------------------------------------------------------

    async def bye(self, state: DialogState) -> None:
        """End a dialog. Returns when the device has answered, or after a moment while the BYE is
        still being repeated; never fails. Ending it twice is harmless."""
        key = key_of(state)
        live = self._drop(key) or _Live(state, self._device_at(state))
        await self._end(key, live)

    async def _end(self, key: Key, live: _Live) -> None:
        if key in self._ending:
            return
        self._add_orphan(key, live)
        task = self._spawn(self._deliver(key, BYE_TRIES), f"bye {key[0]}")
        await asyncio.wait({task}, timeout=BYE_WAIT_S)

    def _add_orphan(self, key: Key, live: _Live) -> None:
        self._orphans[key] = live
        if live.device_id is not None:
            self._orphans_of.setdefault(live.device_id, set()).add(key)
        if len(self._orphans) > ORPHANS_MAX:
            oldest = next(iter(self._orphans))
            log.error("dialog given up without BYE", call_id=oldest[0])
            self._drop_orphan(oldest)

    def _drop_orphan(self, key: Key) -> None:
        live = self._orphans.pop(key, None)
        if live is None or live.device_id is None:
            return
        keys = self._orphans_of.get(live.device_id, set())
        keys.discard(key)
        if not keys:
            self._orphans_of.pop(live.device_id, None)

    async def _deliver(self, key: Key, tries: int) -> None:
        """Send BYE until it is answered; what is not stays an orphan until the device returns."""
        if key in self._ending:
            return
        self._ending.add(key)
        try:
            for _ in range(tries):
                live = self._orphans.get(key)
                if live is None or await self._bye_once(live):
                    self._drop_orphan(key)
                    return
            log.warning("BYE not answered", call_id=key[0], device=live.device_id if live else "")
        finally:
            self._ending.discard(key)

    async def _bye_once(self, live: _Live) -> bool:
        """One BYE with the next CSeq (RFC 3261 12.2.1.1), to where the device is now."""
        entry = self._roster.get(live.device_id) if live.device_id is not None else None
        peer = entry.peer if entry is not None else None
        state = live.state
        if peer is not None:
            state = replace(state, transport=peer.transport, host=peer.host, port=peer.port)
        connection = peer.connection if peer is not None else 0
        try:
            dialog = InviteDialog.from_state(state, connection)
            await self._endpoint.bye(dialog, BYE_TIMEOUT_S)
        except VspError:
            live.state = replace(state, cseq=state.cseq + 1)
            return False
        return True

    def returned(self, entry: Entry) -> None:
        """The device registered again: tell it what it should have ended."""
        for key in self._orphans_of.get(entry.id, ()):
            if key not in self._ending:
                self._spawn(self._deliver(key, BYE_TRIES), f"bye {key[0]}")

    async def _end_orphans(self, entry: Entry) -> bool:
        """After 486: end our own stale dialogs with this device. True when there was one."""
        keys = list(self._orphans_of.get(entry.id, ()))
        for key in keys:
            await self._deliver(key, 1)
        return any(key not in self._orphans for key in keys)

    # ---- what devices say in a dialog -------------------------------------------------------

    def restore(self, states: Iterable[DialogState]) -> None:
        """Take over dialogs of a former run, so that their BYE is understood and can be sent."""
        for state in states:
            self._keep(_Live(state, None))
        self.adopt()

    def _keep(self, live: _Live) -> None:
        key = key_of(live.state)
        self._live[key] = live
        self._keys[key[0]] = key

    def _drop(self, key: Key) -> _Live | None:
        self._keys.pop(key[0], None)
        return self._live.pop(key, None)

    def adopt(self) -> None:
        """Find the devices of restored dialogs, once the roster is loaded."""
        for live in self._live.values():
            if live.device_id is None:
                live.device_id = self._device_at(live.state)

    def _device_at(self, state: DialogState) -> DeviceId | None:
        entry = self._roster.by_peer(Peer(state.transport, state.host, state.port))
        return entry.id if entry is not None else None

    def find(self, message: Message, peer: Peer) -> Key | None:
        """The dialog a request belongs to. From elsewhere than its device: none."""
        key = self.find_call(message.call_id, peer)
        return key if key == (message.call_id, message.to.tag, message.from_.tag) else None

    def find_call(self, call_id: str, peer: Peer) -> Key | None:
        """The dialog with that Call-ID and host, whatever the tags (quirk `status-without-id`).

        A Call-ID is 64 random bits of ours, known to its device only.
        """
        key = self._keys.get(call_id)
        if key is None:
            return None
        entry = self.device_of(key)
        hosts = {self._live[key].state.host, entry.peer.host if entry and entry.peer else ""}
        return key if peer.host in hosts else None

    def device_of(self, key: Key) -> Entry | None:
        """The device at the other end of a dialog, unless it was removed."""
        device_id = self._live[key].device_id
        return self._roster.get(device_id) if device_id is not None else None

    def received_bye(self, message: Message, peer: Peer) -> Reply:
        """BYE of a device: 200 and the stream is over, or 481 (RFC 3261 15.1.2)."""
        key = self.find(message, peer)
        if key is None:
            return NO_DIALOG
        self._drop(key)
        self._tell_ended(key[0], "the device ended the stream with BYE")
        return Reply(200, "OK")

    def media_ended(self, key: Key, notice: str) -> None:
        """MediaStatus in the dialog (GB/T 28181-2016 9.8, annex A.2.5): the device sends no more.

        The receiver answers with BYE; the stream is over for us at once.
        """
        live = self._drop(key)
        if live is not None:
            self._spawn(self._end(key, live), f"bye {key[0]}")
            self._tell_ended(key[0], f"the device reported the end of its media ({notice})")

    def _tell_ended(self, call_id: str, cause: str) -> None:
        if self.on_dialog_ended is not None:
            self.on_dialog_ended(call_id, cause)


NO_DIALOG = Reply(481, "Call/Transaction Does Not Exist")


def key_of(state: DialogState) -> Key:
    return state.call_id, state.local_tag, state.remote_tag


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
    "Key",
    "Sessions",
    "key_of",
    "packet",
    "remote_media",
    "subject_of",
    "transport_of",
]
