"""What a folder's upload withstands: kills between any two steps, and a machine that went dark."""

import os
from pathlib import Path

import pytest

from vsp import disk as module
from vsp.disk import SystemDisk
from vsp.errors import Conflict, DataLoss, Invalid, NotFound
from vsp.store.folder import UPLOADS, Folder
from vsp.store.upload import Upload

KEY = "v1/c/x.mp4"


@pytest.fixture
def upload(tmp_path: Path) -> Upload:
    return Upload.begin(SystemDisk(), tmp_path / "u1", KEY, {"codec": "h264"})


def test_parts_in_order_lie_in_one_file_that_becomes_the_object(upload: Upload, tmp_path: Path):
    tags = [upload.put(n, bytes([n]) * 10) for n in (1, 2, 3)]
    inode = (tmp_path / "u1" / "body").stat().st_ino

    ready = upload.assemble(tags)

    assert ready.read_bytes() == b"\x01" * 10 + b"\x02" * 10 + b"\x03" * 10
    assert ready.stat().st_ino == inode, "no byte was written twice"


def test_the_same_part_again_writes_nothing(upload: Upload, tmp_path: Path):
    tag = upload.put(1, b"abc")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "u1").iterdir()}

    assert upload.put(1, b"abc") == tag
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "u1").iterdir()} == before


def test_fewer_parts_than_arrived_may_be_completed(upload: Upload):
    tags = [upload.put(n, b"x" * n) for n in (1, 2, 3)]

    assert upload.assemble(tags[:2]).read_bytes() == b"xxx"


def test_a_replaced_part_is_taken_and_its_first_tag_is_not(upload: Upload):
    first = upload.put(1, b"first")
    second = upload.put(2, b"end")
    replaced = upload.put(1, b"replaced")

    with pytest.raises(Invalid, match="part 1"):
        upload.assemble([first, second])
    assert upload.assemble([replaced, second]).read_bytes() == b"replacedend"


def test_bytes_of_a_killed_writer_are_overwritten(upload: Upload, tmp_path: Path):
    first = upload.put(1, b"abc")
    with (tmp_path / "u1" / "body").open("ab") as body:
        body.write(b"half a part nobody journalled")
    with (tmp_path / "u1" / "journal").open("ab") as journal:
        journal.write(b"2 5 deadbe")

    second = upload.put(2, b"de")

    assert upload.assemble([first, second]).read_bytes() == b"abcde"


def test_a_journal_that_promises_more_than_the_body_holds_is_data_loss(
    upload: Upload, tmp_path: Path
):
    tag = upload.put(1, b"abcdef")
    os.truncate(tmp_path / "u1" / "body", 3)

    with pytest.raises(DataLoss):
        upload.assemble([tag])


def test_after_a_boot_every_part_is_read_again(
    upload: Upload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tags = [upload.put(1, b"abc"), upload.put(2, b"def")]
    (tmp_path / "u1" / "body").write_bytes(b"abc\x00\x00\x00")  # the size came to disk, not more
    (tmp_path / "boot").write_text("another boot")
    monkeypatch.setattr(module, "BOOT_ID", tmp_path / "boot")

    with pytest.raises(DataLoss, match="part 2"):
        upload.assemble(tags)

    again = upload.put(2, b"DEF")
    assert upload.assemble([tags[0], again]).read_bytes() == b"abcDEF"


def test_after_a_boot_whole_parts_complete(
    upload: Upload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tags = [upload.put(1, b"abc"), upload.put(2, b"def")]
    monkeypatch.setattr(module, "BOOT_ID", tmp_path / "absent")

    assert upload.assemble(tags).read_bytes() == b"abcdef"


def test_a_stray_part_that_vanished_is_data_loss(upload: Upload, tmp_path: Path):
    tags = {2: upload.put(2, b"two"), 1: upload.put(1, b"one")}
    (tmp_path / "u1" / "part-00002").unlink()

    with pytest.raises(DataLoss):
        upload.assemble([tags[1], tags[2]])


def test_no_part_joins_an_upload_that_is_being_completed(upload: Upload):
    tag = upload.put(1, b"abc")
    upload.assemble([tag])

    with pytest.raises(Conflict):
        upload.put(2, b"d")
    assert upload.assemble(["whatever"]).read_bytes() == b"abc", "it goes on where it was killed"


def test_an_upload_without_head_never_was(tmp_path: Path):
    (tmp_path / "u2").mkdir()
    with pytest.raises(NotFound):
        Upload(SystemDisk(), tmp_path / "u2")

    (tmp_path / "u2" / "head.json").write_text("{")
    with pytest.raises(DataLoss):
        Upload(SystemDisk(), tmp_path / "u2")


class Killed(BaseException):
    """The process died here."""


@pytest.mark.parametrize("function", ["replace", "fsync", "fdatasync", "ftruncate", "mkdir"])
def test_a_kill_at_any_step_of_completing_leaves_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
):
    """Each call of `function` in turn is the last one, before and after it has happened."""
    steps = 0
    for last in range(1, 16):
        for happened in (False, True):
            root = tmp_path / f"{last}-{happened}"
            folder = Folder(root)
            upload_id = folder.begin(KEY, {"codec": "h264"})
            tags = [
                folder.put_part(KEY, upload_id, 1, b"abc"),
                folder.put_part(KEY, upload_id, 2, b"d"),
            ]

            killed = _complete_until(folder, upload_id, tags, monkeypatch, function, last, happened)

            revived = Folder(root)
            published = (root / KEY).exists()
            if published:
                assert revived.read(KEY, 0, 4) == b"abcd"
                assert revived.stat(KEY).metadata == {"codec": "h264"}
            whole = revived.complete(KEY, upload_id, tags)
            assert whole.size_bytes == 4
            assert whole.metadata == {"codec": "h264"}
            assert revived.read(KEY, 0, 4) == b"abcd"
            assert os.listdir(root / UPLOADS) == []
            steps += killed
    assert steps > 0


def _complete_until(folder, upload_id, tags, monkeypatch, function, last, happened) -> bool:
    real = getattr(os, function)
    calls = 0

    def dying(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == last and not happened:
            raise Killed
        result = real(*args, **kwargs)
        if calls == last:
            raise Killed
        return result

    with monkeypatch.context() as patch:
        patch.setattr(os, function, dying)
        try:
            folder.complete(KEY, upload_id, tags)
        except Killed:
            return True
    return False
