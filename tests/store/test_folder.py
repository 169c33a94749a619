import errno
import json
import os
import stat
import threading
from pathlib import Path

import pytest

from vsp.errors import DataLoss, Exhausted, Invalid, NotFound, Unavailable
from vsp.store.folder import UPLOADS, Folder

KEY = "v1/c/2023/11/14/x.mp4"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "data" / "segments")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / "segments"


def test_an_object_is_a_plain_file_under_its_key_for_us_alone(folder: Folder, root: Path):
    folder.put(KEY, b"data", {"codec": "h264"})

    assert (root / KEY).read_bytes() == b"data"
    assert stat.S_IMODE((root / KEY).stat().st_mode) == 0o600
    assert stat.S_IMODE((root / KEY).parent.stat().st_mode) == 0o700
    assert json.loads((root / KEY).with_name(".x.mp4.meta").read_text())["metadata"] == {
        "codec": "h264"
    }
    assert os.listdir(root / UPLOADS) == []


def test_the_stores_own_files_are_no_objects(folder: Folder):
    folder.begin(KEY, {})
    folder.put("a", b"x", {"k": "v"})

    assert folder.entries("") == [("a", 1)]


def test_a_file_put_there_by_hand_is_an_object_without_metadata(folder: Folder, root: Path):
    root.mkdir(parents=True)
    (root / "hand").write_bytes(b"made")

    assert folder.stat("hand").metadata == {}
    assert folder.read("hand", 0, 4) == b"made"


def test_links_and_other_oddities_are_not_listed(folder: Folder, root: Path, tmp_path: Path):
    folder.put("real", b"x", {})
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "linked-folder").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")

    assert folder.entries("") == [("real", 1)]
    with pytest.raises(NotFound):
        folder.stat("pipe")


def test_metadata_that_does_not_read_is_data_loss(folder: Folder, root: Path):
    folder.put("a", b"x", {})
    (root / ".a.meta").write_text("{")

    with pytest.raises(DataLoss):
        folder.stat("a")


def test_deleting_the_last_object_takes_its_empty_folders_along(folder: Folder, root: Path):
    folder.put("v1/a/b/1", b"x", {})
    folder.put("v1/c/1", b"x", {})

    folder.delete("v1/a/b/1")

    assert not (root / "v1/a").exists()
    assert (root / "v1/c/1").exists()
    folder.delete("v1/c/1")
    assert root.exists()


def test_a_folder_pruned_while_an_object_enters_is_made_again(
    folder: Folder, root: Path, monkeypatch: pytest.MonkeyPatch
):
    real = os.replace
    pruned = False

    def replace(source: Path, target: Path) -> None:
        nonlocal pruned
        if not pruned:
            pruned = True
            folder._prune(target.parent)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)

    folder.put("v1/a/1", b"x", {})

    assert pruned
    assert folder.read("v1/a/1", 0, 1) == b"x"


def test_a_key_that_runs_through_an_object_is_refused_without_harm(folder: Folder, root: Path):
    folder.put("a", b"x", {})

    with pytest.raises((NotFound, Unavailable)):
        folder.put("a/b", b"y", {})

    assert folder.read("a", 0, 1) == b"x"
    assert os.listdir(root / UPLOADS) == []


def test_an_upload_of_another_key_is_not_touched(folder: Folder):
    upload_id = folder.begin("mine", {})

    for call in (
        lambda: folder.put_part("other", upload_id, 1, b"x"),
        lambda: folder.complete("other", upload_id, ["t"]),
        lambda: folder.abort("other", upload_id),
    ):
        with pytest.raises(Invalid):
            call()
    assert folder.put_part("mine", upload_id, 1, b"x")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, Exhausted),
        (errno.EDQUOT, Exhausted),
        (errno.EIO, DataLoss),
        (errno.EACCES, Unavailable),
        (errno.EROFS, Unavailable),
        (errno.EMFILE, Unavailable),
    ],
)
def test_what_the_disk_says_becomes_one_of_our_kinds(
    folder: Folder, root: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type
):
    folder.put("before", b"x", {})

    def failing(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fdatasync", failing)
    with pytest.raises(kind):
        folder.put(KEY, b"data", {})
    monkeypatch.undo()

    assert folder.read("before", 0, 1) == b"x"
    with pytest.raises(NotFound):
        folder.stat(KEY)
    folder.put(KEY, b"data", {})


def test_threads_that_send_parts_of_one_upload_do_not_mix(folder: Folder):
    upload_id = folder.begin(KEY, {})
    tags: dict[int, str] = {}

    def send(number: int) -> None:
        tags[number] = folder.put_part(KEY, upload_id, number, bytes([number]) * 100_000)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    folder.complete(KEY, upload_id, [tags[number] for number in range(1, 9)])

    for number in range(1, 9):
        assert folder.read(KEY, (number - 1) * 100_000, 100_000) == bytes([number]) * 100_000
