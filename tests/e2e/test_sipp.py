"""sipp, which we did not write, registers 200 devices that were imported as CSV."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

from tests.e2e.platform import Platform, until

pytestmark = pytest.mark.timeout(180)

DEVICES = 200

SCENARIO = """<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="register with digest">
  <send retrans="500"><![CDATA[
REGISTER sip:34020000002000000001@3402000000 SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];rport;branch=[branch]
From: <sip:[field0]@3402000000>;tag=[call_number]
To: <sip:[field0]@3402000000>
Call-ID: [call_id]
CSeq: 1 REGISTER
Contact: <sip:[field0]@[local_ip]:[local_port]>
Max-Forwards: 70
Expires: 3600
Content-Length: 0

]]></send>
  <recv response="401" auth="true" />
  <send retrans="500"><![CDATA[
REGISTER sip:34020000002000000001@3402000000 SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];rport;branch=[branch]
From: <sip:[field0]@3402000000>;tag=[call_number]
To: <sip:[field0]@3402000000>
Call-ID: [call_id]
CSeq: 2 REGISTER
Contact: <sip:[field0]@[local_ip]:[local_port]>
[field1]
Max-Forwards: 70
Expires: 3600
Content-Length: 0

]]></send>
  <recv response="200" />
</scenario>
"""


@pytest.mark.parametrize("transport", ["u1", "t1"])
async def test_sipp_registers_200_imported_devices(tmp_path: Path, transport: str):
    platform = Platform(tmp_path, port_first=36000, workers=1)
    async with platform:
        devices = [
            # sipp takes a password that begins with 0x for a hexadecimal key
            (f"3402000000132{number:07d}", f"pw-{secrets.token_hex(8)}")
            for number in range(DEVICES)
        ]
        csv = "gb_id,password\n" + "\n".join(",".join(device) for device in devices)
        answer = await platform.post("/devices:import", {"csv": csv})
        assert answer.status == 200, answer
        assert answer.body["added"] == DEVICES
        assert not answer.body["failed"]

        await run_sipp(tmp_path, platform.ready["sip"]["port"], devices, transport)

        async def all_online() -> bool:
            overview = await platform.get("/overview")
            return bool(overview.body["devices_online"] == DEVICES)

        await until("200 devices on line", all_online, 20)


async def run_sipp(folder: Path, port: int, devices: list[tuple[str, str]], transport: str) -> None:
    (folder / "register.xml").write_text(SCENARIO)
    lines = [
        f"{gb_id};[authentication username={gb_id} password={password}]"
        for gb_id, password in devices
    ]
    (folder / "devices.csv").write_text("SEQUENTIAL\n" + "\n".join(lines) + "\n")
    process = await asyncio.create_subprocess_exec(
        "sipp", f"127.0.0.1:{port}", "-sf", "register.xml", "-inf", "devices.csv",
        "-i", "127.0.0.1", "-m", str(len(devices)), "-r", "50", "-t", transport,
        "-timeout", "60", "-timeout_error", "-nostdin", "-trace_err",
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode("utf-8", "replace")[-3000:]
