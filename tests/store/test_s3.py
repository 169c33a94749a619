"""S3 without a server: credentials, signatures' inputs, and a server that fails or is not there.

The calls themselves are proven in tests/contract/test_objects.py against a real one.
"""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vsp.config import Config
from vsp.errors import DataLoss, Denied, Invalid, NotFound, Unavailable
from vsp.store import open_objects
from vsp.store import s3 as module
from vsp.store.s3 import S3Objects, read_credentials


def credentials(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "credentials"
    path.write_text(text, "utf-8")
    path.chmod(mode)
    return path


def client(port: int) -> S3Objects:
    return S3Objects(f"127.0.0.1:{port}", "bucket", "key", "secret", secure=False, region="r")


class Server(ThreadingHTTPServer):
    """Answers every request with one prepared answer, and remembers them."""

    status = 200
    body = b""
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, self.path, dict(self.headers.items()), body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.send_header("ETag", '"tag"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.server.body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>why</Message></Error>".encode()


def test_credentials_are_two_lines(tmp_path: Path):
    assert read_credentials(credentials(tmp_path, "access\nsecret\n")) == ("access", "secret")


@pytest.mark.parametrize("text", ["", "one\n", "a\nb\nc\n", "é\nb\n"])
def test_other_credentials_are_invalid_and_not_repeated(tmp_path: Path, text: str):
    with pytest.raises(Invalid, match="s3_credentials"):
        read_credentials(credentials(tmp_path, text))


def test_credentials_that_others_can_read_are_refused(tmp_path: Path):
    with pytest.raises(Denied):
        read_credentials(credentials(tmp_path, "a\nb\n", 0o644))


def test_credentials_that_are_not_there_are_invalid(tmp_path: Path):
    with pytest.raises(Invalid):
        read_credentials(tmp_path / "none")


@pytest.mark.parametrize("endpoint", ["", "http://x", "x:y", "a b"])
def test_an_endpoint_that_is_none_is_invalid(tmp_path: Path, endpoint: str):
    store = {
        "kind": "s3",
        "s3_endpoint": endpoint,
        "s3_credentials": credentials(tmp_path, "a\nb\n"),
    }

    with pytest.raises(Invalid, match="s3_endpoint"):
        open_objects(Config.model_validate({"store": store}))


async def test_a_server_that_is_not_there_is_unavailable_soon(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BACKOFF_S", 0.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        objects = client(taken.getsockname()[1])
        for call in (
            objects.begin("k", {}),
            objects.put("k", b"x", {}),
            objects.stat("k"),
            objects.read("k", 0, 1),
            objects.delete("k"),
        ):
            with pytest.raises(Unavailable, match="does not answer"):
                await call
        with pytest.raises(Unavailable):
            _ = [info async for info in objects.list("")]
        await objects.close()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NoSuchUpload", NotFound),
        (404, "NoSuchBucket", NotFound),
        (400, "InvalidPart", Invalid),
        (400, "EntityTooSmall", Invalid),
        (403, "AccessDenied", Unavailable),
        (403, "SignatureDoesNotMatch", Unavailable),
        (409, "OperationAborted", Unavailable),
    ],
)
async def test_what_the_server_says_becomes_one_of_our_kinds(
    server: Server, status: int, code: str, kind: type
):
    server.status, server.body = status, error(code)
    objects = client(server.server_port)

    with pytest.raises(kind):
        await objects.put_part("k", "u", 1, b"x")

    assert len(server.seen) == 1, "no such answer is asked for twice"
    await objects.close()


async def test_a_tired_server_is_asked_again_and_then_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "BACKOFF_S", 0.0)
    server.status, server.body = 503, error("SlowDown")
    objects = client(server.server_port)

    with pytest.raises(Unavailable, match="SlowDown"):
        await objects.put_part("k", "u", 1, b"x")

    assert len(server.seen) == 1 + module.RETRIES
    await objects.close()


async def test_an_error_behind_a_200_is_an_error(server: Server):
    server.body = error("InternalError")
    objects = client(server.server_port)

    with pytest.raises(Unavailable, match="InternalError"):
        await objects.complete("k", "u", ["t"])

    await objects.close()


async def test_a_short_answer_to_a_read_is_data_loss(server: Server):
    server.body = b"123"
    objects = client(server.server_port)

    with pytest.raises(DataLoss):
        await objects.read("k", 0, 4)

    await objects.close()


async def test_a_part_is_sent_signed_to_its_number_with_every_byte(server: Server):
    objects = client(server.server_port)

    tag = await objects.put_part("v1/c/x.mp4", "up-1", 3, b"bytes")

    [(method, path, headers, body)] = server.seen
    assert (method, path, body) == (
        "PUT",
        "/bucket/v1/c/x.mp4?partNumber=3&uploadId=up-1",
        b"bytes",
    )
    assert headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=key/")
    assert len(headers["x-amz-content-sha256"]) == 64, "plain HTTP: the body is signed"
    assert tag == "tag"
    await objects.close()


@pytest.mark.parametrize("body", [b"", b"not xml", b"<a>", b"<Init><Bucket>b</Bucket></Init>"])
async def test_an_upload_without_a_name_is_unavailable(server: Server, body: bytes):
    server.body = body
    objects = client(server.server_port)

    with pytest.raises(Unavailable):
        await objects.begin("k", {})

    await objects.close()
