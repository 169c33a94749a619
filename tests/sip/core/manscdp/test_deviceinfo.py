from __future__ import annotations

from vsp.ports import DeviceFacts
from vsp.sip.core.manscdp.deviceinfo import encode_query, parse_response
from vsp.sip.core.manscdp.envelope import parse_body


def test_the_query_names_command_serial_and_device():
    body = parse_body(encode_query(7, "34020000001180000001"))

    assert (body.root, body.cmd_type, body.sn) == ("Query", "DeviceInfo", 7)
    assert body.device_id == "34020000001180000001"


def test_an_answer_is_read():
    text = (
        "<Response><CmdType>DeviceInfo</CmdType><SN>7</SN><DeviceID>1</DeviceID>"
        "<DeviceName>东门</DeviceName><Result>OK</Result><Manufacturer>Hik</Manufacturer>"
        "<Model> DS-2 </Model><Firmware>V5</Firmware><Channel>1</Channel></Response>"
    )

    facts = parse_response(parse_body(text.encode("gb18030")))

    assert facts == DeviceFacts("Hik", "DS-2", "V5", "东门")


def test_what_is_missing_is_empty():
    facts = parse_response(parse_body(b"<Response><Result>ERROR</Result></Response>"))

    assert facts == DeviceFacts("", "", "", "")
