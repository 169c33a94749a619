"""The story of one try to get a picture, told while it happens.

Peers lose their users at "the picture does not come and nobody knows why". So each try keeps every
step with its time, and a failure names its leg, the packet behind it and what to do next. The words
that people read are chosen by `Leg` in the console; `cause` begins with the leg so that it can.
"""

from __future__ import annotations

from dataclasses import replace

from vsp.errors import Exhausted, Invalid, VspError
from vsp.model.device import MediaTransport
from vsp.model.ids import AttemptId, ChannelId
from vsp.model.stream import Attempt, AttemptStep, Leg
from vsp.ports import Clock, Ids

STEPS_MAX = 64
"""Steps of one attempt: two transports with a dozen steps each leave room for odd answers."""

NEXT_STEPS: dict[Leg, str] = {
    Leg.PERMISSION: "ask an administrator for the right to see this channel",
    Leg.DEVICE_OFFLINE: "check power and network of the device; its last heartbeat is on its page",
    Leg.WORKER: "check the media workers on this machine with `vsp doctor`",
    Leg.NO_SIP_ANSWER: "the device registered but does not answer INVITE; see its SIP trace",
    Leg.REFUSED: "the device refused; its status line and Warning are in the SIP trace",
    Leg.BAD_ANSWER: "the answer's SDP cannot be used; it is in the SIP trace",
    Leg.NO_MEDIA: "no packet arrived: check firewall and NAT between device and media ports",
    Leg.FOREIGN_MEDIA: "media came from an address that was not negotiated; see the stream",
    Leg.DESTINATION_REFUSED: "media is fetched from the device itself, or from media.networks only",
    Leg.NOT_DECODABLE: "packets arrive but hold no key frame; check the codec set on the device",
}


class LegFailed(VspError):
    """A leg of an attempt failed for good. `cause` is `<leg>: <detail>`."""

    kind = "unavailable"

    def __init__(self, leg: Leg, detail: str) -> None:
        super().__init__(detail, cause=f"{leg.value}: {detail}", next_step=NEXT_STEPS[leg])
        self.leg = leg


def leg_of(error: VspError) -> Leg:
    """The leg that an error of signalling or of a worker belongs to."""
    leg = getattr(error, "leg", None)
    if isinstance(leg, Leg):
        return leg
    return Leg.BAD_ANSWER if isinstance(error, Invalid) else Leg.WORKER


class AttemptLog:
    """One attempt being written. `record()` is the value to store, at any moment."""

    def __init__(self, clock: Clock, ids: Ids, channel_id: ChannelId, purpose: str) -> None:
        self._clock = clock
        self._attempt = Attempt(
            id=AttemptId(ids.row_id()),
            channel_id=channel_id,
            started_us=clock.now_us(),
            purpose=purpose,
        )

    @property
    def id(self) -> AttemptId:
        return self._attempt.id

    def record(self) -> Attempt:
        return self._attempt

    def step(self, what: str, detail: str = "") -> None:
        """Note a step; beyond STEPS_MAX the middle of the story is not kept."""
        steps = self._attempt.steps
        if len(steps) < STEPS_MAX:
            added = AttemptStep(self._clock.now_us(), what, detail)
            self._attempt = replace(self._attempt, steps=(*steps, added))

    def over(self, transport: MediaTransport) -> None:
        self._attempt = replace(self._attempt, transport=transport)

    def called(self, call_id: str) -> None:
        self._attempt = replace(self._attempt, call_id=call_id)

    def succeed(self) -> Attempt:
        self._attempt = replace(self._attempt, ended_us=self._clock.now_us(), succeeded=True)
        return self._attempt

    def fail(self, error: VspError) -> Attempt:
        leg = leg_of(error)
        self.step("failed", error.message)
        self._attempt = replace(
            self._attempt,
            ended_us=self._clock.now_us(),
            succeeded=False,
            leg=leg,
            cause=error.cause or error.message,
            next_step=error.next_step or NEXT_STEPS[leg],
        )
        return self._attempt


def worker_failed(error: VspError) -> LegFailed:
    """A worker's refusal as a failed leg (no port left is the usual one)."""
    full = isinstance(error, Exhausted)
    return LegFailed(Leg.WORKER, error.message if full else f"media worker: {error.message}")
