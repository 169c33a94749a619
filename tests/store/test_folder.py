import errno
import hashlib
import json
import os
import stat
import threading
from pathlib import Path

import pytest

from simulators.world.disk import ForgetfulDisk
from tests.contract.manual import CountingIds, ManualClock
from tests.deaths import Died, dying_at, laid
from vsp.disk import exists, remove_tree
from vsp.errors import DataLoss, Exhausted, Invalid, NotFound, Unavailable
from vsp.faults import Point
from vsp.store.folder import STILLBORN_US, UPLOADS, Folder
from vsp.store.upload import Upload

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


# ---- lives on a disk that forgets -----------------------------------------------------------

ROOT = Path("/objects")
PARTS = [b"first" * 100, b"second" * 100, b"third" * 100]
WHOLE = b"".join(PARTS)


class Computer:
    """A disk that forgets, and a folder on it as each process opens it for itself."""

    def __init__(self, seed: int) -> None:
        self.clock = ManualClock()
        self.disk = ForgetfulDisk(self.clock, seed)
        self._ids = CountingIds()

    def open(self) -> Folder:
        return Folder(ROOT, self.disk, self._ids.token)


@pytest.fixture(params=range(6))
def computer(request: pytest.FixtureRequest) -> Computer:
    return Computer(request.param)


def send(folder: Folder, upload_id: str, parts: list[bytes] = PARTS) -> list[str]:
    return [folder.put_part(KEY, upload_id, n, part) for n, part in enumerate(parts, 1)]


@pytest.mark.parametrize("cut", [False, True], ids=["killed", "power cut"])
@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("point", [Point.FOLDER_PART_LAID, Point.FOLDER_PART_NOTED])
def test_parts_are_listed_after_a_death_as_far_as_they_are_whole(
    computer: Computer, point: Point, nth: int, cut: bool
):
    first = computer.open()
    upload_id = first.begin(KEY, {})
    with dying_at(point, nth), pytest.raises(Died):
        send(first, upload_id)
    if cut:
        computer.disk.cut_power()

    again = computer.open()
    try:
        listed = again.parts(KEY, upload_id)
    except NotFound:
        assert cut, "nothing of an upload is promised to survive that"
        return
    if not cut:
        assert len(listed) == nth - (point is Point.FOLDER_PART_LAID)
    for part, data in zip(listed, PARTS, strict=False):
        assert (part.size_bytes, part.tag) == (len(data), hashlib.sha256(data).hexdigest())
    again.complete(KEY, upload_id, send(again, upload_id))
    assert again.read(KEY, 0, len(WHOLE)) == WHOLE


@pytest.mark.parametrize("cut", [False, True], ids=["killed", "power cut"])
@pytest.mark.parametrize(
    "point",
    [
        Point.FOLDER_ASSEMBLED,
        Point.FOLDER_SIDECAR,
        Point.FOLDER_NAMED,
        Point.FOLDER_PUBLISHED,
    ],
)
def test_a_death_while_completing_leaves_the_object_or_an_upload_to_complete(
    computer: Computer, point: Point, cut: bool
):
    first = computer.open()
    upload_id = first.begin(KEY, {"codec": "h264"})
    tags = send(first, upload_id)
    with dying_at(point), pytest.raises(Died):
        first.complete(KEY, upload_id, tags)
    if cut:
        computer.disk.cut_power()

    again = computer.open()
    try:
        done = again.complete(KEY, upload_id, tags)
    except (NotFound, DataLoss):
        assert cut, "a kill takes nothing away"
        upload_id = again.begin(KEY, {"codec": "h264"})
        done = again.complete(KEY, upload_id, send(again, upload_id))
    assert done.size_bytes == len(WHOLE)
    computer.disk.cut_power()
    last = computer.open()
    assert last.read(KEY, 0, len(WHOLE)) == WHOLE
    assert last.stat(KEY).metadata in ({"codec": "h264"}, {})


def test_what_is_seen_of_an_object_survives_a_power_cut(computer: Computer):
    first = computer.open()
    upload_id = first.begin(KEY, {})
    tags = send(first, upload_id)
    with dying_at(Point.FOLDER_NAMED), pytest.raises(Died):
        first.complete(KEY, upload_id, tags)

    seen = computer.open().stat(KEY)
    computer.disk.cut_power()

    assert computer.open().stat(KEY) == seen


def test_an_object_whose_name_could_not_be_synced_is_not_taken_for_complete(computer: Computer):
    folder = computer.open()
    upload_id = folder.begin(KEY, {})
    tags = send(folder, upload_id)

    def fail(point: Point) -> None:
        computer.disk.syncs_fail = point is Point.FOLDER_NAMED

    with laid(fail), pytest.raises(DataLoss):
        folder.complete(KEY, upload_id, tags)
    computer.disk.syncs_fail = False
    folder.complete(KEY, upload_id, tags)
    computer.disk.cut_power()

    assert computer.open().read(KEY, 0, len(WHOLE)) == WHOLE


def test_a_root_whose_name_could_not_be_synced_is_named_again(computer: Computer):
    folder = computer.open()
    computer.disk.syncs_fail = True
    with pytest.raises(DataLoss):
        folder.begin(KEY, {})
    computer.disk.syncs_fail = False
    folder.put(KEY, WHOLE, {})
    computer.disk.cut_power()

    assert computer.open().read(KEY, 0, len(WHOLE)) == WHOLE


def test_an_upload_that_could_not_be_brought_to_disk_is_no_more(computer: Computer):
    folder = computer.open()
    upload_id = folder.begin(KEY, {})
    tags = send(folder, upload_id)
    computer.disk.syncs_fail = True
    with pytest.raises(DataLoss):
        folder.complete(KEY, upload_id, tags)

    computer.disk.syncs_fail = False
    with pytest.raises(NotFound):
        folder.complete(KEY, upload_id, tags)
    assert folder.uploads() == []


def test_an_upload_without_head_is_swept_up_once_another_is_an_hour_younger(computer: Computer):
    """Its maker died between folder and head; a young one may still be at it."""
    folder = computer.open()
    with dying_at(Point.FOLDER_UPLOAD_MADE), pytest.raises(Died):
        folder.begin(KEY, {})
    [stillborn] = computer.disk.entries(ROOT / UPLOADS)

    assert folder.uploads() == [], "no clock but that of other uploads is asked"
    assert exists(computer.disk, ROOT / UPLOADS / stillborn.name)
    computer.clock.advance(STILLBORN_US / 1e6)
    live = folder.begin(KEY, {})
    assert [upload.upload_id for upload in folder.uploads()] == [live]
    assert exists(computer.disk, ROOT / UPLOADS / stillborn.name)
    computer.clock.advance(1.0)
    later = folder.begin(KEY, {})

    assert {upload.upload_id for upload in folder.uploads()} == {live, later}
    assert not exists(computer.disk, ROOT / UPLOADS / stillborn.name)


def test_an_upload_that_ends_while_uploads_are_listed_is_left_out(
    computer: Computer, monkeypatch: pytest.MonkeyPatch
):
    folder = computer.open()
    ending, other = folder.begin(KEY, {}), folder.begin(KEY, {})
    real = Upload.begun_us.fget

    def begun_us(upload: Upload) -> int:
        if upload.id == ending:
            upload.discard()
        return real(upload)

    monkeypatch.setattr(Upload, "begun_us", property(begun_us))

    assert [upload.upload_id for upload in folder.uploads()] == [other]


def test_a_folder_taken_away_by_hand_is_made_again(computer: Computer):
    folder = computer.open()
    folder.put(KEY, b"before", {})
    remove_tree(computer.disk, ROOT)

    with pytest.raises(NotFound):
        folder.begin(KEY, {})
    folder.put(KEY, b"after", {})

    assert folder.read(KEY, 0, 5) == b"after"
