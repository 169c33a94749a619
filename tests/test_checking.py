"""`vsp check` as a person types it, over SQLite and a folder: words, exit codes, what is kept."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.retention.rig import DATA, metadata, segment
from vsp import checking
from vsp.cli import main
from vsp.clock import SystemClock, SystemIds
from vsp.config import Config
from vsp.disk import SystemDisk
from vsp.link import socket_path
from vsp.media.journal import Journal
from vsp.model.recording import Segment
from vsp.ports import PageRequest
from vsp.retention.check import Check, Kind, Stage
from vsp.store import Objects, Store, open_objects, open_store

CLEAN, FINDINGS, USAGE, INTERRUPTED = 0, 1, 2, 130


@dataclass
class House:
    """A data folder of a platform that does not run."""

    data: Path
    capsys: pytest.CaptureFixture[str]

    def __post_init__(self) -> None:
        self.config = Config.model_validate({"node": {"data_dir": self.data}})

    def check(self, *words: str) -> int:
        return main(["check", *words, "--set", f"node.data_dir={self.data}"])

    def said(self) -> str:
        out, err = self.capsys.readouterr()
        return out + err

    def report(self, *words: str) -> dict[str, Any]:
        self.capsys.readouterr()
        self.check(*words, "--json")
        found: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        return found

    def inside(self, act: Callable[[Store, Objects], Awaitable[Any]]) -> Any:
        async def run() -> object:
            store = await open_store(self.config, SystemClock(), SystemIds())
            objects = open_objects(self.config)
            try:
                return await act(store, objects)
            finally:
                await objects.close()
                await store.close()

        return asyncio.run(run())

    def recorded(self, *rows: Segment) -> None:
        async def act(store: Store, objects: Objects) -> None:
            for row in rows:
                await objects.put(row.key, DATA, metadata(row))
            await store.segments.commit(rows)

        self.inside(act)

    def only_object(self, row: Segment, data: bytes = DATA) -> None:
        self.inside(lambda _, objects: objects.put(row.key, data, metadata(row)))

    def begun(self, row: Segment, *parts: bytes) -> None:
        async def act(_: Store, objects: Objects) -> None:
            upload_id = await objects.begin(row.key, metadata(row))
            for number, part in enumerate(parts, 1):
                await objects.put_part(row.key, upload_id, number, part)

        self.inside(act)

    def file(self, row: Segment) -> Path:
        return self.config.objects_dir / row.key

    def state(self, level: str = "presence") -> Path:
        return self.data / "check" / f"{level}.json"


@pytest.fixture
def house(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> House:
    made = House(tmp_path / "data", capsys)
    made.recorded(*(segment(n) for n in range(8)))
    return made


def test_a_folder_without_a_platform_is_refused_and_none_is_made(tmp_path: Path, capsys):
    elsewhere = House(tmp_path / "elsewhere", capsys)

    assert elsewhere.check() == USAGE

    assert "没有平台的数据" in elsewhere.said()
    assert not elsewhere.data.exists()


@pytest.mark.parametrize("level", ["presence", "size", "hash"])
def test_what_is_in_order_is_said_to_be_with_what_it_cost(house: House, level: str):
    assert house.check("--level", level) == CLEAN

    said = house.said()
    assert "未发现问题" in said
    assert "行 rows 8, 对象 objects 8" in said
    assert not house.state(level).exists()


def test_every_kind_is_found_counted_and_told(house: House):
    house.file(segment(0)).unlink()
    house.file(segment(1)).write_bytes(DATA[:-1])
    house.file(segment(2)).write_bytes(b"\1" + DATA[1:])
    house.only_object(segment(20))
    house.begun(segment(21), DATA)

    assert house.check("--level", "hash") == FINDINGS

    said = house.said()
    for n, kind in enumerate((Kind.LOST, Kind.SIZE, Kind.HASH)):
        assert f"{checking.KINDS[kind]}  {segment(n).key}  " in said
        assert f"  {checking.KINDS[kind]}: 1\n" in said
    assert f"{checking.KINDS[Kind.ORPHAN]}  {segment(20).key}" in said
    assert f"{checking.KINDS[Kind.ABANDONED]}  {segment(21).key}" in said
    assert "发现 5 处问题" in said


def test_lines_are_bounded_and_the_rest_is_counted(house: House, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checking, "PRINTED_MAX", 3)
    for n in range(5):
        house.file(segment(n)).unlink()

    assert house.check() == FINDINGS

    said = house.said()
    assert said.count("有行而无对象") == 3
    assert "另有 2 处未列出" in said


def test_a_program_reads_one_object(house: House):
    house.file(segment(3)).unlink()

    report = house.report("--level", "size")

    assert (report["ended"], report["clean"], report["level"]) == (True, False, "size")
    assert report["counts"] == {"lost": 1}
    [finding] = report["findings"]
    assert (finding["kind"], finding["key"]) == ("lost", segment(3).key)
    assert report["cost"]["rows"] == 8


def test_what_may_be_mended_is_mended_said_and_audited(house: House):
    house.file(segment(0)).unlink()
    house.only_object(segment(20))
    house.begun(segment(21), DATA)

    assert house.check("--mend") == FINDINGS
    said = house.said()
    assert house.check("--mend", "--level", "hash") == FINDINGS

    assert "已从对象补回行" in said
    assert "已完成上传" in said
    assert house.report()["counts"] == {"lost": 1}
    audit = house.inside(lambda store, _: store.audit.rows(PageRequest(100)))
    assert [(row.action, row.result) for row in audit.items if row.result] == [
        ("store_mend", "ok")
    ] * 3
    assert {row.actor for row in audit.items} == {"cli"}


# ---- interrupted -----------------------------------------------------------------------------


@contextmanager
def signalled(number: int, at_row: int) -> Iterator[None]:
    """The signal comes when that row is compared."""
    compare, seen = Check._compare, []

    async def and_signal(check: Check, *arguments: Any) -> None:
        seen.append(1)
        if len(seen) == at_row:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.01)
        await compare(check, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Check, "_compare", and_signal)
        yield


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_in_order_and_the_next_goes_on(house: House, number: int):
    house.file(segment(0)).unlink()
    house.file(segment(7)).unlink()

    with signalled(number, at_row=4):
        assert house.check() == INTERRUPTED
    said = house.said()
    assert "已中断" in said
    assert json.loads(house.state().read_text())["state"]["cost"]["rows"] == 4

    assert house.check() == FINDINGS
    said = house.said()
    where = f"{checking.STAGES[Stage.SEGMENTS]} {segment(3).key}"
    assert f"接着上次中断处 goes on from where it was interrupted: {where}" in said
    assert "发现 2 处问题" in said
    assert "行 rows 8, " in said
    assert not house.state().exists()


@pytest.mark.parametrize("words", [("--fresh",), ("--mend",)])
def test_anew_or_with_another_wish_it_begins_at_the_beginning(house: House, words: tuple[str, ...]):
    with signalled(signal.SIGINT, at_row=4):
        house.check()
    house.said()

    assert house.check(*words) == CLEAN
    assert "行 rows 8, 对象 objects 8" in house.said()


def test_the_state_of_another_version_is_not_gone_on_from(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    with signalled(signal.SIGINT, at_row=4):
        house.check()
    monkeypatch.setattr(checking, "__version__", "0.0.0")
    house.said()

    assert house.check() == CLEAN
    assert "行 rows 8, 对象 objects 8" in house.said()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": "1", "state": {"level": "presence"}}']
)
def test_a_state_that_cannot_be_read_is_said_and_begun_anew(house: House, text: str):
    with signalled(signal.SIGINT, at_row=4):
        house.check()
    house.state().write_text(text)
    house.said()

    assert house.check() == CLEAN
    said = house.said()
    assert "重新开始" in said
    assert "行 rows 8, 对象 objects 8" in said


def test_levels_are_interrupted_and_gone_on_with_each_for_itself(house: House):
    with signalled(signal.SIGINT, at_row=2):
        house.check("--level", "size")
    with signalled(signal.SIGINT, at_row=6):
        house.check("--level", "hash")

    assert house.report("--level", "size")["cost"]["rows"] == 8
    assert house.report("--level", "hash")["cost"]["bytes_read"] == 8 * len(DATA)


def test_the_state_is_written_while_it_goes_on(house: House, monkeypatch: pytest.MonkeyPatch):
    """What a kill leaves."""
    monkeypatch.setattr(checking, "SAVE_S", 0.0)
    written = []
    write = checking.Saved.write

    def and_look(saved: checking.Saved, state: Any) -> None:
        write(saved, state)
        written.append(json.loads(house.state().read_text())["state"]["cost"]["rows"])

    monkeypatch.setattr(checking.Saved, "write", and_look)

    assert house.check() == CLEAN
    assert sorted(set(written)) == list(range(1, 9))


def test_two_checks_at_a_time_are_refused(house: House):
    with checking._alone(house.data / "check"):
        assert house.check() == USAGE

    assert "另一个 vsp check 正在运行" in house.said()
    assert house.check() == CLEAN


# ---- who works on what -----------------------------------------------------------------------


def test_what_lies_in_a_journal_is_claimed_though_nothing_runs(house: House):
    """A worker died between its object and the commit of its row."""
    for index, n in enumerate((20, 30)):
        spool = house.data / "spool" / str(index)
        spool.mkdir(parents=True)
        journal = Journal(spool / "journal", SystemDisk())
        journal.append([segment(n)])
        journal.close()
        house.only_object(segment(n))
        house.begun(segment(n), DATA)

    assert house.check("--mend") == CLEAN


@contextmanager
def hung_worker(house: House, index: int) -> Iterator[None]:
    """One that holds its socket and answers nobody."""
    path = socket_path(house.data, index)
    path.parent.mkdir(parents=True, exist_ok=True)
    (house.data / "spool" / str(index)).mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen(16)
        yield


def test_while_a_worker_hangs_the_young_is_spared_and_that_is_said(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("vsp.link.CALL_TIMEOUT_S", 0.2)
    young = segment(start_us=SystemClock().now_us(), key=segment(99).key.replace(
        str(segment(99).start_us), str(SystemClock().now_us())
    ))  # fmt: skip
    house.only_object(young)
    house.begun(young, DATA)
    house.only_object(segment(20))

    with hung_worker(house, 0):
        report = house.report()
        assert house.check() == FINDINGS

    assert "媒体进程 0 在运行但不应答" in house.said()
    assert [finding["key"] for finding in report["findings"]] == [segment(20).key]


def test_a_socket_that_a_dead_worker_left_is_not_a_worker(house: House):
    with hung_worker(house, 0):
        pass
    house.only_object(segment(20))

    assert house.report()["counts"] == {"orphan": 1}
    assert "不应答" not in house.said()


# ---- progress --------------------------------------------------------------------------------


def test_progress_says_how_far_how_fast_and_how_long(house: House, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checking.Showing, "is_due", lambda _: True)

    house.check("--level", "hash")

    lines = house.capsys.readouterr().err.splitlines()
    assert any("4 / 8 行 rows" in line and "MB/s" in line and "约剩 left" in line for line in lines)
    assert not any("\r" in line for line in lines), "no terminal"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (119.9, "119.9 s"),
        (120, "2 min"),
        (7_199, "2 h 00 min"),
        (9_000, "2 h 30 min"),
    ],
)
def test_spans_are_said_in_words_that_fit(seconds: float, said: str):
    assert checking._span(seconds) == said
