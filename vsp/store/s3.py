"""ObjectStore over S3. Tested on a real SeaweedFS; works on anything that speaks S3.

`minio` looks, lists, reads and deletes. What grows by parts is sent by plain HTTP with `minio`'s
signature, for two reasons: its client has no public calls for parts, and it hashes every body once
more (0.7-1.5 CPU-s per GB). Over TLS the body is not signed, for TLS protects it; over plain HTTP
it is, because nothing else would.

Every part but the last must have at least 5 MiB: that is S3's rule, and whoever calls keeps it.
Ambiguity (a timeout after the server has done it) is resolved by asking again: completing an upload
that is gone returns the object, if it is there.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from urllib.parse import SplitResult, quote
from xml.etree import ElementTree as ET

import urllib3
from minio import Minio
from minio import time as minio_time
from minio.credentials.credentials import Credentials
from minio.error import MinioException, S3Error
from minio.signer import sign_v4_s3

from vsp.blocking import IoPool
from vsp.errors import DataLoss, Denied, Invalid, NotFound, Unavailable, VspError
from vsp.model.ids import UtcMicros
from vsp.ports import ObjectInfo, PartInfo, UploadInfo
from vsp.store import keys

S3_THREADS = 8
"""Calls at once; measured: more gain nothing against one server on two cores."""

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 20.0
"""A fresh SeaweedFS takes five seconds to write; a dead server must not hold a thread longer."""

RETRIES = 2
BACKOFF_S = 0.2

LIST_PAGE = 1_000
"""What S3 returns at most for one request."""

ANSWER_MAX = 1 << 20
"""Characters of an XML answer to our own calls; they have a few hundred."""

_UNSIGNED = "UNSIGNED-PAYLOAD"
_META = "x-amz-meta-"
_ABSENT = frozenset({"NoSuchKey", "NoSuchUpload", "NoSuchBucket", "NoSuchObject", "NoSuchVersion"})
_REFUSED = frozenset(
    {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthorizationHeaderMalformed"}
)
_WRONG = frozenset(
    {"InvalidPart", "InvalidPartOrder", "EntityTooSmall", "EntityTooLarge", "MalformedXML"}
)


class S3Objects:
    """Objects in one bucket; every call in a thread."""

    def __init__(
        self,
        endpoint: str,
        bucket: str,
        access_key: str,
        secret_key: str,
        *,
        secure: bool,
        region: str,
    ) -> None:
        self._bucket = bucket
        self._endpoint = endpoint
        self._region = region
        self._secure = secure
        self._credentials = Credentials(access_key, secret_key)
        self._http = _http_pool()
        self._minio = Minio(
            endpoint,
            access_key=access_key,
            secret_key=secret_key,
            secure=secure,
            region=region,
            http_client=self._http,
        )
        self._pool = IoPool("s3", S3_THREADS)
        self._bucket_seen = False

    # ---- uploads ----------------------------------------------------------------------------

    async def begin(self, key: str, metadata: Mapping[str, str]) -> str:
        """The id of a new upload."""
        keys.check_key(key)
        return await self._pool.run(self._begin, key, keys.check_metadata(metadata))

    async def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> str:
        """The part's tag. At least 5 MiB unless it is the last."""
        keys.check_key(key)
        keys.check_upload_id(upload_id)
        keys.check_part(number, len(data))
        return await self._pool.run(self._put_part, key, upload_id, number, data)

    async def complete(self, key: str, upload_id: str, tags: Sequence[str]) -> ObjectInfo:
        """The object of parts 1 to len(tags); it is durable as the server defines it."""
        keys.check_key(key)
        keys.check_upload_id(upload_id)
        if not tags:
            raise Invalid(f"upload {upload_id} cannot complete without parts")
        return await self._pool.run(self._complete, key, upload_id, tuple(tags))

    async def abort(self, key: str, upload_id: str) -> None:
        """Forget an upload."""
        keys.check_key(key)
        keys.check_upload_id(upload_id)
        await self._pool.run(self._abort, key, upload_id)

    async def uploads(self, prefix: str) -> AsyncIterator[UploadInfo]:
        """Those under way, as the server lists them."""
        keys.check_prefix(prefix)
        marker = ("", "")
        while True:
            page, marker = await self._pool.run(self._upload_page, prefix, marker)
            for upload in page:
                yield upload
            if not marker[0]:
                return

    async def parts(self, key: str, upload_id: str) -> Sequence[PartInfo]:
        """What has arrived of an upload. Raises NotFound."""
        keys.check_key(key)
        keys.check_upload_id(upload_id)
        return await self._pool.run(self._parts, key, upload_id)

    async def put(self, key: str, data: bytes, metadata: Mapping[str, str]) -> ObjectInfo:
        """A whole object at once; replaces one of that key."""
        keys.check_key(key)
        return await self._pool.run(self._put, key, data, keys.check_metadata(metadata))

    # ---- objects ----------------------------------------------------------------------------

    async def stat(self, key: str) -> ObjectInfo:
        """Raises NotFound."""
        return await self._pool.run(self._stat, keys.check_key(key))

    async def read(self, key: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes. Raises NotFound, DataLoss."""
        keys.check_key(key)
        keys.check_range(key, offset, length)
        return await self._pool.run(self._read, key, offset, length)

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[ObjectInfo]:
        """In order within a folder; metadata is left empty, `stat` has it."""
        keys.check_prefix(prefix)
        found = self._minio.list_objects(
            self._bucket, prefix=prefix, recursive=True, start_after=after or None
        )
        while page := await self._pool.run(self._list_page, found):
            for info in page:
                yield info

    async def delete(self, key: str) -> None:
        """Deleting what is not there is nothing."""
        await self._pool.run(self._delete, keys.check_key(key))

    async def close(self) -> None:
        """Let running calls end, then close every connection."""
        await self._pool.close(wait=False)
        self._http.clear()

    # ---- in threads -------------------------------------------------------------------------

    def _begin(self, key: str, metadata: dict[str, str]) -> str:
        self._ensure_bucket()
        answer = self._send("POST", key, {"uploads": ""}, headers=_meta_headers(metadata))
        upload_id = _text_of(answer, "UploadId")
        if not upload_id:
            raise Unavailable(f"{self._endpoint} began an upload of {key} without naming it")
        return upload_id

    def _put_part(self, key: str, upload_id: str, number: int, data: bytes) -> str:
        query = {"partNumber": str(number), "uploadId": upload_id}
        tag = self._send("PUT", key, query, data).headers.get("ETag", "").strip('"')
        if not tag:
            raise Unavailable(f"{self._endpoint} took part {number} of {key} without a tag")
        return tag

    def _complete(self, key: str, upload_id: str, tags: tuple[str, ...]) -> ObjectInfo:
        try:
            answer = self._send("POST", key, {"uploadId": upload_id}, _part_list(tags))
            _raise_error_in(answer, key)  # S3 may answer 200 and fail afterwards
        except NotFound:
            return self._stat(key)  # completed before, as far as anyone can tell
        return self._stat(key)

    def _abort(self, key: str, upload_id: str) -> None:
        try:
            self._send("DELETE", key, {"uploadId": upload_id})
        except NotFound:
            return

    def _upload_page(
        self, prefix: str, marker: tuple[str, str]
    ) -> tuple[Sequence[UploadInfo], tuple[str, str]]:
        """One page and where the next begins; an empty marker says that there is none."""
        self._ensure_bucket()
        query = {"uploads": "", "prefix": prefix, "max-uploads": str(LIST_PAGE)}
        if marker[0]:
            query |= {"key-marker": marker[0], "upload-id-marker": marker[1]}
        answer = self._send("GET", "", query)
        found = [
            UploadInfo(said["Key"], said["UploadId"], _instant(said["Initiated"]))
            for said in _records(answer, "Upload")
        ]
        if _text_of(answer, "IsTruncated") != "true":
            return found, ("", "")
        following = _text_of(answer, "NextKeyMarker"), _text_of(answer, "NextUploadIdMarker")
        return found, following

    def _parts(self, key: str, upload_id: str) -> Sequence[PartInfo]:
        """Up to the first that is missing."""
        found: list[PartInfo] = []
        while True:
            query = {"uploadId": upload_id, "part-number-marker": str(len(found))}
            answer = self._send("GET", key, query)
            for said in _records(answer, "Part"):
                if int(said["PartNumber"]) != len(found) + 1:
                    return found
                tag = said["ETag"].strip('"')
                found.append(PartInfo(len(found) + 1, int(said["Size"]), tag))
            if _text_of(answer, "IsTruncated") != "true":
                return found

    def _put(self, key: str, data: bytes, metadata: dict[str, str]) -> ObjectInfo:
        self._ensure_bucket()
        self._send("PUT", key, {}, data, _meta_headers(metadata))
        return ObjectInfo(key, len(data), metadata)

    def _stat(self, key: str) -> ObjectInfo:
        with _s3_errors(self._endpoint, key):
            found = self._minio.stat_object(self._bucket, key)
        headers = dict(found.metadata or {})
        metadata = {
            name.lower().removeprefix(_META): str(value)
            for name, value in headers.items()
            if name.lower().startswith(_META)
        }
        return ObjectInfo(key, found.size or 0, metadata)

    def _read(self, key: str, offset: int, length: int) -> bytes:
        if length == 0:
            self._stat(key)
            return b""
        with _s3_errors(self._endpoint, key):
            response = self._minio.get_object(self._bucket, key, offset, length)
            try:
                data = bytes(response.read(length + 1))
            finally:
                response.close()
                response.release_conn()
        if len(data) != length:
            raise DataLoss(f"{key} ends before byte {offset + length}")
        return data

    def _list_page(self, found: Iterator[object]) -> Sequence[ObjectInfo]:
        with _s3_errors(self._endpoint, "the list of objects"):
            page = list(islice(found, LIST_PAGE))
        return [
            ObjectInfo(str(entry.object_name), entry.size or 0, {})  # type: ignore[attr-defined]
            for entry in page
        ]

    def _delete(self, key: str) -> None:
        with _s3_errors(self._endpoint, key):
            self._minio.remove_object(self._bucket, key)

    def _ensure_bucket(self) -> None:
        """Make the bucket where there is none, once."""
        if self._bucket_seen:
            return
        with _s3_errors(self._endpoint, f"bucket {self._bucket}"):
            try:
                if not self._minio.bucket_exists(self._bucket):
                    self._minio.make_bucket(self._bucket)
            except S3Error as error:
                # Another node made it meanwhile, or we may write but not look: the write will tell.
                if error.code not in {"BucketAlreadyOwnedByYou", "AccessDenied"}:
                    raise
        self._bucket_seen = True

    def _send(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """One signed request. Raises by the answer's status."""
        scheme = "https" if self._secure else "http"
        encoded = "&".join(f"{quote(n, '')}={quote(v, '')}" for n, v in sorted(query.items()))
        url = SplitResult(scheme, self._endpoint, f"/{self._bucket}/{key}", encoded, "")
        digest = _UNSIGNED if self._secure else hashlib.sha256(body or b"").hexdigest()
        now = minio_time.utcnow()
        signed = sign_v4_s3(
            method=method,
            url=url,
            region=self._region,
            headers={
                **(headers or {}),
                "Host": self._endpoint,
                "x-amz-content-sha256": digest,
                "x-amz-date": minio_time.to_amz_date(now),
            },
            credentials=self._credentials,
            content_sha256=digest,
            date=now,
        )
        with _s3_errors(self._endpoint, key):
            answer = self._http.request(
                method, url.geturl(), body=body, headers={n: str(v) for n, v in signed.items()}
            )
        if answer.status >= 300:
            _raise_error_in(answer, key)
            raise Unavailable(f"{self._endpoint} answered {answer.status} for {key}")
        return answer


def _http_pool() -> urllib3.PoolManager:
    """minio's own defaults wait five minutes and retry five times."""
    return urllib3.PoolManager(
        maxsize=S3_THREADS,
        block=True,
        timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
        retries=urllib3.Retry(
            total=RETRIES,
            backoff_factor=BACKOFF_S,
            status_forcelist=(500, 502, 503, 504),
            allowed_methods=None,  # every call of ours may be repeated
            raise_on_status=False,
        ),
    )


def _meta_headers(metadata: Mapping[str, str]) -> dict[str, str]:
    headers = {f"{_META}{name}": value for name, value in metadata.items()}
    return {"Content-Type": "application/octet-stream", **headers}


def _part_list(tags: Sequence[str]) -> bytes:
    root = ET.Element("CompleteMultipartUpload")
    for number, tag in enumerate(tags, 1):
        part = ET.SubElement(root, "Part")
        ET.SubElement(part, "PartNumber").text = str(number)
        ET.SubElement(part, "ETag").text = f'"{tag}"'
    return ET.tostring(root)


def _text_of(answer: urllib3.BaseHTTPResponse, name: str) -> str:
    """The text of an element of an XML answer, whatever its namespace; empty when absent."""
    try:
        root = ET.fromstring(answer.data[:ANSWER_MAX])
    except ET.ParseError:
        return ""
    return next((e.text or "" for e in root.iter() if e.tag.rpartition("}")[2] == name), "")


def _records(answer: urllib3.BaseHTTPResponse, name: str) -> list[dict[str, str]]:
    """Each element of that name as its children's texts. Raises Unavailable."""
    try:
        root = ET.fromstring(answer.data[:ANSWER_MAX])
    except ET.ParseError as error:
        raise Unavailable("the object server sent a list that is no XML") from error
    return [
        {child.tag.rpartition("}")[2]: child.text or "" for child in element}
        for element in root.iter()
        if element.tag.rpartition("}")[2] == name
    ]


def _instant(text: str) -> UtcMicros:
    """`2026-11-29T10:00:00.000Z` as S3 writes it. Raises Unavailable."""
    try:
        moment = minio_time.from_iso8601utc(text)
    except ValueError:
        moment = None
    if moment is None:
        raise Unavailable(f"the object server sent {text[:40]!r} for a time")
    return UtcMicros(round(moment.timestamp() * 1_000_000))


def _raise_error_in(answer: urllib3.BaseHTTPResponse, key: str) -> None:
    """Raise what an `<Error>` answer says; nothing for any other."""
    code = _text_of(answer, "Code")
    if code:
        raise _kind_of(code, _text_of(answer, "Message"), key)


def _kind_of(code: str, message: str, key: str) -> VspError:
    if code in _ABSENT:
        return NotFound(f"there is no object {key}", cause=code)
    if code in _WRONG:
        return Invalid(f"the object server refuses {key}: {code}", cause=message)
    if code == "InvalidRange":
        return DataLoss(f"{key} is shorter than expected")
    if code in _REFUSED:
        return Unavailable(
            f"the object server refuses us: {code}",
            cause="the keys in store.s3_credentials are wrong or may not do this",
            next_step="check them and the rights of that identity on the bucket",
        )
    return Unavailable(f"the object server answered {code} for {key}", cause=message)


@contextmanager
def _s3_errors(endpoint: str, key: str) -> Iterator[None]:
    """Turn what the clients raise into our kinds."""
    try:
        yield
    except S3Error as error:
        raise _kind_of(error.code or "", error.message or "", key) from error
    except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
        raise Unavailable(
            f"the object server {endpoint} does not answer: {error}",
            cause="it is down, unreachable, or its certificate is not trusted",
            next_step="check store.s3_endpoint and store.s3_secure; recording goes to the spool",
        ) from error


def read_credentials(path: Path) -> tuple[str, str]:
    """Access key and secret key, one a line. Raises Denied when others may read the file."""
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise Denied(f"{path} can be read by others", next_step=f"run `chmod 600 {path}`")
        lines = path.read_text("ascii").split()
    except (OSError, UnicodeError) as error:
        raise Invalid(f"store.s3_credentials: {path} cannot be read: {error}") from error
    if len(lines) != 2:
        raise Invalid(f"store.s3_credentials: {path} must hold two lines, access and secret key")
    return lines[0], lines[1]


__all__ = ["S3Objects", "read_credentials"]
