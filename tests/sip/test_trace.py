"""What an administrator sees of a device's SIP traffic, and what nobody may see."""

import pytest

from vsp.model.device import Transport
from vsp.model.ids import DeviceId, UtcMicros
from vsp.sip import trace
from vsp.sip.core.agent import Peer
from vsp.sip.trace import TraceBook, parties, remove_secrets, summary

CAMERA = DeviceId("camera")
OTHER = DeviceId("other")
PEER = Peer(Transport.UDP, "198.51.100.20", 5060)

# Byte templates after GB/T 28181-2016 annex J; addresses and ids are made up.
REGISTER = (
    b"REGISTER sip:34020000002000000001@3402000000 SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 198.51.100.20:5060;rport;branch=z9hG4bKr2\r\n"
    b"From: <sip:34020000001180000001@3402000000>;tag=r100\r\n"
    b"To: <sip:34020000001180000001@3402000000>\r\n"
    b"Call-ID: reg-0001@198.51.100.20\r\n"
    b"CSeq: 2 REGISTER\r\n"
    b'Authorization: Digest username="34020000001180000001", realm="3402000000", '
    b'nonce="6f1c9b7e", uri="sip:34020000002000000001@3402000000", '
    b'response="a4e83956ccf27684b336d15281af1d3e", algorithm=MD5\r\n'
    b"Content-Length: 0\r\n\r\n"
)
KEEPALIVE = (
    b"MESSAGE sip:34020000002000000001@192.0.2.10:5060 SIP/2.0\r\n"
    b"From: <sip:34020000001180000001@3402000000>;tag=k43\r\n"
    b"To: <sip:34020000002000000001@3402000000>\r\n"
    b"CSeq: 20 MESSAGE\r\n\r\n"
    b"<Notify><CmdType>Keepalive</CmdType><SN>43</SN></Notify>\r\n"
)
KEEPALIVE_OK = b"SIP/2.0 200 OK\r\nCSeq: 20 MESSAGE\r\nContent-Length: 0\r\n\r\n"
INVITE = b"INVITE sip:34020000001320000001@198.51.100.20 SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\n"


def note(book: TraceBook, data: bytes, device=CAMERA, at_us=0, outgoing=False):
    book.note(device, UtcMicros(at_us), outgoing, PEER, data)


def texts(book: TraceBook, device=CAMERA) -> list[str]:
    return [line.text for line in book.lines(device)]


def test_a_digest_response_is_never_shown_and_the_rest_of_the_header_is():
    book = TraceBook()

    note(book, REGISTER)

    (text,) = texts(book)
    assert "a4e83956ccf27684b336d15281af1d3e" not in text
    assert 'nonce="6f1c9b7e"' in text
    assert "(removed)" in text


@pytest.mark.parametrize(
    "header",
    [
        'Authorization: Digest response="SECRET"',
        "AUTHORIZATION:Digest response=SECRET, nc=00000001",
        'Proxy-Authorization: Digest realm="x",response = "SECRET"',
        'Authorization: Digest realm="x",\r\n response="SECRET"',
        'Authorization: Digest realm="x",\n\tresponse="SECRET"',
    ],
)
def test_digest_responses_are_removed_in_every_spelling(header):
    assert "SECRET" not in remove_secrets(f"REGISTER x SIP/2.0\r\n{header}\r\nCSeq: 1 REGISTER")


@pytest.mark.parametrize(
    "body",
    [
        "<Item><Password>SECRET</Password></Item>",
        "<password >SECRET</password>",
        "<FTPPassword type='x'>SECRET</FTPPassword>",
        '<Item UserPwd="SECRET"/>',
        "user=x&password=SECRET&z=1",
        "<Item PassWd = 'SECRET'/>",
    ],
)
def test_passwords_in_bodies_are_removed(body):
    assert "SECRET" not in remove_secrets(body)


def test_hostile_text_does_not_make_the_removal_slow():
    remove_secrets("<" + "pwd" * 3000 + "=" * 3000)
    remove_secrets("pwd" * 3000)
    remove_secrets("Authorization:" + "\n " * 4000)


def test_chinese_is_readable_in_whatever_set_it_was_sent():
    book = TraceBook()
    for charset in ("utf-8", "gb2312", "gb18030"):
        note(book, b"MESSAGE x SIP/2.0\r\n\r\n<Name>" + "东门球机".encode(charset))

    assert all("东门球机" in text for text in texts(book))


def test_head_and_body_may_each_have_their_own_set():
    book = TraceBook()

    note(book, "MESSAGE x\r\nSubject: 东门\r\n\r\n".encode() + "球机".encode("gb18030"))

    assert "东门" in texts(book)[0]
    assert "球机" in texts(book)[0]


def test_bytes_of_no_set_do_not_break_the_line():
    book = TraceBook()

    note(book, b"\xff\xfe\x00\x80\r\n\r\n\xff\xff\x81")

    assert len(texts(book)) == 1


def test_a_long_message_is_cut_and_says_so():
    book = TraceBook()

    note(book, b"MESSAGE x\r\n\r\n" + b"a" * 20_000)

    (text,) = texts(book)
    assert len(text) < trace.LINE_BYTES_MAX + 100
    assert "more bytes" in text


def test_lines_are_bounded_by_number_and_the_newest_stay(monkeypatch):
    monkeypatch.setattr(trace, "LINES_MAX", 3)
    book = TraceBook()

    for n in range(5):
        note(book, b"INVITE %d SIP/2.0\r\n\r\n" % n, at_us=n)

    assert [line.at_us for line in book.lines(CAMERA)] == [2, 3, 4]


def test_lines_are_bounded_by_bytes(monkeypatch):
    monkeypatch.setattr(trace, "RING_BYTES_MAX", 1000)
    monkeypatch.setattr(trace, "RING_BYTES_MIN", 100)
    book = TraceBook()

    for n in range(50):
        note(book, b"x" * 300, at_us=n)

    assert [line.at_us for line in book.lines(CAMERA)] == [47, 48, 49]


def test_one_message_larger_than_the_share_is_cut_not_lost(monkeypatch):
    monkeypatch.setattr(trace, "RING_BYTES_MAX", 100)
    monkeypatch.setattr(trace, "RING_BYTES_MIN", 10)
    book = TraceBook()

    note(book, b"INVITE x SIP/2.0\r\n\r\n" + b"a" * 500)

    (text,) = texts(book)
    assert text.startswith("INVITE")
    assert "more bytes" in text


def test_each_devices_share_shrinks_with_the_fleet(monkeypatch):
    monkeypatch.setattr(trace, "ALL_BYTES_MAX", 4000)
    monkeypatch.setattr(trace, "RING_BYTES_MIN", 100)
    book = TraceBook()
    for n in range(10):
        note(book, b"x", device=DeviceId(f"d{n}"))

    for n in range(10):
        note(book, b"y" * 150, at_us=n)

    kept = sum(len(text) for text in texts(book))
    assert kept <= 4000 // 11


def test_heartbeats_do_not_push_out_an_invite():
    book = TraceBook()
    note(book, INVITE, at_us=1, outgoing=True)

    for n in range(2000):
        note(book, KEEPALIVE, at_us=2 + n * 2)
        note(book, KEEPALIVE_OK, at_us=3 + n * 2, outgoing=True)

    lines = book.lines(CAMERA)
    assert lines[0].summary == "INVITE"
    assert len(lines) == 1 + trace.BEATS_MAX


def test_lines_come_in_the_order_of_time():
    book = TraceBook()
    note(book, KEEPALIVE, at_us=1)
    note(book, INVITE, at_us=2, outgoing=True)
    note(book, KEEPALIVE, at_us=3)

    assert [line.at_us for line in book.lines(CAMERA)] == [1, 2, 3]
    assert book.lines(CAMERA)[0].peer == "198.51.100.20:5060/udp"


def test_a_limit_gives_the_newest():
    book = TraceBook()
    for n in range(5):
        note(book, INVITE, at_us=n)

    assert [line.at_us for line in book.lines(CAMERA, 2)] == [3, 4]
    assert book.lines(CAMERA, 0) == []


def test_devices_do_not_see_each_other():
    book = TraceBook()

    note(book, INVITE, device=OTHER)

    assert book.lines(CAMERA) == []


def test_strangers_share_one_small_ring():
    book = TraceBook()

    for n in range(trace.STRANGERS_LINES_MAX + 50):
        note(book, INVITE, device=None, at_us=n)

    assert len(book.strangers()) == trace.STRANGERS_LINES_MAX
    assert book.lines(CAMERA) == []


def test_a_removed_device_leaves_nothing():
    book = TraceBook()
    note(book, INVITE)

    book.forget(CAMERA)

    assert book.lines(CAMERA) == []


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (REGISTER, "REGISTER"),
        (KEEPALIVE, "MESSAGE Keepalive"),
        (KEEPALIVE_OK, "200 OK (MESSAGE)"),
        (b"SIP/2.0 486 Busy Here\r\n\r\n", "486 Busy Here"),
        (b"", ""),
    ],
)
def test_a_summary_names_the_message(data, expected):
    assert summary(data) == expected


@pytest.mark.parametrize(
    "head",
    [
        b"\r\nFrom: <sip:34020000001180000001@x>;tag=1\r\nTo: <sip:34020000002000000001@x>\r\n",
        b'\r\nFrom: "a" <sip:34020000001180000001@x>\r\nTo:sip:34020000002000000001@x\r\n',
        b"\r\nf:<sip:34020000001180000001@x>\r\nt: <sips:34020000002000000001@x>\r\n",
        b"\nFROM: <sip:34020000001180000001@x>\nTO: <sip:34020000002000000001@x>\n",
    ],
)
def test_the_parties_are_found_in_every_spelling(head):
    assert parties(b"MESSAGE x SIP/2.0" + head) == (
        "34020000001180000001",
        "34020000002000000001",
    )


@pytest.mark.parametrize("head", [b"", b"\nFrom:", b"\nFrom: @", b"\nFrom: <sip:x>\nTo: sip:@y"])
def test_missing_parties_are_empty(head):
    assert parties(b"MESSAGE x SIP/2.0" + head) == ("", "")
