"""Live calls: INVITE to BYE, from the side that is called (GB/T 28181-2016 9.2, annex F, K, L).

    INVITE -> (100 by the core) -> OpenMedia -> (slow answer) -> 200, repeated until
    the ACK -> StartMedia
    CANCEL before the 200 -> 487;  BYE from either side -> CloseMedia

One stream a call, any number of calls unless `max_streams`. An INVITE whose Subject names a
sender:sequence that is already being sent replaces that stream (annex K).
"""

from __future__ import annotations

from dataclasses import dataclass

from simulators.faults import SsrcFault
from simulators.line import ALLOW, Alarm, CloseMedia, Line, OpenMedia, StartMedia
from simulators.templates import SDP_TYPE, Offer, answer_sdp, parse_offer
from vsp.errors import Invalid
from vsp.sip.core.agent import Peer
from vsp.sip.core.dialog import AnsweredDialog, Phase
from vsp.sip.core.message import Message
from vsp.sip.core.transaction import ServerTransaction

CALLS_MAX = 256
"""Calls of one device at once, with or without `max_streams`: beyond it something loops."""
SSRC_OWN_MAX = 1_000_000_000
"""An SSRC of our own for live begins with 0 in its ten digits (annex F)."""


@dataclass(slots=True)
class Call:
    """One call. `answer` is the 200's headers and body once it has been given."""

    transaction: ServerTransaction
    dialog: AnsweredDialog
    channel_id: str
    offer: Offer
    source: str
    ssrc: int
    y: str
    sdp: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    answer_alarm: Alarm | None = None
    acknowledged: bool = False

    @property
    def call_id(self) -> str:
        return self.dialog.call_id


class Calls:
    """All calls of one device."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._faults = line.spec.faults
        self._calls: dict[str, Call] = {}
        self._channels = {channel.gb_id for channel in line.spec.channels}

    @property
    def streaming(self) -> int:
        """Calls whose media may flow."""
        return sum(call.acknowledged for call in self._calls.values())

    # ---- requests from the platform ---------------------------------------------------------

    def invite(
        self, transaction: ServerTransaction, request: Message, peer: Peer, now: float
    ) -> None:
        """A new INVITE, or one inside a call."""
        if request.to.tag:
            self._invite_again(transaction, request, now)
            return
        refusal = self._refusal(request)
        if refusal is not None:
            status, reason, warning = refusal
            headers = [("Warning", f'399 {self._line.host} "{warning}"')] if warning else []
            self._line.reply(transaction, status, reason, now, headers)
            return
        try:
            offer = parse_offer(request.body)
        except Invalid:
            self._line.reply(transaction, 400, "Bad Request", now)
            return
        if not offer.ps_payload:
            self._line.reply(transaction, 415, "Unsupported Media Type", now)
        elif offer.session != "play" or offer.target.port == 0:
            self._line.reply(transaction, 488, "Not Acceptable Here", now)
        else:
            self._accept(transaction, request, peer, offer, now)

    def _refusal(self, request: Message) -> tuple[int, str, str] | None:
        live = len(self._calls)
        cap = min(self._line.spec.max_streams or CALLS_MAX, CALLS_MAX)
        if self._channel_of(request) is None:
            return 404, "Not Found", ""
        if request.call_id in self._calls:
            return 482, "Loop Detected", ""
        if self._faults.busy or (live >= cap and self._same_source(request) is None):
            return 486, "Busy Here", "session count limit reached"
        return None

    def _accept(
        self,
        transaction: ServerTransaction,
        request: Message,
        peer: Peer,
        offer: Offer,
        now: float,
    ) -> None:
        replaced = self._same_source(request)
        if replaced is not None:
            self._hang_up(replaced, now)
        ssrc, y = self._ssrc(offer)
        line = self._line
        call = Call(
            transaction=transaction,
            dialog=AnsweredDialog(line.ids, request, contact=line.contact, peer=peer),
            channel_id=self._channel_of(request) or "",
            offer=offer,
            source=_source(request),
            ssrc=ssrc,
            y=y,
        )
        self._calls[call.call_id] = call
        line.out.append(OpenMedia(call.call_id, offer.target))

    def _invite_again(self, transaction: ServerTransaction, request: Message, now: float) -> None:
        """Not used by the standard; the same answer again is what devices give."""
        call = self._calls.get(request.call_id)
        if call is None or not _within(call, request):
            self._line.reply(transaction, 481, "Call/Transaction Does Not Exist", now)
        elif not call.acknowledged:
            self._line.reply(transaction, 491, "Request Pending", now)
        else:
            self._line.reply(transaction, 200, "OK", now, call.headers, call.sdp)

    def cancel(
        self, transaction: ServerTransaction, invite: ServerTransaction | None, now: float
    ) -> None:
        """CANCEL of `invite`, None when there is no such INVITE."""
        if invite is None:
            self._line.reply(transaction, 481, "Call/Transaction Does Not Exist", now)
            return
        self._line.reply(transaction, 200, "OK", now)
        call = self._calls.get(invite.request.call_id)
        if call is not None and not call.sdp:
            self._line.reply(invite, 487, "Request Terminated", now, to_tag=call.dialog.local_tag)
            self._forget(call)

    def ack(self, request: Message, now: float) -> None:
        """ACK of a 2xx. Only the first one starts the stream."""
        call = self._calls.get(request.call_id)
        if call is None or not _within(call, request) or call.acknowledged or not call.sdp:
            return
        call.dialog.on_ack(request)
        call.acknowledged = True
        self._line.out.append(StartMedia(call.call_id, call.channel_id, call.ssrc))

    def bye(self, transaction: ServerTransaction, request: Message, now: float) -> None:
        """The platform hangs up."""
        call = self._calls.get(request.call_id)
        if call is None or not _within(call, request):
            self._line.reply(transaction, 481, "Call/Transaction Does Not Exist", now)
            return
        call.dialog.on_request(request)
        self._line.reply(transaction, 200, "OK", now)
        self._forget(call)

    # ---- media ------------------------------------------------------------------------------

    def media_opened(self, call_id: str, host: str, port: int, now: float) -> None:
        """The port is bound; answer now, or when the fault says so."""
        call = self._calls.get(call_id)
        if call is None:
            return
        y = "" if self._faults.no_y else call.y
        sdp = answer_sdp(call.offer, call.channel_id, host, port, y)
        wait_s = self._faults.slow_answer_s
        call.answer_alarm = self._line.at(now + wait_s, lambda when: self._answer(call, sdp, when))

    def media_failed(self, call_id: str, now: float) -> None:
        """No port could be bound."""
        call = self._calls.get(call_id)
        if call is not None:
            self._line.reply(call.transaction, 500, "Server Internal Error", now)
            self._forget(call)

    def media_lost(self, call_id: str, now: float) -> None:
        """The TCP connection broke or never came: free the leg and say so (annex K)."""
        call = self._calls.get(call_id)
        if call is not None:
            self._hang_up(call, now)

    # ---- our own doing ----------------------------------------------------------------------

    def end_all(self, now: float) -> None:
        """Hang up every call."""
        for call in list(self._calls.values()):
            self._hang_up(call, now)

    def drop_all(self) -> None:
        """The link to the platform broke; nobody is left to tell."""
        for call in list(self._calls.values()):
            self._forget(call)

    def advance(self, now: float) -> None:
        """Repeat 200s that wait for their ACK; give up after 64*T1 (RFC 3261 13.3.1.4)."""
        for call in list(self._calls.values()):
            if call.acknowledged or not call.sdp:
                continue
            if call.dialog.advance(now):
                self._send_answer(call, now)
            elif call.dialog.phase is Phase.ENDED:
                self._hang_up(call, now)

    def next_deadline(self) -> float | None:
        dues = [call.dialog.next_deadline() for call in self._calls.values() if call.sdp]
        return min((due for due in dues if due is not None), default=None)

    def _answer(self, call: Call, sdp: bytes, now: float) -> None:
        call.sdp = sdp
        given = [h for h in call.dialog.answer(sdp, now) if h[0].lower() != "content-type"]
        call.headers = (*given, ("Content-Type", SDP_TYPE))
        self._send_answer(call, now)

    def _send_answer(self, call: Call, now: float) -> None:
        tag = call.dialog.local_tag
        self._line.reply(call.transaction, 200, "OK", now, call.headers, call.sdp, to_tag=tag)

    def _hang_up(self, call: Call, now: float) -> None:
        """BYE what was answered, refuse what was not."""
        if not call.sdp:
            tag = call.dialog.local_tag
            self._line.reply(call.transaction, 487, "Request Terminated", now, to_tag=tag)
        elif self._line.linked:
            bye = call.dialog.bye()
            self._line.call(
                bye.method,
                bye.uri,
                bye.headers,
                bye.body,
                now,
                lambda answer, when: None,  # 481 or silence: it is over either way
                call_id=bye.call_id,
                cseq=bye.cseq,
            )
        self._forget(call)

    def _forget(self, call: Call) -> None:
        if call.answer_alarm is not None:
            call.answer_alarm.cancel()
        del self._calls[call.call_id]
        self._line.out.append(CloseMedia(call.call_id))

    # ---- reading an INVITE ------------------------------------------------------------------

    def _channel_of(self, request: Message) -> str | None:
        """Request-URI, then To, then Subject: whichever names a channel of ours."""
        uri_user = request.uri.decode("latin-1").partition(":")[2].partition("@")[0]
        named = (uri_user, request.to.user, _source(request).partition(":")[0])
        found = next((gb_id for gb_id in named if gb_id in self._channels), None)
        if found is None and len(self._channels) == 1 and self._line.spec.gb_id in named:
            return next(iter(self._channels))  # a camera called by its own code
        return found

    def _same_source(self, request: Message) -> Call | None:
        source = _source(request)
        return next((c for c in self._calls.values() if source and c.source == source), None)

    def _ssrc(self, offer: Offer) -> tuple[int, str]:
        """What RTP carries, and what the answer's `y=` says."""
        own = self._line.ids.number(SSRC_OWN_MAX - 1) + 1
        offered = offer.ssrc
        if offered is None or self._faults.ssrc is SsrcFault.WRONG:
            return own, f"{own:010d}"
        if self._faults.ssrc is SsrcFault.ZERO:
            return 0, offer.ssrc_text
        return offered, offer.ssrc_text


def _within(call: Call, request: Message) -> bool:
    """Both tags are those of the call (RFC 3261 12.2.2). Stricter than a platform can afford to be:
    a device that takes any tag would hide a platform that mixes up its dialogs."""
    tags = (request.from_.tag, request.to.tag)
    return tags == (call.dialog.remote_tag, call.dialog.local_tag)


def _source(request: Message) -> str:
    """`sender ID:sender sequence` of the Subject, "" when it has none (annex K)."""
    first = (request.header("subject") or "").partition(",")[0].strip()
    sender, _, sequence = (part.strip() for part in first.partition(":"))
    return f"{sender}:{sequence}" if sender and sequence else ""


__all__ = ["ALLOW", "CALLS_MAX", "Call", "Calls"]
