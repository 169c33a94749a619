"""Media goes to the device that asked, and not wherever its SDP points."""

from __future__ import annotations

import ipaddress
import random

import pytest

from vsp.access.destination import Surroundings, refusal

PEER = "192.0.2.20"
AROUND = Surroundings(
    networks=[ipaddress.ip_network("198.51.100.0/24"), ipaddress.ip_network("2001:db8:5::/64")],
    own=[("192.0.2.20", 5432), ("127.0.0.1", 8443)],
)


@pytest.mark.parametrize(
    ("host", "peer"),
    [
        (PEER, PEER),
        ("198.51.100.7", PEER),
        ("::ffff:192.0.2.20", PEER),
        (PEER, "::ffff:192.0.2.20"),
        ("[2001:db8:5::9]", PEER),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_the_device_itself_and_listed_media_networks_may_be_sent_to(host: str, peer: str):
    assert refusal(host, 30_000, peer, AROUND) == ""


@pytest.mark.parametrize(
    ("host", "port", "why"),
    [
        ("203.0.113.9", 30_000, "neither the device's own address"),
        ("10.0.0.5", 30_000, "neither the device's own address"),
        ("127.0.0.1", 30_000, "this computer"),
        ("::1", 30_000, "this computer"),
        ("::ffff:127.0.0.1", 30_000, "this computer"),
        ("169.254.169.254", 30_000, "not one host"),
        ("224.0.0.1", 30_000, "not one host"),
        ("0.0.0.0", 30_000, "not one host"),
        ("255.255.255.255", 30_000, "not one host"),
        ("camera.example", 30_000, "no address"),
        ("localhost", 30_000, "no address"),
        ("0x7f000001", 30_000, "no address"),
        ("127.1", 30_000, "no address"),
        ("", 30_000, "no address"),
        (PEER, 22, "none for media"),
        (PEER, 0, "none for media"),
        (PEER, 70_000, "none for media"),
        (PEER, 5432, "service of this platform"),
    ],
)
def test_everything_else_is_refused_with_its_reason(host: str, port: int, why: str):
    assert why in refusal(host, port, PEER, AROUND)


def test_a_device_on_this_computer_does_not_reach_our_own_services():
    assert "service of this platform" in refusal("127.0.0.1", 8443, "127.0.0.1", AROUND)


def test_whatever_an_answer_says_only_two_places_can_be_reached():
    chance = random.Random(7)
    alphabet = "0123456789.:abcdefx[]%/ \x00-"
    allowed = set()
    for _ in range(20_000):
        if chance.random() < 0.5:
            host = ".".join(str(chance.randrange(300)) for _ in range(4))
        else:
            host = "".join(chance.choice(alphabet) for _ in range(chance.randrange(20)))
        if not refusal(host, chance.randrange(-5, 70_000), PEER, AROUND):
            allowed.add(ipaddress.ip_address(host.strip("[]")))

    assert all(each == ipaddress.ip_address(PEER) or each in AROUND.networks[0] for each in allowed)
