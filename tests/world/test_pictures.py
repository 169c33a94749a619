"""Pictures that carry their numbers."""

from __future__ import annotations

from simulators.rtp import Packetiser
from simulators.world.pictures import is_key, numbers_in, packet, picture


def filmed(number: int, *, key: bool = True) -> bytes:
    """The packet of one picture."""
    return packet(Packetiser(7, 0), picture(number, number * 1_000_000, key), number * 1_000_000)


def test_a_picture_is_known_wherever_it_turns_up():
    data = filmed(3) + b"something else" + filmed(0x000001, key=False) + filmed(70_000)

    assert numbers_in(data) == [3, 1, 70_000]
    assert is_key(filmed(1))
    assert not is_key(filmed(1, key=False))
