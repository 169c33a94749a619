"""What the deaths of a batch have cost, from what was sent and what is recorded.

Three words, each a figure of its own:

  acknowledged   a segment whose row was committed at any time
  received       a picture that had reached a worker when it died, and is nowhere: unrecoverable
  outage         from the death of a worker to the next recorded key picture, of its worst stream

A hole in a recording belongs to every death, between the hole's edges, of the worker that received
the channel. A hole that belongs to no worker's death is the cost of the parent that died last, if
one has died lately, and else a stray.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.crash.batch import Facts, Kill, Sync
from benchmarks.crash.recorded import (
    Hole,
    Picture,
    Recorded,
    Sent,
    holes,
    order,
    probe,
    read_recorded,
)
from benchmarks.crash.schedule import PARENTS

MICROS = 1_000_000

DYING_US = MICROS // 2
"""A process notes its death, has the note on disk, and dies: meanwhile it still takes pictures."""

PARENT_US = 20 * MICROS
"""How long after the death of a parent a hole is put down to it: it has started again, adopted what
the workers receive, and given up what it could not."""

PROBES = 12
"""Segments of a batch that ffprobe decodes, half of them such as a recovery has finished."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one death, in seconds of its worst stream; of a parent it is missing_s."""

    received_s: float = 0.0
    outage_s: float = 0.0
    missing_s: float = 0.0


def spans(hole: Hole, kill: Kill) -> bool:
    """Whether the death lies between the hole's edges, and its process received the channel."""
    within = hole.before_us - DYING_US <= kill.at_us <= hole.until_us
    return within and hole.channel in kill.held


@dataclass(slots=True)
class Dialog:
    """A stream that a camera sent. What comes before its first key picture nobody can decode."""

    begun_us: int
    key_us: int | None = None


def dialogs(pictures: Iterable[Picture]) -> dict[int, Dialog]:
    """Of one channel, by SSRC."""
    found: dict[int, Dialog] = {}
    for picture in pictures:
        for ssrc in picture.dialogs:
            dialog = found.setdefault(ssrc, Dialog(picture.sent_us))
            if picture.key and dialog.key_us is None:
                dialog.key_us = picture.sent_us
    return found


def lost_on_receipt(
    hole: Hole, deaths: Sequence[Kill], nth: int, of_channel: Mapping[int, Dialog]
) -> int:
    """Pictures of a hole that the process had received when it died, the `nth` to do so in it.

    What a dialog from before an earlier death sent after that one went to a port that was closed;
    what no decoder could begin with counts as outage.
    """
    since_us = deaths[nth - 1].at_us if nth else 0

    def received(picture: Picture) -> bool:
        streams = [of_channel[ssrc] for ssrc in picture.dialogs]
        return picture.sent_us <= deaths[nth].at_us and any(
            each.begun_us > since_us and each.key_us is not None and each.key_us <= picture.sent_us
            for each in streams
        )

    return sum(map(received, hole.pictures))


def costs(
    kills: Sequence[Kill], sent: Sent, recorded: Recorded, fps: int
) -> tuple[list[Cost], list[Hole]]:
    """What each death has cost, and the holes that nobody's death explains."""
    received_s, outage_s, missing_s = ([0.0] * len(kills) for _ in range(3))
    strays = []
    for code, pictures in sent.items():
        streams = dialogs(pictures)
        for hole in holes(code, pictures, recorded.channels[code]):
            of_it = [index for index, kill in enumerate(kills) if spans(hole, kill)]
            deaths = [kills[index] for index in of_it]
            for nth, index in enumerate(of_it):
                lost = lost_on_receipt(hole, deaths, nth, streams) / fps
                received_s[index] = max(received_s[index], lost)
                out = (hole.until_us - kills[index].at_us) / MICROS
                outage_s[index] = max(outage_s[index], out)
            if not of_it:
                parent = last_parent(kills, hole)
                if parent is None:
                    strays.append(hole)
                else:
                    missing_s[parent] = max(missing_s[parent], len(hole.pictures) / fps)
    return [Cost(*each) for each in zip(received_s, outage_s, missing_s, strict=True)], strays


def last_parent(kills: Sequence[Kill], hole: Hole) -> int | None:
    lately = [
        index
        for index, kill in enumerate(kills)
        if kill.process in PARENTS and hole.before_us - PARENT_US <= kill.at_us <= hole.until_us
    ]
    return max(lately, key=lambda index: kills[index].at_us, default=None)


# ---- the whole ------------------------------------------------------------------------------


def judge(facts: Facts, objects: Path) -> dict[str, Any]:
    """Everything that is to be known of a batch, as JSON."""
    kills = facts.kills
    recorded = read_recorded(facts.rows, objects)
    of_each, strays = costs(kills, facts.sent, recorded, facts.scene.fps)
    orders = {
        code: order(pictures, recorded.channels[code]) for code, pictures in facts.sent.items()
    }
    return {
        "seed": facts.seed,
        "took_s": round(facts.took_s, 1),
        "kills": [
            _kill(kill, of_it, facts.syncs) for kill, of_it in zip(kills, of_each, strict=True)
        ],
        "missed": [point.value for point in facts.missed],
        "back_s": facts.back_s,
        "sync_s": [round(each.took_s, 4) for each in facts.syncs],
        "acknowledged": len(facts.acknowledged),
        "acknowledged_lost": acknowledged_lost(facts.acknowledged, recorded),
        "pictures": sum(len(stamps) for stamps in recorded.channels.values()),
        "strays": [_stray(hole, kills, facts.scene.fps) for hole in strays],
        "doubled": sum(each.doubled for each in orders.values()),
        "disordered": sum(each.disordered for each in orders.values()),
        "unknown": sum(each.unknown for each in orders.values()),
        "altered": recorded.altered,
        "miscounted": recorded.miscounted,
        "probed": min(PROBES, len(facts.rows)),
        "probe": probed(facts, recorded, objects),
        "orphans": facts.orphans,
        "check": facts.check,
    }


def acknowledged_lost(acknowledged: Mapping[str, str], recorded: Recorded) -> list[str]:
    """Keys of segments that were committed once and are not there now, byte for byte."""
    return [key for key, digest in acknowledged.items() if recorded.digests.get(key) != digest]


def probed(facts: Facts, recorded: Recorded, objects: Path) -> list[str]:
    """What ffprobe finds wrong in some of the segments."""
    chance = random.Random(facts.seed)
    rows = [row for row in facts.rows if row.key in recorded.stamps]
    rescued = [row for row in rows if row.end_reason == "worker_lost"]
    some = chance.sample(rescued, min(PROBES // 2, len(rescued)))
    others = [row for row in rows if row not in some]
    some += chance.sample(others, min(PROBES - len(some), len(others)))
    said = [probe(objects / r.key, recorded.stamps[r.key], facts.sent[r.channel]) for r in some]
    return [fault for fault in said if fault]


def slowest_sync_s(kill: Kill, outage_s: float, syncs: Sequence[Sync]) -> float:
    """Of those that were under way during the outage."""
    until_us = kill.at_us + outage_s * MICROS
    during = (
        each.took_s
        for each in syncs
        if each.at_us <= until_us and each.at_us + each.took_s * MICROS >= kill.at_us
    )
    return max(during, default=0.0)


def _kill(kill: Kill, of_it: Cost, syncs: Sequence[Sync]) -> dict[str, Any]:
    return {
        "at_us": kill.at_us,
        "process": kill.process,
        "point": kill.point.value if kill.point else "",
        "streams": len(kill.held),
        "received_s": round(of_it.received_s, 3),
        "outage_s": round(of_it.outage_s, 3),
        "missing_s": round(of_it.missing_s, 3),
        "sync_s": round(slowest_sync_s(kill, of_it.outage_s, syncs), 3),
    }


def _stray(hole: Hole, kills: Sequence[Kill], fps: int) -> dict[str, Any]:
    before = [kill for kill in kills if kill.at_us <= hole.until_us]
    last = before[-1] if before else None
    return {
        "channel": hole.channel,
        "from_us": hole.pictures[0].capture_us,
        "until_us": hole.until_us,
        "seconds": round(len(hole.pictures) / fps, 2),
        "last_death": last.process if last else "",
        "last_death_us": last.at_us if last else 0,
    }


__all__ = ["Cost", "costs", "judge", "lost_on_receipt", "spans"]
