import asyncio
import os
from collections.abc import AsyncIterator, Callable

import pytest

from vsp.errors import DataLoss, Invalid, NotFound, VspError
from vsp.ports import ObjectInfo
from vsp.store import Objects

PART_BYTES = 5 << 20
"""S3's minimum of every part but the last."""

KEY = "v1/c1/2023/11/14/1700000000000000-1700000000000000-0.mp4"
META = {"codec": "h264", "start-us": "1700000000000000"}


@pytest.fixture
async def prefix(objects: Objects, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A prefix of this test's own: the S3 bucket outlives it."""
    made = f"t{abs(hash(request.node.name))}/"
    yield made
    async for info in objects.list(made):
        await objects.delete(info.key)


async def keys(objects: Objects, prefix: str) -> list[str]:
    return [info.key async for info in objects.list(prefix)]


async def upload(objects: Objects, key: str, *parts: bytes) -> ObjectInfo:
    upload_id = await objects.begin(key, META)
    tags = [await objects.put_part(key, upload_id, n, part) for n, part in enumerate(parts, 1)]
    return await objects.complete(key, upload_id, tags)


async def test_an_object_put_whole_is_read_back_with_its_metadata(objects: Objects, prefix: str):
    data = os.urandom(100_000)

    put = await objects.put(prefix + KEY, data, META)

    assert put == ObjectInfo(prefix + KEY, 100_000, META)
    assert await objects.stat(prefix + KEY) == put
    assert await objects.read(prefix + KEY, 0, 100_000) == data
    assert await objects.read(prefix + KEY, 99_990, 10) == data[-10:]
    assert await objects.read(prefix + KEY, 1_000, 5_000) == data[1_000:6_000]
    assert await objects.read(prefix + KEY, 5, 0) == b""


async def test_putting_again_replaces(objects: Objects, prefix: str):
    await objects.put(prefix + "manifest.json", b"old and longer", {"v": "1"})
    await objects.put(prefix + "manifest.json", b"new", {})

    found = await objects.stat(prefix + "manifest.json")

    assert (found.size_bytes, dict(found.metadata)) == (3, {})
    assert await objects.read(prefix + "manifest.json", 0, 3) == b"new"


async def test_an_empty_object_is_an_object(objects: Objects, prefix: str):
    await objects.put(prefix + "empty", b"", {})

    assert (await objects.stat(prefix + "empty")).size_bytes == 0
    assert await objects.read(prefix + "empty", 0, 0) == b""


async def test_an_object_grows_by_parts_and_is_seen_only_whole(objects: Objects, prefix: str):
    key = prefix + KEY
    first, second, last = os.urandom(PART_BYTES), os.urandom(PART_BYTES), os.urandom(1_234)

    upload_id = await objects.begin(key, META)
    tags = [await objects.put_part(key, upload_id, 1, first)]
    tags.append(await objects.put_part(key, upload_id, 2, second))
    with pytest.raises(NotFound):
        await objects.stat(key)
    assert await keys(objects, prefix) == []
    tags.append(await objects.put_part(key, upload_id, 3, last))
    whole = await objects.complete(key, upload_id, tags)

    assert whole == ObjectInfo(key, 2 * PART_BYTES + 1_234, META)
    assert await objects.stat(key) == whole
    assert await objects.read(key, PART_BYTES - 2, 4) == first[-2:] + second[:2]
    assert await objects.read(key, 2 * PART_BYTES, 1_234) == last
    assert await keys(objects, prefix) == [key]


async def test_parts_may_come_in_any_order_at_once_and_again(objects: Objects, prefix: str):
    key = prefix + KEY
    parts = [os.urandom(PART_BYTES) for _ in range(3)] + [b"end"]
    upload_id = await objects.begin(key, {})

    async def send(number: int) -> str:
        return await objects.put_part(key, upload_id, number, parts[number - 1])

    third = await send(3)
    one, four, two = await asyncio.gather(send(1), send(4), send(2))
    assert await send(2) == two, "the same bytes have the same tag"
    await objects.complete(key, upload_id, [one, two, third, four])

    whole = b"".join(parts)
    assert await objects.read(key, 0, len(whole)) == whole


async def test_a_part_sent_again_with_other_bytes_replaces_the_first(objects: Objects, prefix: str):
    key = prefix + KEY
    upload_id = await objects.begin(key, {})
    wrong = await objects.put_part(key, upload_id, 1, b"x" * PART_BYTES)
    last = await objects.put_part(key, upload_id, 2, b"end")
    right = await objects.put_part(key, upload_id, 1, b"y" * (PART_BYTES + 1))

    await objects.complete(key, upload_id, [right, last])

    assert wrong != right
    assert await objects.read(key, 0, 2) == b"yy"
    assert await objects.read(key, PART_BYTES, 4) == b"yend"


async def test_completing_twice_returns_the_object(objects: Objects, prefix: str):
    key = prefix + KEY
    upload_id = await objects.begin(key, META)
    tags = [await objects.put_part(key, upload_id, 1, b"all")]

    first = await objects.complete(key, upload_id, tags)
    second = await objects.complete(key, upload_id, tags)

    assert first == second
    assert await objects.read(key, 0, 3) == b"all"


async def test_another_process_can_finish_what_one_began(
    objects: Objects, open_again: Callable[[], Objects], prefix: str
):
    key = prefix + KEY
    upload_id = await objects.begin(key, META)
    first = await objects.put_part(key, upload_id, 1, b"a" * PART_BYTES)

    other = open_again()
    second = await other.put_part(key, upload_id, 2, b"b")
    whole = await other.complete(key, upload_id, [first, second])
    await other.close()

    assert whole == await objects.stat(key)
    assert await objects.complete(key, upload_id, [first, second]) == whole


async def test_who_knows_nothing_of_an_upload_can_find_and_finish_it(objects: Objects, prefix: str):
    key = prefix + KEY
    first, last = os.urandom(PART_BYTES), b"the end"
    upload_id = await objects.begin(key, META)
    second_tag = await objects.put_part(key, upload_id, 2, last)
    first_tag = await objects.put_part(key, upload_id, 1, first)

    [found] = [upload async for upload in objects.uploads(prefix)]
    parts = await objects.parts(found.key, found.upload_id)
    whole = await objects.complete(found.key, found.upload_id, [part.tag for part in parts])

    assert (found.key, found.upload_id) == (key, upload_id)
    assert found.begun_us > 1_600_000_000_000_000
    assert [(p.number, p.size_bytes, p.tag) for p in parts] == [
        (1, PART_BYTES, first_tag),
        (2, len(last), second_tag),
    ]
    assert whole == ObjectInfo(key, PART_BYTES + len(last), META)
    assert await objects.read(key, PART_BYTES, len(last)) == last


async def test_uploads_are_listed_by_prefix_until_they_end(objects: Objects, prefix: str):
    done = await objects.begin(prefix + "a/done", {})
    tag = await objects.put_part(prefix + "a/done", done, 1, b"x")
    dropped = await objects.begin(prefix + "a/dropped", {})
    empty = await objects.begin(prefix + "b/empty", {})

    async def listed(beginning: str) -> set[str]:
        return {upload.upload_id async for upload in objects.uploads(prefix + beginning)}

    assert await listed("") == {done, dropped, empty}
    assert await listed("a/") == {done, dropped}
    assert await objects.parts(prefix + "b/empty", empty) == []
    await objects.complete(prefix + "a/done", done, [tag])
    await objects.abort(prefix + "a/dropped", dropped)
    assert await listed("") == {empty}
    for key, upload_id in (("a/done", done), ("a/dropped", dropped)):
        with pytest.raises(NotFound):
            await objects.parts(prefix + key, upload_id)
    await objects.abort(prefix + "b/empty", empty)


async def test_an_aborted_upload_is_gone_and_aborting_twice_is_nothing(
    objects: Objects, prefix: str
):
    key = prefix + KEY
    upload_id = await objects.begin(key, {})
    tag = await objects.put_part(key, upload_id, 1, b"x")

    await objects.abort(key, upload_id)
    await objects.abort(key, upload_id)

    with pytest.raises(NotFound):
        await objects.put_part(key, upload_id, 2, b"x")
    with pytest.raises(NotFound):
        await objects.complete(key, upload_id, [tag])
    assert await keys(objects, prefix) == []


async def test_completing_with_parts_that_are_not_there_is_refused_and_harmless(
    objects: Objects, prefix: str
):
    key = prefix + KEY
    upload_id = await objects.begin(key, {})
    tag = await objects.put_part(key, upload_id, 1, b"x")

    for tags in ([], ["0" * 32], [tag, tag]):
        with pytest.raises(VspError) as caught:
            await objects.complete(key, upload_id, tags)
        assert caught.value.kind in {"invalid", "not_found"}
    with pytest.raises(NotFound):
        await objects.stat(key)


async def test_what_is_not_there_is_not_found(objects: Objects, prefix: str):
    await objects.put(prefix + "a/b", b"x", {})

    for key in (prefix + "none", prefix + "a", prefix + "a/b/c"):
        with pytest.raises(NotFound):
            await objects.stat(key)
        with pytest.raises(NotFound):
            await objects.read(key, 0, 1)


async def test_a_read_beyond_the_end_is_data_loss(objects: Objects, prefix: str):
    await objects.put(prefix + "ten", b"0123456789", {})

    for offset, length in ((5, 6), (10, 1), (99, 1)):
        with pytest.raises(DataLoss):
            await objects.read(prefix + "ten", offset, length)


async def test_lists_are_by_prefix_and_in_order_within_a_folder(objects: Objects, prefix: str):
    names = ["a/1", "a/2/x", "a-b", "a.b", "ab", "b/1", "b/10", "b/2", "c"]
    for name in reversed(names):
        await objects.put(prefix + name, name.encode(), {"k": "v"})

    async def under(wanted: str) -> list[str]:
        found = await keys(objects, prefix + wanted)
        short = [key.removeprefix(prefix) for key in found]
        # S3 sorts whole keys, SeaweedFS folder by folder: only the order within one is promised.
        for folder in {key.rpartition("/")[0] for key in short}:
            inside = [key for key in short if key.rpartition("/")[0] == folder]
            assert inside == sorted(inside)
        return sorted(short)

    assert await under("") == sorted(names)
    assert await under("a") == ["a-b", "a.b", "a/1", "a/2/x", "ab"]
    assert await under("a/") == ["a/1", "a/2/x"]
    assert await under("a/2") == ["a/2/x"]
    assert await under("b/1") == ["b/1", "b/10"]
    assert await under("none/such") == []
    [sized] = [info async for info in objects.list(prefix + "a/2/x")]
    assert sized == ObjectInfo(prefix + "a/2/x", 5, {})


async def test_a_list_goes_on_behind_any_text(objects: Objects, prefix: str):
    names = ["a/08/1", "a/08/2", "a/09/1", "a/10/1", "b/01/1", "b/01/2"]
    for name in names:
        await objects.put(prefix + name, b"x", {})

    async def behind(after: str, under: str = "") -> list[str]:
        found = [info.key async for info in objects.list(prefix + under, prefix + after)]
        return [key.removeprefix(prefix) for key in found]

    assert await behind("") == names
    assert await behind("a/08/1") == names[1:], "the key itself is behind us"
    assert await behind("a/08/1-was-here") == names[1:]
    assert await behind("a/08/9") == names[2:]
    assert await behind("a/1") == names[3:]
    assert await behind("a/10/1", "a/") == []
    assert await behind("a/09/1", "a/") == ["a/10/1"]
    assert await behind("a/09/1", "b/") == names[4:]
    assert await behind("b/01/2") == []


async def test_a_deleted_object_is_gone_and_deleting_twice_is_nothing(
    objects: Objects, prefix: str
):
    await objects.put(prefix + "a/1", b"x", META)
    await objects.put(prefix + "a/2", b"x", {})

    await objects.delete(prefix + "a/1")
    await objects.delete(prefix + "a/1")
    await objects.delete(prefix + "a")

    assert await keys(objects, prefix) == [prefix + "a/2"]
    await objects.delete(prefix + "a/2")
    await objects.put(prefix + "a/3", b"y", {})
    assert await keys(objects, prefix) == [prefix + "a/3"]


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "a//b",
        "a/",
        "../x",
        "a/../../x",
        "a/./b",
        ".uploads/x",
        "a/.hidden",
        "a\\b",
        "a b",
        "a\x00b",
        "a\nb",
        "é",
        "x" * 600,
        "x" * 201,
        "a/%2e%2e/b",
        "a?b",
        "a\n",
    ],
)
async def test_a_key_that_is_not_ours_is_invalid_everywhere(objects: Objects, key: str):
    for call in (
        objects.begin(key, {}),
        objects.put_part(key, "u", 1, b"x"),
        objects.complete(key, "u", ["t"]),
        objects.abort(key, "u"),
        objects.put(key, b"", {}),
        objects.stat(key),
        objects.read(key, 0, 1),
        objects.delete(key),
    ):
        with pytest.raises(Invalid):
            await call


async def test_other_arguments_are_checked_the_same_in_every_store(objects: Objects):
    key = "t/x"
    wrong = [
        objects.begin(key, {"A": "upper"}),
        objects.begin(key, {"a": "line\nbreak"}),
        objects.begin(key, {"a": "é"}),
        objects.begin(key, {"a": " blank"}),
        objects.begin(key, {f"n{n}": "" for n in range(17)}),
        objects.begin(key, {"a": "x" * 300}),
        objects.put_part(key, "../u", 1, b"x"),
        objects.put_part(key, "u", 0, b"x"),
        objects.put_part(key, "u", 10_001, b"x"),
        objects.put_part(key, "u", 1, b""),
        objects.read(key, -1, 1),
        objects.read(key, 0, -1),
        objects.read(key, 0, 1 << 40),
    ]
    for call in wrong:
        with pytest.raises(Invalid):
            await call
    for prefix in ("../", "a/../", ".", "/", "a//", "a/.b", "a b", "é", "x" * 600):
        with pytest.raises(Invalid):
            await keys(objects, prefix)


async def test_an_upload_is_of_its_key_only(objects: Objects, prefix: str):
    upload_id = await objects.begin(prefix + "mine", {})

    with pytest.raises((Invalid, NotFound)):
        await objects.put_part(prefix + "other", upload_id, 1, b"x")

    await objects.abort(prefix + "mine", upload_id)


async def test_many_calls_at_once_are_all_served(objects: Objects, prefix: str):
    await asyncio.gather(*(objects.put(f"{prefix}{n:03d}", b"x" * n, {}) for n in range(40)))

    sizes = [info.size_bytes async for info in objects.list(prefix)]

    assert sizes == list(range(40))
