"""Tickets: only ours, only whole, only in time."""

import base64
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from vsp.access.ticket import (
    TEXT_LENGTH_MAX,
    TicketSigner,
    load_signer,
    load_verifier,
)
from vsp.errors import Denied, Invalid, Unavailable
from vsp.model.ids import ChannelId, UserId, UtcMicros, ViewId
from vsp.model.people import Ticket

NOW_US = UtcMicros(1_795_000_000_000_000)
TICKET = Ticket(ViewId("a" * 32), ChannelId("c" * 28), "live", UserId("u1"), UtcMicros(NOW_US + 1))

SIGNER = TicketSigner(Ed25519PrivateKey.generate())
VERIFIER = SIGNER.verifier()


def test_a_ticket_comes_back_as_it_was_signed():
    assert VERIFIER.verify(SIGNER.sign(TICKET), NOW_US) == TICKET


@given(
    st.text(max_size=60),
    st.text(max_size=60),
    st.sampled_from(["live", "playback"]),
    st.text(max_size=20),
)
def test_any_values_survive_the_round_trip(view: str, channel: str, kind: str, user: str):
    ticket = replace(
        TICKET, view_id=ViewId(view), channel_id=ChannelId(channel), kind=kind, user_id=UserId(user)
    )
    text = SIGNER.sign(ticket)

    if len(text) <= TEXT_LENGTH_MAX:
        assert VERIFIER.verify(text, NOW_US) == ticket


def test_a_ticket_of_ours_is_far_below_the_length_limit_and_fits_a_subprotocol():
    text = SIGNER.sign(TICKET)

    assert len(text) < 300
    assert all(character.isalnum() or character in "-_" for character in text)


def test_every_changed_bit_of_every_byte_is_refused():
    data = base64.urlsafe_b64decode(SIGNER.sign(TICKET) + "==")

    for position in range(len(data)):
        for bit in range(8):
            altered = bytearray(data)
            altered[position] ^= 1 << bit
            text = base64.urlsafe_b64encode(bytes(altered)).rstrip(b"=").decode()
            with pytest.raises(Denied):
                VERIFIER.verify(text, NOW_US)


def test_every_changed_character_is_refused_also_where_it_decodes_to_the_same_bytes():
    text = SIGNER.sign(TICKET)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=. \n\x00é"

    for position in range(len(text)):
        for character in alphabet:
            if character != text[position]:
                with pytest.raises(Denied):
                    VERIFIER.verify(text[:position] + character + text[position + 1 :], NOW_US)


@pytest.mark.parametrize("length", range(0, 200, 7))
def test_a_cut_ticket_is_refused(length: int):
    with pytest.raises(Denied):
        VERIFIER.verify(SIGNER.sign(TICKET)[:length], NOW_US)


@pytest.mark.parametrize("tail", ["=", "==", "A", "AAAA", "\n", " "])
def test_a_ticket_with_something_after_it_is_refused(tail: str):
    with pytest.raises(Denied):
        VERIFIER.verify(SIGNER.sign(TICKET) + tail, NOW_US)


def test_an_overlong_ticket_is_refused_at_the_limit_plus_one():
    with pytest.raises(Denied, match="malformed"):
        VERIFIER.verify("A" * (TEXT_LENGTH_MAX + 1), NOW_US)


def test_a_ticket_ends_at_its_microsecond():
    text = SIGNER.sign(TICKET)

    assert VERIFIER.verify(text, UtcMicros(TICKET.expires_at_us - 1))
    with pytest.raises(Denied, match="expired"):
        VERIFIER.verify(text, TICKET.expires_at_us)


def test_a_ticket_of_another_installation_is_refused():
    foreign = TicketSigner(Ed25519PrivateKey.generate())

    with pytest.raises(Denied, match="not one of ours"):
        VERIFIER.verify(foreign.sign(TICKET), NOW_US)


def test_a_signature_of_ours_over_something_else_is_not_a_ticket():
    key = Ed25519PrivateKey.generate()
    payload = b'["v","c","live","u",9000000000000000]'
    text = base64.urlsafe_b64encode(payload + key.sign(payload)).rstrip(b"=").decode()

    with pytest.raises(Denied):
        TicketSigner(key).verifier().verify(text, NOW_US)


@pytest.mark.parametrize(
    "payload",
    [b"[]", b"{}", b'["v","c","live","u","soon"]', b'["v","c","live",1,2]', b"\xff", b"1"],
)
def test_a_signed_payload_of_another_shape_is_refused(payload: bytes):
    key = Ed25519PrivateKey.generate()
    signature = key.sign(b"vsp.ticket.v1\x00" + payload)
    text = base64.urlsafe_b64encode(payload + signature).rstrip(b"=").decode()

    with pytest.raises(Denied):
        TicketSigner(key).verifier().verify(text, NOW_US)


@given(st.text(max_size=400))
def test_no_text_at_all_is_a_ticket_by_chance(text: str):
    with pytest.raises(Denied):
        VERIFIER.verify(text, NOW_US)


# ---- key files ------------------------------------------------------------------------------


def test_keys_are_made_once_and_only_the_public_one_is_readable_by_others(tmp_path: Path):
    keys = tmp_path / "keys"

    text = load_signer(keys).sign(TICKET)
    again = load_signer(keys).sign(TICKET)

    assert text == again
    assert load_verifier(keys).verify(text, NOW_US) == TICKET
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert stat.S_IMODE((keys / "ticket.key").stat().st_mode) == 0o600
    assert sorted(path.name for path in keys.iterdir()) == ["ticket.key", "ticket.pub"]


def test_a_private_key_that_others_can_read_stops_the_start(tmp_path: Path):
    load_signer(tmp_path)
    (tmp_path / "ticket.key").chmod(0o640)

    with pytest.raises(Invalid, match="read by others"):
        load_signer(tmp_path)


def test_a_missing_public_key_is_written_again_from_the_private_one(tmp_path: Path):
    text = load_signer(tmp_path).sign(TICKET)
    (tmp_path / "ticket.pub").unlink()

    load_signer(tmp_path)

    assert load_verifier(tmp_path).verify(text, NOW_US) == TICKET


def test_a_worker_without_a_key_yet_is_told_to_wait(tmp_path: Path):
    with pytest.raises(Unavailable):
        load_verifier(tmp_path)


@pytest.mark.parametrize("name", ["ticket.key", "ticket.pub"])
def test_a_damaged_key_file_is_named(tmp_path: Path, name: str):
    load_signer(tmp_path)
    (tmp_path / name).write_bytes(b"rubbish")

    with pytest.raises(Invalid, match=name):
        load_verifier(tmp_path) if name == "ticket.pub" else load_signer(tmp_path)
