"""MANSCDP bodies. Signatures; being written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from vsp.model.device import Charset
from vsp.model.ids import UtcMicros


@dataclass(frozen=True, slots=True)
class Body:
    """root: "Control" | "Query" | "Notify" | "Response" (canonical case). sn 0 and device_id ""
    when missing; cmd_type as written."""

    root: str
    cmd_type: str
    sn: int
    device_id: str
    tree: etree._Element
    oddities: tuple[str, ...] = ()

    def text(self, name: str) -> str: ...


def parse_body(data: bytes, charset: Charset | None = None, *, size_max: int = 2 << 20) -> Body:
    """Raises Malformed."""
    ...


def child(node: etree._Element, name: str) -> etree._Element | None: ...
def children(node: etree._Element, name: str) -> Iterator[etree._Element]: ...
def text_of(node: etree._Element, name: str) -> str: ...
def encode(text: str, charset: Charset = Charset.GB2312) -> bytes: ...
def parse_time(text: str) -> UtcMicros | None: ...
def format_time(at_us: UtcMicros) -> str: ...
