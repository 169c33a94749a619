"""`vsp demo`: the platform on its embedded default with simulated cameras, for a first look.

The devices are added like any other, with passwords made here and kept in
`{data_dir}/demo/scenario.json` (0600), which the simulators read. Names and places are invented.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vsp.administer import add_devices
from vsp.clock import SystemIds
from vsp.config import Config
from vsp.model.device import NewDevice
from vsp.model.ids import GbId
from vsp.run import DATABASE_SETTINGS, NODE_ROLES, ready_file, run
from vsp.supervisor import Child, python

PLACES = (
    "火车站南广场 01",
    "火车站南广场 02",
    "长途客运站 安检口",
    "劳动公园 西门",
    "友好广场 东北角",
    "天津街 步行街口",
    "港湾桥 南引桥",
    "会展中心 2 号门",
    "市第三医院 正门",
    "中心小学 北门",
    "滨河农贸市场 入口",
    "政务大厅 一层",
    "青泥洼桥 地铁口",
    "体育场 东看台",
    "开发区 管委会",
    "新城社区 6 号楼",
)
RECORDER = "青泥洼街道 录像机"
RECORDER_CHANNELS = ("街道办 前厅", "街道办 后院", "青泥洼桥 地下通道", "桂林路口")

CAMERAS_MAX = 64
"""One process paces all of them; beyond this the figures would be the simulator's, not ours."""


def scenario(config: Config, cameras: int) -> dict[str, Any]:
    """What the simulators shall be. Passwords of an earlier start are kept."""
    known = _known_passwords(scenario_file(config))
    ids = SystemIds()
    domain = config.sip.domain[:8]

    def password(gb_id: str) -> str:
        return known.get(gb_id) or ids.token(12)

    devices: list[dict[str, Any]] = []
    for number in range(1, cameras + 1):
        gb_id = f"{domain}00132{number:07d}"
        place = PLACES[(number - 1) % len(PLACES)]
        name = place if number <= len(PLACES) else f"{place} ({number})"
        devices.append(
            {
                "kind": "camera",
                "gb_id": gb_id,
                "password": password(gb_id),
                "name": name,
                "channels": [{"gb_id": gb_id, "name": name, "label": f"CAM {number:02d}"}],
                "transport": "tcp" if number % 4 == 0 else "udp",
            }
        )
    recorder = f"{domain}001180000001"
    devices.append(
        {
            "kind": "nvr",
            "gb_id": recorder,
            "password": password(recorder),
            "name": RECORDER,
            "channels": [
                {
                    "gb_id": f"{domain}00132{number + 1000:07d}",
                    "name": name,
                    "label": f"NVR {number}",
                }
                for number, name in enumerate(RECORDER_CHANNELS, start=1)
            ],
            "transport": "udp",
        }
    )
    for device in devices:
        device["timing"] = {"keepalive_s": config.sip.keepalive_interval_s}
    return {
        "platform": {
            "host": config.sip.host,
            "port": config.sip.port,
            "id": config.sip.id,
            "domain": config.sip.domain,
        },
        "devices": devices,
        "cache": str(clip_cache()),
    }


def scenario_file(config: Config) -> Path:
    return config.data_dir / "demo" / "scenario.json"


def clip_cache() -> Path:
    """Encoded loops are kept across demos: they depend on nothing but their parameters."""
    return Path(os.environ.get("XDG_CACHE_HOME", ".cache")) / "vsp-clips"


def _known_passwords(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    devices = json.loads(path.read_text("utf-8"))["devices"]
    return {device["gb_id"]: device["password"] for device in devices}


async def prepare(config: Config, cameras: int) -> Path:
    """Write the scenario and add its devices to the register."""
    path = scenario_file(config)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    wanted = scenario(config, cameras)
    temporary = path.with_suffix(".tmp")
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(wanted, ensure_ascii=False, indent=1), "utf-8")
    temporary.rename(path)
    devices = [
        NewDevice(GbId(device["gb_id"]), device["password"], device["name"])
        for device in wanted["devices"]
    ]
    await add_devices(config, devices)
    return path


def demo(config: Config, cameras: int) -> int:
    """Run the platform with `cameras` simulated cameras and one four-channel recorder."""

    async def simulators(config: Config) -> Sequence[Child]:
        path = await prepare(config, cameras)
        argv = python("simulators", "demo", "--scenario", str(path))
        after = ready_file(config)
        return [Child("simulators", argv, after=after, withheld=DATABASE_SETTINGS)]

    return asyncio.run(run(config, NODE_ROLES, simulators))
