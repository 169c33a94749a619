"""SDP with y= and f= (GB/T 28181-2016 annex F). Signatures; being written."""

from __future__ import annotations

from dataclasses import dataclass

from vsp.model.device import MediaTransport


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer means for media. transport is from the platform's point of view."""

    host: str
    port: int
    transport: MediaTransport
    ssrc: int | None
    payloads: tuple[tuple[int, str], ...]


def offer_live(
    platform_id: str,
    host: str,
    port: int,
    transport: MediaTransport,
    ssrc: int,
    *,
    media_format: str | None = None,
    stream_number: int | None = None,
) -> bytes:
    """The INVITE body of a live stream. media_format = f= value; stream_number = a=streamnumber."""
    ...


def parse_answer(body: bytes, offered: MediaTransport) -> Answer:
    """Raises Malformed (no SDP), Unsupported (no usable media, private PS)."""
    ...
