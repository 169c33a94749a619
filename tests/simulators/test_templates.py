"""Bodies against the worked examples of GB/T 28181-2016 annex J."""

import re

import pytest

from simulators.media import Target
from simulators.templates import (
    CatalogEntry,
    Query,
    Record,
    Speaker,
    Tongue,
    answer_sdp,
    beijing,
    from_beijing,
    has_element,
    parse_offer,
    parse_query,
)
from tests.simulators.little import NVR, offer
from vsp.errors import Invalid
from vsp.model.device import MediaTransport

CATALOG = Query("Query", "Catalog", "17430", NVR)
DECLARATION = '<?xml version="1.0" encoding="GB2312"?>\r\n'


def test_the_keepalive_is_the_worked_example():
    body = Speaker(NVR).keepalive(43)

    assert len(body) == 159
    assert body == (
        DECLARATION + "<Notify><CmdType>Keepalive</CmdType><SN>43</SN><DeviceID>"
        "34020000001180000001</DeviceID><Status>OK</Status></Notify>\r\n"
    ).encode("ascii")


def test_a_catalogue_page_has_the_elements_of_the_worked_example_in_order():
    entry = CatalogEntry("34020100001320000001", "东门球机", NVR, online=True)

    text = Speaker(NVR).catalog(CATALOG, 6, [entry]).decode("gb18030")

    assert text.startswith(
        DECLARATION + "<Response><CmdType>Catalog</CmdType><SN>17430</SN>"
        f"<DeviceID>{NVR}</DeviceID><SumNum>6</SumNum>" + '<DeviceList Num="1">'
    )
    names = re.findall(r"<(\w+)>", text[text.index("<Item>") :])
    assert " ".join(names) == (
        "Item DeviceID Name Manufacturer Model Owner CivilCode Address Parental ParentID "
        "SafetyWay RegisterWay Secrecy Status Longitude Latitude Info PTZType"
    )
    assert "<Name>东门球机</Name>" in text
    assert "<Status>ON</Status>" in text


def test_an_empty_catalogue_has_no_list():
    text = Speaker(NVR).catalog(CATALOG, 0, []).decode("ascii")

    assert "<SumNum>0</SumNum></Response>" in text
    assert "DeviceList" not in text


def test_an_offline_channel_says_so():
    entry = CatalogEntry("34020100001320000001", "A", NVR, online=False)

    assert b"<Status>OFF</Status>" in Speaker(NVR).catalog(CATALOG, 1, [entry])


def test_names_are_escaped():
    entry = CatalogEntry("34020100001320000001", "A<&>B", NVR, online=True)

    assert b"<Name>A&lt;&amp;&gt;B</Name>" in Speaker(NVR).catalog(CATALOG, 1, [entry])


@pytest.mark.parametrize(
    ("label", "encoding"),
    [("GB2312", "gb18030"), ("GBK", "gb18030"), ("GB18030", "gb18030"), ("UTF-8", "utf-8")],
)
def test_the_label_says_how_the_bytes_are_to_be_read(label: str, encoding: str):
    query = Query("Query", "DeviceInfo", "1", NVR)

    body = Speaker(NVR, Tongue(label)).device_info(query, "站前路", 4)

    assert body.startswith(f'<?xml version="1.0" encoding="{label}"?>'.encode())
    assert "<DeviceName>站前路</DeviceName>" in body.decode(encoding)


def test_a_false_label_leaves_the_bytes_as_they_are():
    query = Query("Query", "DeviceInfo", "1", NVR)

    body = Speaker(NVR, Tongue("GBK"), label="UTF-8").device_info(query, "站前路", 4)

    assert b'encoding="UTF-8"' in body
    assert "站前路" in body.decode("gbk")


def test_the_record_list_is_that_of_the_worked_example():
    query = Query("Query", "RecordInfo", "17440", "34020000001320000001")
    start_us = 1_772_330_400_000_000
    records = [Record(start_us, start_us + 1_800_000_000, 471859200)]

    text = Speaker(NVR).record_info(query, "Camera1", 2, records).decode("ascii")

    assert (
        "<Name>Camera1</Name><SumNum>2</SumNum>\r\n"
        '<RecordList Num="1">\r\n'
        "<Item><DeviceID>34020000001320000001</DeviceID><Name>Camera1</Name>"
        "<FilePath>/rec/1772330400</FilePath><Address>A</Address>"
        "<StartTime>2026-03-01T10:00:00</StartTime><EndTime>2026-03-01T10:30:00</EndTime>"
        "<Secrecy>0</Secrecy><Type>time</Type><FileSize>471859200</FileSize></Item></RecordList>"
    ) in text


def test_the_status_tells_the_devices_own_time():
    query = Query("Query", "DeviceStatus", "9", NVR)

    text = Speaker(NVR).device_status(query, 1_772_330_400_000_000, sending=True).decode("ascii")

    assert "<Online>ONLINE</Online><Status>OK</Status><Encode>ON</Encode>" in text
    assert "<DeviceTime>2026-03-01T10:00:00</DeviceTime>" in text


def test_times_are_beijing_time_both_ways():
    assert beijing(1_772_330_400_000_000) == "2026-03-01T10:00:00"
    assert from_beijing("2026-03-01T10:00:00") == 1_772_330_400_000_000
    assert from_beijing("2026-03-01T02:00:00Z") == 1_772_330_400_000_000
    assert from_beijing("yesterday") is None


def test_a_query_is_read_with_its_times():
    body = (
        DECLARATION + "<Query><CmdType>RecordInfo</CmdType><SN>17440</SN>"
        "<DeviceID>34020000001320000001</DeviceID><StartTime>2026-03-01T10:00:00</StartTime>\r\n"
        "<EndTime>2026-03-01T11:00:00</EndTime><Secrecy>0</Secrecy><Type>all</Type></Query>\r\n"
    ).encode()

    query = parse_query(body)

    assert query == Query(
        "Query",
        "RecordInfo",
        "17440",
        "34020000001320000001",
        1_772_330_400_000_000,
        1_772_334_000_000_000,
    )


def test_blanks_and_letter_case_of_elements_do_not_matter():
    query = parse_query(b"<query>\n<cmdtype> Catalog </cmdtype><Sn>7</Sn><deviceid>1</deviceid>")

    assert query == Query("Query", "Catalog", "7", "1")


@pytest.mark.parametrize("body", [b"", b"<Query/>", b"<x><CmdType>A</CmdType><SN>1</SN></x>"])
def test_what_is_no_request_is_refused(body: bytes):
    with pytest.raises(Invalid):
        parse_query(body)


def test_an_element_is_found_by_its_whole_name():
    assert has_element(b"<Control><RecordCmd>Record</RecordCmd>", "recordcmd")
    assert not has_element(b"<RecordCmdX>", "RecordCmd")


# ---- SDP ------------------------------------------------------------------------------------


def test_the_udp_offer_of_the_worked_example_is_read():
    read = parse_offer(offer(30000))

    assert read.target == Target(MediaTransport.UDP, "127.0.0.1", 30000)
    assert (read.session, read.ps_payload, read.ssrc) == ("play", True, 200000001)
    assert read.ssrc_text == "0200000001"


@pytest.mark.parametrize(
    ("setup", "transport"),
    [("passive", MediaTransport.TCP_PASSIVE), ("active", MediaTransport.TCP_ACTIVE)],
)
def test_the_offers_role_over_tcp_is_read(setup: str, transport: MediaTransport):
    assert parse_offer(offer(30002, setup=setup)).target.transport is transport


def test_bare_newlines_and_a_missing_y_are_tolerated():
    body = offer(30000, y="").replace(b"\r\n", b"\n")

    assert parse_offer(body).ssrc is None


def test_a_private_stream_is_not_program_stream():
    body = offer(30000).replace(b"96 PS/90000", b"96 HIKVISION/90000")

    assert not parse_offer(body).ps_payload


def test_an_offer_without_payload_96_has_no_program_stream():
    assert not parse_offer(offer(30000).replace(b"AVP 96 98 97", b"AVP 98 97")).ps_payload


@pytest.mark.parametrize("lost", ["m", "c"])
def test_an_offer_without_address_is_refused(lost: str):
    with pytest.raises(Invalid):
        parse_offer(offer(30000, **{lost: ""}))


@pytest.mark.parametrize("address", ["media.example.org", "999.1.1.1", "::1"])
def test_an_offer_to_no_ipv4_address_is_refused(address: str):
    with pytest.raises(Invalid):
        parse_offer(offer(30000, c=f"c=IN IP4 {address}"))


def test_the_udp_answer_is_the_worked_example():
    body = answer_sdp(
        parse_offer(offer(30000)), "34020000001320000001", "198.51.100.20", 15060, "0200000001"
    )

    assert len(body) == 167
    assert body.decode() == (
        "v=0\r\no=34020000001320000001 0 0 IN IP4 198.51.100.20\r\ns=Play\r\n"
        "c=IN IP4 198.51.100.20\r\nt=0 0\r\nm=video 15060 RTP/AVP 96\r\na=sendonly\r\n"
        "a=rtpmap:96 PS/90000\r\ny=0200000001\r\n"
    )


@pytest.mark.parametrize(("setup", "answer"), [("passive", "active"), ("active", "passive")])
def test_the_tcp_answer_takes_the_other_role(setup: str, answer: str):
    body = answer_sdp(parse_offer(offer(30002, setup=setup)), NVR, "198.51.100.20", 15062, "2")

    assert body.decode().splitlines()[5:] == [
        "m=video 15062 TCP/RTP/AVP 96",
        "a=sendonly",
        "a=rtpmap:96 PS/90000",
        f"a=setup:{answer}",
        "a=connection:new",
        "y=2",
    ]


def test_the_y_line_can_be_left_out():
    assert b"y=" not in answer_sdp(parse_offer(offer(30000)), NVR, "198.51.100.20", 15060, "")
