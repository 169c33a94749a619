"""A network camera: a device with one channel."""

from __future__ import annotations

from typing import Any

from simulators.device import Device
from simulators.spec import ChannelSpec, DeviceSpec, label_of

DEFAULT_GB_ID = "34020000001320000001"


def camera_spec(
    gb_id: str,
    password: str,
    *,
    name: str = "",
    channel_id: str = "",
    label: str = "",
    **rest: Any,  # noqa: ANN401  passed through to DeviceSpec, which types it
) -> DeviceSpec:
    """A camera. Its channel has the camera's own code unless `channel_id` says otherwise.

    rest  further fields of `DeviceSpec`
    """
    name = name or label_of(gb_id)
    channel = ChannelSpec(channel_id or gb_id, name, label or label_of(channel_id or gb_id))
    return DeviceSpec("camera", gb_id, password, name, (channel,), **rest)


class Camera(Device):
    """A device made from a `camera_spec`."""


__all__ = ["DEFAULT_GB_ID", "Camera", "camera_spec"]
