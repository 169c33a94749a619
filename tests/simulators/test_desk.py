import re

import pytest

from simulators.camera import camera_spec
from simulators.desk import ANSWERS_MAX, GBK_TAIL, RECORD_PAGE_MAX
from simulators.faults import Faults
from simulators.nvr import nvr_spec
from tests.simulators.little import CAMERA, NVR, PASSWORD, World
from vsp.clock import MICROS


def nvr(channels: int = 3, **faults) -> World:
    spec = nvr_spec(NVR, PASSWORD, channels=channels, name="录像机", faults=Faults(**faults))
    pair = World(spec).start()
    pair.run(1)
    return pair


def asked(
    pair: World, command: str, to: str = NVR, extra: str = "", wait_s: float = 1
) -> list[str]:
    pair.platform.query(command, to, pair.now, extra)
    pair.run(pair.now + wait_s)
    return pair.platform.bodies_of(command)


def ids(page: str) -> list[str]:
    return re.findall(r"<Item><DeviceID>(\d+)", page)


def test_each_channel_comes_in_a_message_of_its_own_with_the_questions_sn():
    pages = asked(nvr(3), "Catalog")

    assert [ids(page) for page in pages] == [[f"3402000000132000010{i}"] for i in (1, 2, 3)]
    assert all("<SN>17430</SN>" in page and "<SumNum>3</SumNum>" in page for page in pages)


def test_channels_come_batched_when_told_so():
    pages = asked(nvr(5, catalog_page_size=2), "Catalog")

    assert [len(ids(page)) for page in pages] == [2, 2, 1]
    assert [re.findall('Num="(\\d)"', page) for page in pages] == [["2"], ["2"], ["1"]]


def test_the_answer_is_a_new_message_to_the_one_who_asked():
    pair = nvr()

    asked(pair, "Catalog")

    answer = pair.platform.requests("MESSAGE")[-1]
    assert answer.to.user == "34020000002000000001"
    assert answer.cseq == (1, "MESSAGE")
    assert answer.call_id != pair.platform.responses[-1].call_id


def test_the_next_page_waits_for_the_answer_to_the_one_before():
    pair = nvr(3)
    pair.platform.query("Catalog", NVR, pair.now)
    held: list[bytes] = []

    def hold_answers(data: bytes) -> bool:
        held.append(data)
        return data.startswith(b"SIP/2.0 200") and b"sim-nvr" not in data

    pair.drop = hold_answers
    pair.run(pair.now + 3)
    assert len(pair.platform.bodies_of("Catalog")) == 1

    pair.drop = lambda data: False
    pair.run(pair.now + 10)
    assert len(pair.platform.bodies_of("Catalog")) == 3


def test_a_channels_own_id_asks_for_that_channel():
    pages = asked(nvr(3), "Catalog", to="34020000001320000102")

    assert [ids(page) for page in pages] == [["34020000001320000102"]]


def test_the_parent_of_a_channel_is_its_device_and_of_a_camera_the_system():
    camera = World(camera_spec(CAMERA, PASSWORD)).start()
    camera.run(1)

    (page,) = asked(camera, "Catalog", to=CAMERA)

    assert ids(page) == [CAMERA]
    assert "<ParentID>34020000002000000001</ParentID>" in page
    assert f"<ParentID>{NVR}</ParentID>" in asked(nvr(1), "Catalog")[0]


def test_a_slow_catalogue_is_acknowledged_at_once_and_answered_late():
    pair = nvr(1, slow_catalog_s=30)

    assert asked(pair, "Catalog", wait_s=29) == []
    assert pair.platform.responses[-1].status == 200

    pair.run(pair.now + 2)
    assert len(pair.platform.bodies_of("Catalog")) == 1


@pytest.mark.parametrize(("lie", "said"), [(2, "5"), (-1, "2"), (-9, "0")])
def test_sumnum_is_wrong_by_what_was_asked_for(lie: int, said: str):
    pages = asked(nvr(3, catalog_sumnum_lie=lie), "Catalog")

    assert len(pages) == 3
    assert {re.search(r"<SumNum>(\d+)<", page)[1] for page in pages} == {said}


def test_gbk_names_hold_what_gb2312_lacks_under_its_label():
    pair = nvr(1, gbk_names=True)

    asked(pair, "Catalog")

    body = pair.platform.bodies[-1]
    assert b'encoding="GB2312"' in body
    assert GBK_TAIL in body.decode("gbk")
    with pytest.raises(UnicodeDecodeError):
        body.decode("gb2312")


def test_device_info_counts_the_channels():
    (text,) = asked(nvr(3), "DeviceInfo")

    assert "<DeviceName>录像机</DeviceName><Result>OK</Result>" in text
    assert text.endswith("<Channel>3</Channel></Response>\r\n")


def test_device_info_of_a_channel_is_about_the_channel():
    (text,) = asked(nvr(3), "DeviceInfo", to="34020000001320000102")

    assert "<DeviceName>录像机 02</DeviceName>" in text
    assert "<DeviceID>34020000001320000102</DeviceID>" in text


def test_status_says_whether_a_stream_is_under_way():
    pair = nvr(1)
    assert "<Encode>OFF</Encode>" in asked(pair, "DeviceStatus")[-1]

    pair.platform.invite("34020000001320000101", pair.now)
    pair.run(pair.now + 1)

    assert "<Encode>ON</Encode>" in asked(pair, "DeviceStatus")[-1]


def record_window(hours: int) -> str:
    return f"<StartTime>2026-03-01T00:00:00</StartTime><EndTime>2026-03-01T{hours}:00:00</EndTime>"


def test_records_since_the_start_come_one_to_eight_a_message():
    pair = nvr(1)
    pair.clock.at_us += 4 * 3600 * MICROS

    pages = asked(pair, "RecordInfo", to="34020000001320000101", extra=record_window(23))

    counts = [page.count("<Item>") for page in pages]
    assert sum(counts) == 24
    assert max(counts) <= RECORD_PAGE_MAX
    assert len(set(counts)) > 1
    assert all("<SumNum>24</SumNum>" in page for page in pages)
    starts = [start for page in pages for start in re.findall(r"<StartTime>(.*?)<", page)]
    assert starts == sorted(starts)
    assert starts[0] == "2026-03-01T10:00:00"


def test_records_that_only_touch_the_window_are_listed_whole():
    pair = nvr(1)
    pair.clock.at_us += 3600 * MICROS
    window = "<StartTime>2026-03-01T10:15:00</StartTime><EndTime>2026-03-01T10:25:00</EndTime>"

    (page, *rest) = asked(pair, "RecordInfo", extra=window)

    starts = re.findall(r"<StartTime>(.*?)<", "".join([page, *rest]))
    assert starts == ["2026-03-01T10:10:00", "2026-03-01T10:20:00"]


def test_no_records_is_an_answer_without_a_list():
    (page,) = asked(nvr(1), "RecordInfo", extra=record_window(9).replace("03-01", "02-01"))

    assert "<SumNum>0</SumNum>" in page
    assert "RecordList" not in page


def test_a_query_that_the_device_cannot_answer_is_refused_in_words():
    (text,) = asked(nvr(1), "PresetQuery")

    assert "<Result>ERROR</Result>" in text


def control(command: str, element: str) -> bytes:
    return (
        f"<Control><CmdType>{command}</CmdType><SN>5</SN><DeviceID>{NVR}</DeviceID>"
        f"<{element}>x</{element}></Control>"
    ).encode()


@pytest.mark.parametrize(("element", "answers"), [("PTZCmd", 0), ("TeleBoot", 0), ("RecordCmd", 1)])
def test_only_controls_that_want_an_answer_get_one(element: str, answers: int):
    pair = nvr(1)

    pair.platform.message(NVR, control("DeviceControl", element), pair.now)
    pair.run(pair.now + 1)

    assert pair.platform.responses[-1].status == 200
    assert len(pair.platform.bodies_of("DeviceControl")) == answers


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"<Query><CmdType>Catalog</CmdType></Query>", 400),
        (b"\xff\xfe<<<", 400),
        (b"<Query><CmdType>Catalog</CmdType><SN>1</SN><DeviceID>9</DeviceID></Query>", 404),
    ],
)
def test_bodies_that_are_wrong_are_refused(body: bytes, status: int):
    pair = nvr(1)

    pair.platform.message(NVR, body, pair.now)
    pair.run(pair.now + 1)

    assert pair.platform.responses[-1].status == status


def test_too_many_questions_at_once_are_put_off():
    pair = nvr(1, slow_catalog_s=60)

    for _ in range(ANSWERS_MAX + 1):
        pair.platform.query("Catalog", NVR, pair.now)
    pair.run(pair.now + 1)

    statuses = [response.status for response in pair.platform.responses]
    assert statuses.count(200) == ANSWERS_MAX
    assert statuses.count(503) == 1


def test_room_comes_back_when_answers_are_given():
    pair = nvr(1)

    for _ in range(3 * ANSWERS_MAX):
        asked(pair, "DeviceInfo", wait_s=0.1)

    assert {response.status for response in pair.platform.responses} == {200}


def test_an_answer_begun_on_a_broken_connection_is_not_continued():
    pair = nvr(1, slow_catalog_s=5)
    pair.platform.query("Catalog", NVR, pair.now)
    pair.run(pair.now + 1)

    pair.ua.unlinked(pair.now, "closed")
    pair.link()
    pair.run(pair.now + 200)

    assert pair.platform.bodies_of("Catalog") == []
