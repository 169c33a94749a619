"""The composition root: what a start that fails must not leave behind."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path


def _run(data: Path, sip_port: int) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "VSP_NODE__DATA_DIR": str(data),
        "VSP_NODE__WORKERS": "1",
        "VSP_SIP__PORT": str(sip_port),
        "VSP_WEB__PORT": "0",
        "VSP_MEDIA__HTTP_PORT_FIRST": "0",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "vsp", "run"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_first_password_is_shown_after_a_start_that_failed(tmp_path: Path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        failed = _run(tmp_path, port)
        said, complained = failed.communicate(timeout=60)

    assert failed.returncode == 2
    assert not said
    assert f"sip.port: 127.0.0.1:{port} is taken" in complained

    again = _run(tmp_path, 0)
    try:
        assert again.stdout is not None
        line = again.stdout.readline()
    finally:
        again.terminate()
        again.communicate(timeout=60)

    assert json.loads(line.removeprefix("ready "))["password"]
