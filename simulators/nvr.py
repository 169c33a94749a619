"""A network video recorder: a device with many channels."""

from __future__ import annotations

from typing import Any

from simulators.device import Device
from simulators.spec import DeviceSpec, numbered_channels

DEFAULT_GB_ID = "34020000001180000001"


def first_channel_id(gb_id: str) -> str:
    """Code of the first channel: type 132, and a serial that no camera or other NVR is given."""
    serial = int(gb_id[-6:]) % 10_000 * 100 + 1
    return f"{gb_id[:10]}132{gb_id[13]}{serial:06d}"


def nvr_spec(
    gb_id: str,
    password: str,
    *,
    channels: int = 4,
    name: str = "NVR",
    channel_id: str = "",
    **rest: Any,  # noqa: ANN401  passed through to DeviceSpec, which types it
) -> DeviceSpec:
    """An NVR with `channels` consecutive channels, the first with code `channel_id`.

    rest  further fields of `DeviceSpec`
    """
    first = channel_id or first_channel_id(gb_id)
    return DeviceSpec(
        "nvr", gb_id, password, name, tuple(numbered_channels(first, channels, name)), **rest
    )


class Nvr(Device):
    """A device made from an `nvr_spec`."""


__all__ = ["DEFAULT_GB_ID", "Nvr", "first_channel_id", "nvr_spec"]
