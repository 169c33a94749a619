"""A SIP dialog as it is kept: what it takes to say BYE."""

from __future__ import annotations

from dataclasses import dataclass

from vsp.model.device import Transport

DialogKey = tuple[str, str, str]
"""Call-ID, our tag, their tag (RFC 3261 12). SSRC and channel are never keys: both repeat."""


@dataclass(frozen=True, slots=True)
class DialogState:
    """An INVITE dialog as persisted, enough to BYE it after a restart (RFC 3261 12).

    uris are as they stand in the headers; `cseq` is the last one used by us.
    """

    call_id: str
    local_uri: str
    local_tag: str
    remote_uri: str
    remote_tag: str
    remote_target: str
    cseq: int
    transport: Transport
    host: str
    port: int

    @property
    def key(self) -> DialogKey:
        return self.call_id, self.local_tag, self.remote_tag
