from __future__ import annotations

from vsp.sip.core.manscdp.devicestatus import encode_query, parse_response
from vsp.sip.core.manscdp.envelope import parse_body

ANSWER = b"""<Response><CmdType>DeviceStatus</CmdType><SN>7</SN><DeviceID>1</DeviceID>
<Result>OK</Result><Online>ONLINE</Online><Status>OK</Status><Encode>ON</Encode>
<DeviceTime>2026-03-01T10:00:00</DeviceTime><alarmStatus Num="1"><Item><DeviceID>9</DeviceID>
<DutyStatus>ONDUTY</DutyStatus></Item></alarmStatus></Response>"""


def test_the_query_names_command_serial_and_device():
    body = parse_body(encode_query(7, "34020000001180000001"))

    assert (body.root, body.cmd_type, body.sn) == ("Query", "DeviceStatus", 7)


def test_an_answer_is_read_with_its_alarm_inputs():
    status = parse_response(parse_body(ANSWER))

    assert status == {
        "Result": "OK",
        "Online": "ONLINE",
        "Status": "OK",
        "Encode": "ON",
        "DeviceTime": "2026-03-01T10:00:00",
        "Alarm 9": "ONDUTY",
    }


def test_an_empty_answer_is_empty():
    assert parse_response(parse_body(b"<Response><SN>1</SN></Response>")) == {}
