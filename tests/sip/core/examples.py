# ruff: noqa: E501  (lines of the wire are as long as they are)
"""Worked examples of GB/T 28181: data of the standard's exchanges, as bytes.

Values follow the examples of the 2016 edition (annex J) with documentation addresses (RFC 5737).
Platform 34020000002000000001 at 192.0.2.10, recorder 34020000001180000001 at 198.51.100.20, its
channel 34020000001320000001, lower platform 34020100002000000001; password 12345678. Lines end with
CRLF, XML bodies are GB 18030. Nothing here was made by the code under test.
"""

from __future__ import annotations


def _wire(text: str) -> bytes:
    """The text with CRLF; a message without body gets its empty line."""
    head, blank, body = text.strip("\n").partition("\n\n")
    lines = head + "\n\n" + (body + "\n" if blank else "")
    return lines.replace("\n", "\r\n").encode("gb18030")


def _body(text: str) -> bytes:
    return (text.strip("\n") + "\n").replace("\n", "\r\n").encode("gb18030")


PASSWORD = "12345678"
NONCE = "6f1c9b7e4d2a4f0c8e5b3a1d9c7f2e60"

REGISTER = _wire(
    """
REGISTER sip:34020000002000000001@3402000000 SIP/2.0
Via: SIP/2.0/UDP 198.51.100.20:5060;rport;branch=z9hG4bKr1
From: <sip:34020000001180000001@3402000000>;tag=r100
To: <sip:34020000001180000001@3402000000>
Call-ID: reg-0001@198.51.100.20
CSeq: 1 REGISTER
Contact: <sip:34020000001180000001@198.51.100.20:5060>
Max-Forwards: 70
User-Agent: sim-nvr/1.0
X-GB-Ver: 2.0
Expires: 3600
Content-Length: 0
"""
)

CHALLENGE = _wire(
    """
SIP/2.0 401 Unauthorized
Via: SIP/2.0/UDP 198.51.100.20:5060;rport=5060;received=198.51.100.20;branch=z9hG4bKr1
From: <sip:34020000001180000001@3402000000>;tag=r100
To: <sip:34020000001180000001@3402000000>;tag=p900
Call-ID: reg-0001@198.51.100.20
CSeq: 1 REGISTER
X-GB-Ver: 3.0
WWW-Authenticate: Digest realm="3402000000", nonce="6f1c9b7e4d2a4f0c8e5b3a1d9c7f2e60", algorithm=MD5
Content-Length: 0
"""
)

REGISTER_SIGNED = _wire(
    """
REGISTER sip:34020000002000000001@3402000000 SIP/2.0
Via: SIP/2.0/UDP 198.51.100.20:5060;rport;branch=z9hG4bKr2
From: <sip:34020000001180000001@3402000000>;tag=r100
To: <sip:34020000001180000001@3402000000>
Call-ID: reg-0001@198.51.100.20
CSeq: 2 REGISTER
Contact: <sip:34020000001180000001@198.51.100.20:5060>
Authorization: Digest username="34020000001180000001", realm="3402000000", nonce="6f1c9b7e4d2a4f0c8e5b3a1d9c7f2e60", uri="sip:34020000002000000001@3402000000", response="a4e83956ccf27684b336d15281af1d3e", algorithm=MD5
Max-Forwards: 70
User-Agent: sim-nvr/1.0
X-GB-Ver: 2.0
Expires: 3600
Content-Length: 0
"""
)

REGISTERED = _wire(
    """
SIP/2.0 200 OK
Via: SIP/2.0/UDP 198.51.100.20:5060;rport=5060;received=198.51.100.20;branch=z9hG4bKr2
From: <sip:34020000001180000001@3402000000>;tag=r100
To: <sip:34020000001180000001@3402000000>;tag=p901
Call-ID: reg-0001@198.51.100.20
CSeq: 2 REGISTER
Contact: <sip:34020000001180000001@198.51.100.20:5060>
X-GB-Ver: 3.0
Date: 2026-03-01T10:00:00.000
Expires: 3600
Content-Length: 0
"""
)

KEEPALIVE = _wire(
    """
MESSAGE sip:34020000002000000001@192.0.2.10:5060 SIP/2.0
Via: SIP/2.0/UDP 198.51.100.20:5060;rport;branch=z9hG4bKk43
From: <sip:34020000001180000001@3402000000>;tag=k43
To: <sip:34020000002000000001@3402000000>
Call-ID: ka-43@198.51.100.20
CSeq: 20 MESSAGE
Max-Forwards: 70
Content-Type: Application/MANSCDP+xml
Content-Length: 159

<?xml version="1.0" encoding="GB2312"?>
<Notify><CmdType>Keepalive</CmdType><SN>43</SN><DeviceID>34020000001180000001</DeviceID><Status>OK</Status></Notify>
"""
)

KEEPALIVE_OK = _wire(
    """
SIP/2.0 200 OK
Via: SIP/2.0/UDP 198.51.100.20:5060;rport=5060;received=198.51.100.20;branch=z9hG4bKk43
From: <sip:34020000001180000001@3402000000>;tag=k43
To: <sip:34020000002000000001@3402000000>;tag=p43
Call-ID: ka-43@198.51.100.20
CSeq: 20 MESSAGE
Content-Length: 0
"""
)

CATALOG_QUERY = _wire(
    """
MESSAGE sip:34020100002000000001@198.51.100.20:5060 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;rport;branch=z9hG4bKq17430
From: <sip:34020000002000000001@3402000000>;tag=q17430
To: <sip:34020100002000000001@3402010000>
Call-ID: q-17430@192.0.2.10
CSeq: 1 MESSAGE
Max-Forwards: 70
Content-Type: Application/MANSCDP+xml
Content-Length: 139

<?xml version="1.0" encoding="GB2312"?>
<Query><CmdType>Catalog</CmdType><SN>17430</SN><DeviceID>34020100002000000001</DeviceID></Query>
"""
)

CATALOG_PAGE_1 = _wire(
    """
MESSAGE sip:34020000002000000001@192.0.2.10:5060 SIP/2.0
Via: SIP/2.0/UDP 198.51.100.20:5060;rport;branch=z9hG4bKc1
From: <sip:34020100002000000001@3402010000>;tag=c1
To: <sip:34020000002000000001@3402000000>
Call-ID: rsp-17430-1@198.51.100.20
CSeq: 1 MESSAGE
Max-Forwards: 70
Content-Type: Application/MANSCDP+xml
Content-Length: 747

<?xml version="1.0" encoding="GB2312"?>
<Response><CmdType>Catalog</CmdType><SN>17430</SN><DeviceID>34020100002000000001</DeviceID><SumNum>6</SumNum><DeviceList Num="4">
<Item><DeviceID>340201</DeviceID><Name>市辖区</Name></Item>
<Item><DeviceID>34020100002000000001</DeviceID><Name>下级平台</Name><Manufacturer>Sim</Manufacturer><Model>P-1</Model><Owner>O</Owner><CivilCode>340201</CivilCode><Address>A</Address><RegisterWay>1</RegisterWay><Secrecy>0</Secrecy></Item>
<Item><DeviceID>34020100002150000001</DeviceID><Name>道路监控</Name><ParentID>34020100002000000001</ParentID></Item>
<Item><DeviceID>34020100002160000001</DeviceID><Name>一号路口</Name><BusinessGroupID>34020100002150000001</BusinessGroupID></Item></DeviceList></Response>
"""
)

CATALOG_PAGE_2_BODY = _body(
    """
<?xml version="1.0" encoding="GB2312"?>
<Response><CmdType>Catalog</CmdType><SN>17430</SN><DeviceID>34020100002000000001</DeviceID><SumNum>6</SumNum><DeviceList Num="2"><Item>
<DeviceID>34020100001320000001</DeviceID><Name>东门球机</Name><Manufacturer>Sim</Manufacturer><Model>S-1</Model><Owner>O</Owner>
<CivilCode>340201</CivilCode><Address>A</Address><Parental>0</Parental><ParentID>34020100002000000001/34020100002160000001</ParentID>
<SafetyWay>0</SafetyWay><RegisterWay>1</RegisterWay><Secrecy>0</Secrecy><Status>ON</Status><Longitude>118.376451</Longitude>
<Latitude>31.326319</Latitude><Info><PTZType>1</PTZType><Resolution>6/5</Resolution></Info></Item><Item><DeviceID>34020100001320000002</DeviceID>
<Name>西门枪机</Name><Manufacturer>Sim</Manufacturer><Model>S-1</Model><Owner>O</Owner><CivilCode>340201</CivilCode><Address>A</Address>
<Parental>0</Parental><ParentID>34020100002000000001/34020100002160000001</ParentID><SafetyWay>0</SafetyWay><RegisterWay>1</RegisterWay>
<Secrecy>0</Secrecy><Status>OFF</Status><Longitude>118.376451</Longitude><Latitude>31.326319</Latitude>
<Info><PTZType>1</PTZType><Resolution>6/5</Resolution></Info></Item></DeviceList></Response>
"""
)

RECORD_QUERY_BODY = _body(
    """
<?xml version="1.0" encoding="GB2312"?>
<Query><CmdType>RecordInfo</CmdType><SN>17440</SN><DeviceID>34020000001320000001</DeviceID><StartTime>2026-03-01T10:00:00</StartTime>
<EndTime>2026-03-01T11:00:00</EndTime><Secrecy>0</Secrecy><Type>all</Type><IndistinctQuery>0</IndistinctQuery></Query>
"""
)

RECORD_RESPONSE_BODY = _body(
    """
<?xml version="1.0" encoding="GB2312"?>
<Response><CmdType>RecordInfo</CmdType><SN>17440</SN><DeviceID>34020000001320000001</DeviceID><Name>Camera1</Name><SumNum>2</SumNum>
<RecordList Num="2">
<Item><DeviceID>34020000001320000001</DeviceID><Name>Camera1</Name><FilePath>/rec/1</FilePath><Address>A</Address><StartTime>2026-03-01T10:00:00</StartTime><EndTime>2026-03-01T10:30:00</EndTime><Secrecy>0</Secrecy><Type>time</Type><FileSize>471859200</FileSize></Item>
<Item><DeviceID>34020000001320000001</DeviceID><Name>Camera1</Name><FilePath>/rec/2</FilePath><Address>A</Address><StartTime>2026-03-01T10:30:00</StartTime><EndTime>2026-03-01T11:00:00</EndTime><Secrecy>0</Secrecy><Type>alarm</Type><FileSize>471859200</FileSize></Item>
</RecordList></Response>
"""
)

INVITE = _wire(
    """
INVITE sip:34020000001320000001@198.51.100.20:5060 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;rport;branch=z9hG4bKi1
From: <sip:34020000002000000001@3402000000>;tag=i1
To: <sip:34020000001320000001@3402000000>
Call-ID: play-1@192.0.2.10
CSeq: 1 INVITE
Contact: <sip:34020000002000000001@192.0.2.10:5060>
Subject: 34020000001320000001:0200000001,34020000002000000001:0
Allow: INVITE, ACK, INFO, CANCEL, BYE, OPTIONS, MESSAGE
Max-Forwards: 70
Content-Type: APPLICATION/SDP
Content-Length: 239

v=0
o=34020000002000000001 0 0 IN IP4 192.0.2.11
s=Play
c=IN IP4 192.0.2.11
t=0 0
m=video 30000 RTP/AVP 96 98 97
a=recvonly
a=rtpmap:96 PS/90000
a=rtpmap:98 H264/90000
a=rtpmap:97 MPEG4/90000
y=0200000001
f=v/2/6/25/1/4096a///
"""
)

INVITE_OK = _wire(
    """
SIP/2.0 200 OK
Via: SIP/2.0/UDP 192.0.2.10:5060;rport=5060;branch=z9hG4bKi1
From: <sip:34020000002000000001@3402000000>;tag=i1
To: <sip:34020000001320000001@3402000000>;tag=d77
Call-ID: play-1@192.0.2.10
CSeq: 1 INVITE
Contact: <sip:34020000001320000001@198.51.100.20:5060>
Content-Type: Application/SDP
Content-Length: 167

v=0
o=34020000001320000001 0 0 IN IP4 198.51.100.20
s=Play
c=IN IP4 198.51.100.20
t=0 0
m=video 15060 RTP/AVP 96
a=sendonly
a=rtpmap:96 PS/90000
y=0200000001
"""
)

ACK = _wire(
    """
ACK sip:34020000001320000001@198.51.100.20:5060 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;rport;branch=z9hG4bKi1a
From: <sip:34020000002000000001@3402000000>;tag=i1
To: <sip:34020000001320000001@3402000000>;tag=d77
Call-ID: play-1@192.0.2.10
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0
"""
)

BYE = _wire(
    """
BYE sip:34020000001320000001@198.51.100.20:5060 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;rport;branch=z9hG4bKi1b
From: <sip:34020000002000000001@3402000000>;tag=i1
To: <sip:34020000001320000001@3402000000>;tag=d77
Call-ID: play-1@192.0.2.10
CSeq: 2 BYE
Max-Forwards: 70
Content-Length: 0
"""
)

TCP_OFFER_SDP = _body(
    """
v=0
o=34020000002000000001 0 0 IN IP4 192.0.2.11
s=Play
c=IN IP4 192.0.2.11
t=0 0
m=video 30002 TCP/RTP/AVP 96 98 97
a=recvonly
a=rtpmap:96 PS/90000
a=rtpmap:98 H264/90000
a=rtpmap:97 MPEG4/90000
a=setup:passive
a=connection:new
y=0200000002
"""
)

TCP_ANSWER_SDP = _body(
    """
v=0
o=34020000001320000001 0 0 IN IP4 198.51.100.20
s=Play
c=IN IP4 198.51.100.20
t=0 0
m=video 15062 TCP/RTP/AVP 96
a=sendonly
a=rtpmap:96 PS/90000
a=setup:active
a=connection:new
y=0200000002
"""
)

PLAYBACK_INVITE = _wire(
    """
INVITE sip:34020000001320000001@198.51.100.20:5060 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;rport;branch=z9hG4bKp1
From: <sip:34020000002000000001@3402000000>;tag=p1
To: <sip:34020000001320000001@3402000000>
Call-ID: pb-1@192.0.2.10
CSeq: 1 INVITE
Contact: <sip:34020000002000000001@192.0.2.10:5060>
Subject: 34020000001320000001:1200000001,34020000002000000001:0
Allow: INVITE, ACK, INFO, CANCEL, BYE, OPTIONS, MESSAGE
Max-Forwards: 70
Content-Type: APPLICATION/SDP
Content-Length: 264

v=0
o=34020000002000000001 0 0 IN IP4 192.0.2.11
s=Playback
u=34020000001320000001:0
c=IN IP4 192.0.2.11
t=1772330400 1772332200
m=video 30006 RTP/AVP 96 98 97
a=recvonly
a=rtpmap:96 PS/90000
a=rtpmap:98 H264/90000
a=rtpmap:97 MPEG4/90000
y=1200000001
"""
)

MEDIA_STATUS = _wire(
    """
MESSAGE sip:34020000002000000001@192.0.2.10:5060 SIP/2.0
Via: SIP/2.0/UDP 198.51.100.20:5060;rport;branch=z9hG4bKd88
From: <sip:34020000001320000001@3402000000>;tag=d88
To: <sip:34020000002000000001@3402000000>;tag=p1
Call-ID: pb-1@192.0.2.10
CSeq: 1 MESSAGE
Max-Forwards: 70
Content-Type: Application/MANSCDP+xml
Content-Length: 169

<?xml version="1.0" encoding="GB2312"?>
<Notify><CmdType>MediaStatus</CmdType><SN>8</SN><DeviceID>34020000001320000001</DeviceID><NotifyType>121</NotifyType></Notify>
"""
)

DOWNLOAD_SDP = _body(
    """
v=0
o=34020000002000000001 0 0 IN IP4 192.0.2.11
s=Download
u=34020000001320000001:0
c=IN IP4 192.0.2.11
t=1772330400 1772332200
m=video 30008 TCP/RTP/AVP 96
a=recvonly
a=rtpmap:96 PS/90000
a=setup:passive
a=connection:new
a=downloadspeed:4
y=1200000002
"""
)

SUBSCRIBE = _wire(
    """
SUBSCRIBE sip:34020000001180000001@198.51.100.20:5060 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;rport;branch=z9hG4bKs1
From: <sip:34020000002000000001@3402000000>;tag=s1
To: <sip:34020000001180000001@3402000000>
Call-ID: sub-1@192.0.2.10
CSeq: 1 SUBSCRIBE
Max-Forwards: 70
Contact: <sip:34020000002000000001@192.0.2.10:5060>
Event: Catalog;id=1894
Expires: 600
Content-Type: Application/MANSCDP+xml
Content-Length: 139

<?xml version="1.0" encoding="GB2312"?>
<Query><CmdType>Catalog</CmdType><SN>17450</SN><DeviceID>34020000001180000001</DeviceID></Query>
"""
)

NOTIFY = _wire(
    """
NOTIFY sip:34020000002000000001@192.0.2.10:5060 SIP/2.0
Via: SIP/2.0/UDP 198.51.100.20:5060;rport;branch=z9hG4bKn9
From: <sip:34020000001180000001@3402000000>;tag=n9
To: <sip:34020000002000000001@3402000000>;tag=s1
Call-ID: sub-1@192.0.2.10
CSeq: 1 NOTIFY
Max-Forwards: 70
Contact: <sip:34020000001180000001@198.51.100.20:5060>
Event: Catalog;id=1894
Subscription-State: active;expires=590
Content-Type: Application/MANSCDP+xml
Content-Length: 602

<?xml version="1.0" encoding="GB2312"?>
<Notify><CmdType>Catalog</CmdType><SN>162</SN><DeviceID>34020000001180000001</DeviceID><SumNum>2</SumNum><DeviceList Num="2">
<Item><DeviceID>34020000001320000002</DeviceID><Event>OFF</Event></Item>
<Item><DeviceID>34020000001320000003</DeviceID><Event>ADD</Event><Name>Cam3</Name><Manufacturer>Sim</Manufacturer><Model>S-1</Model><Owner>0</Owner><CivilCode>340200</CivilCode><Address>A</Address><Parental>0</Parental><ParentID>34020000001180000001</ParentID><RegisterWay>1</RegisterWay><Secrecy>0</Secrecy><Status>ON</Status></Item>
</DeviceList></Notify>
"""
)

BROADCAST_INVITE = _wire(
    """
INVITE sip:34020000002000000001@192.0.2.10:5060 SIP/2.0
Via: SIP/2.0/UDP 198.51.100.20:5060;rport;branch=z9hG4bKbi1
From: <sip:34020000001370000001@3402000000>;tag=bi1
To: <sip:34020000002000000001@3402000000>
Call-ID: talk-1@198.51.100.20
CSeq: 1 INVITE
Contact: <sip:34020000001370000001@198.51.100.20:5060>
Subject: 34020000002000000001:0200000005,34020000001370000001:1
Max-Forwards: 70
Content-Type: APPLICATION/SDP
Content-Length: 169

v=0
o=34020000001370000001 0 0 IN IP4 198.51.100.20
s=Play
c=IN IP4 198.51.100.20
t=0 0
m=audio 15070 RTP/AVP 8
a=recvonly
a=rtpmap:8 PCMA/8000
f=v/////a/1/8/1
"""
)

MESSAGES = {
    "REGISTER": REGISTER,
    "CHALLENGE": CHALLENGE,
    "REGISTER_SIGNED": REGISTER_SIGNED,
    "REGISTERED": REGISTERED,
    "KEEPALIVE": KEEPALIVE,
    "KEEPALIVE_OK": KEEPALIVE_OK,
    "CATALOG_QUERY": CATALOG_QUERY,
    "CATALOG_PAGE_1": CATALOG_PAGE_1,
    "INVITE": INVITE,
    "INVITE_OK": INVITE_OK,
    "ACK": ACK,
    "BYE": BYE,
    "PLAYBACK_INVITE": PLAYBACK_INVITE,
    "MEDIA_STATUS": MEDIA_STATUS,
    "SUBSCRIBE": SUBSCRIBE,
    "NOTIFY": NOTIFY,
    "BROADCAST_INVITE": BROADCAST_INVITE,
}
"""Every whole message above."""
