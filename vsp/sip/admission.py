"""Which strangers are answered at all. Pure; `now` is monotonic seconds.

UDP sources are forged at will, so an answer to a stranger is paid for by whoever really lives at
the address. Two rules keep that cheap: never more than twice the bytes that came in, and never
more than a few answers a second for a source, then silence (RFC 3261 26.1.5 on amplification).
One bucket over all strangers bounds the sum when every packet bears another source.

After an outage the whole fleet registers at once, often from behind one address, and must not be
held back. So an answer to a known id is paid for by its (address, id) alone: who says that it is
some device gets no more answers than that device would need.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

ANSWERS_PER_S = 5.0
"""Answers a second to one unknown source: enough for a device being set up, with two a try."""

ANSWERS_BURST = 5.0
"""Answers at once after silence: a REGISTER, its authenticated repeat, a few retransmissions."""

ALL_ANSWERS_PER_S = 1000.0
"""Answers a second to all unknown sources together: below 3 % of what one core can answer."""

KNOWN_PER_S = 2.0
KNOWN_BURST = 10.0
"""Refusals and challenges to one (address, id): a device that registers takes one, and repeats what
was lost."""

GROWTH_MAX = 2.0
"""Bytes out per byte in: an attacker gains nothing worth having by reflecting through us."""

KNOWN_MAX = 100_000
"""Twice the devices of a large platform: each behind its address, and a second one that tries."""

SOURCES_MAX = 20_000
"""Buckets kept, about 100 bytes each. The source longest unseen goes first; its return starts full,
which the common bucket bounds."""


class Bucket:
    """A token bucket: `rate` tokens a second, at most `burst` saved up."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float) -> bool:
        """Spend one token if there is one."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


K = TypeVar("K")


class Buckets(Generic[K]):
    """A bucket for each key, at most `many`: the one longest unseen goes first."""

    def __init__(self, rate: float, burst: float, many: int) -> None:
        self._rate = rate
        self._burst = burst
        self._many = many
        self._buckets: OrderedDict[K, Bucket] = OrderedDict()

    def take(self, key: K, now: float) -> bool:
        """Spend one token of that key if there is one."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self._rate, self._burst, now)
            if len(self._buckets) > self._many:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(now)

    def __len__(self) -> int:
        return len(self._buckets)


class Admission:
    """Decides for each answer to a stranger whether it is sent."""

    def __init__(self, now: float) -> None:
        self._all = Bucket(ALL_ANSWERS_PER_S, ALL_ANSWERS_PER_S, now)
        self._sources = Buckets[str](ANSWERS_PER_S, ANSWERS_BURST, SOURCES_MAX)
        self._known = Buckets[tuple[str, str]](KNOWN_PER_S, KNOWN_BURST, KNOWN_MAX)

    def allow_known(self, source: str, gb_id: str, now: float) -> bool:
        """Whether a refusal or challenge may go to `source` that says it is that known device."""
        return self._known.take((source, gb_id), now)

    def allow(self, source: str, request_bytes: int, answer_bytes: int, now: float) -> bool:
        """Whether an answer of that size may go to `source` for a request of that size."""
        if answer_bytes > GROWTH_MAX * request_bytes:
            return False
        return self._sources.take(source, now) and self._all.take(now)

    def __len__(self) -> int:
        return len(self._sources)


__all__ = [
    "ALL_ANSWERS_PER_S",
    "ANSWERS_BURST",
    "ANSWERS_PER_S",
    "GROWTH_MAX",
    "KNOWN_BURST",
    "KNOWN_MAX",
    "KNOWN_PER_S",
    "SOURCES_MAX",
    "Admission",
    "Bucket",
    "Buckets",
]
