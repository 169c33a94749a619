"""Every way in which a simulated device may misbehave, by name.

A fault imitates something seen in the field or something the standard allows; the field's comment
says which. Chances are between 0 and 1 and are drawn from the device's seed, so a run with the same
seed loses the same packets.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class SsrcFault(StrEnum):
    """What the device does with the SSRC of the offer's `y=` line."""

    NONE = "none"
    WRONG = "wrong"
    ZERO = "zero"


@dataclass(frozen=True, slots=True)
class Faults:
    """All off by default.

    loss, reorder, dup     chance of each RTP packet over UDP to vanish, to be overtaken by the next
                           few, to be sent twice
    sip_loss               chance of each SIP datagram (both directions, UDP) to vanish
    silent_death_after_s   power cut: from then on nothing is sent or answered, nothing is closed
    ssrc                   WRONG: RTP and `y=` carry a number of the device's own (Hikvision
                           platforms); ZERO: RTP carries 0 (some Dahua models), `y=` is echoed
    no_y                   the 200 OK has no `y=` line (many)
    slow_catalog_s         seconds until the first catalogue page (large lower platforms)
    catalog_sumnum_lie     added to the true SumNum of each page
    catalog_page_size      items of one catalogue MESSAGE; 1 is what most IPCs and NVRs do
    no_psm                 no program stream map (bare 000001BA 000001E0 of some H.265 firmwares)
    split_pes              frames cut into PES of at most 2,000 bytes
    bd_packets             private_stream_1 (BD) packets between the video PES (Hikvision)
    slow_answer_s          seconds between 100 and 200 of an INVITE (slow 200, camera start-up)
    busy                   every INVITE is answered 486 with Warning 399 (Hikvision session cap)
    clock_skew_s           the device's clock is ahead by this; OSD, PTS, SEI and DeviceTime follow
    gbk_names              names hold GBK characters that GB2312 lacks, under the label GB2312
    label                  encoding label written into the XML declaration, whatever the bytes are
    """

    loss: float = 0.0
    reorder: float = 0.0
    dup: float = 0.0
    sip_loss: float = 0.0
    silent_death_after_s: float | None = None
    ssrc: SsrcFault = SsrcFault.NONE
    no_y: bool = False
    slow_catalog_s: float = 0.0
    catalog_sumnum_lie: int = 0
    catalog_page_size: int = 1
    no_psm: bool = False
    split_pes: bool = False
    bd_packets: bool = False
    slow_answer_s: float = 0.0
    busy: bool = False
    clock_skew_s: float = 0.0
    gbk_names: bool = False
    label: str = ""


__all__ = ["Faults", "SsrcFault"]
