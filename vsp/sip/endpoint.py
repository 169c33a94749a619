"""The I/O shell of signalling: UDP and TCP sockets around one `SipAgent`, one deadline timer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from vsp.ports import Clock
from vsp.sip.core.agent import AckReceived, Peer, RequestReceived, SipAgent
from vsp.sip.core.dialog import Answered, InviteDialog, Ringing
from vsp.sip.core.message import Message
from vsp.sip.core.transaction import ServerTransaction


class SipEndpoint:
    on_request: Callable[[RequestReceived], None]
    """Sync. A VspError raised by it is answered with its SIP status (Invalid -> 400 ...)."""
    on_ack: Callable[[AckReceived], None]
    on_traffic: Callable[[bool, Peer, bytes], None] | None
    on_disconnect: Callable[[Peer], None]

    def __init__(
        self,
        agent: SipAgent,
        clock: Clock,
        host: str,
        port: int,
        transports: Sequence[Literal["udp", "tcp"]] = ("udp", "tcp"),
    ) -> None: ...

    async def start(self) -> None:
        """Raises Conflict naming sip.port when the port is taken."""

    async def close(self) -> None: ...

    @property
    def port(self) -> int: ...

    def respond(
        self,
        transaction: ServerTransaction,
        status: int,
        reason: str,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        to_tag: str | None = None,
    ) -> None: ...

    def send(self, data: bytes, peer: Peer) -> None: ...

    async def request(
        self,
        method: str,
        uri: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        peer: Peer,
        timeout_s: float,
        *,
        call_id: str | None = None,
        cseq: int = 1,
    ) -> Message:
        """The final response, whatever its status. Raises Unavailable when none comes."""
        ...

    async def invite(
        self,
        dialog: InviteDialog,
        body: bytes,
        timeout_s: float,
        *,
        headers: Sequence[tuple[str, str]] = (),
        on_provisional: Callable[[Ringing], None] | None = None,
    ) -> Answered:
        """Run an INVITE to its end: ACKs the 2xx and each repetition.

        No final response in time: CANCEL, and Unavailable is raised (a 2xx that comes after that is
        ACKed and BYEd). A refusal raises `InviteRefused` (VspError with status, reason, warning).
        Cancelling the task does the same as the timeout.
        """
        ...

    async def bye(self, dialog: InviteDialog, timeout_s: float) -> None:
        """481 and 408 count as success (GB/T 28181 2.7: stale BYE)."""

    def connected(self, peer: Peer) -> bool:
        """UDP: always. TCP: whether that very connection is still open."""
        ...
