"""Named tolerances and who showed them."""

import re
from pathlib import Path

import pytest

import vsp.sip
from vsp.model.ids import DeviceId, UtcMicros
from vsp.sip import quirks
from vsp.sip.quirks import QUIRKS, QuirkLedger

CAMERA = DeviceId("camera")


def test_the_first_sighting_is_told_from_the_later_ones():
    ledger = QuirkLedger()

    assert ledger.seen(CAMERA, "empty-message", UtcMicros(10))
    assert not ledger.seen(CAMERA, "empty-message", UtcMicros(20))


def test_a_sighting_counts_and_keeps_first_and_last_time():
    ledger = QuirkLedger()
    for at_us in (10, 20, 30):
        ledger.seen(CAMERA, "sn-missing", UtcMicros(at_us))

    (shown,) = ledger.of(CAMERA)

    assert (shown.quirk.name, shown.first_us, shown.last_us, shown.times) == (
        "sn-missing",
        10,
        30,
        3,
    )


def test_a_device_without_quirks_shows_none():
    assert QuirkLedger().of(CAMERA) == ()


def test_an_undeclared_quirk_is_our_own_fault():
    with pytest.raises(KeyError):
        QuirkLedger().seen(CAMERA, "no-such-thing", UtcMicros(0))


def test_a_removed_device_is_forgotten():
    ledger = QuirkLedger()
    ledger.seen(CAMERA, "empty-message", UtcMicros(10))

    ledger.forget(CAMERA)

    assert ledger.of(CAMERA) == ()


def test_the_ledger_is_bounded(monkeypatch):
    monkeypatch.setattr(quirks, "DEVICES_MAX", 2)
    ledger = QuirkLedger()

    for n in range(3):
        ledger.seen(DeviceId(f"d{n}"), "empty-message", UtcMicros(n))

    assert ledger.of(DeviceId("d0")) == ()
    assert ledger.of(DeviceId("d2"))


def test_every_declared_quirk_is_acted_upon_somewhere():
    folder = Path(vsp.sip.__file__).parent
    code = "".join(
        path.read_text("utf-8") for path in folder.glob("*.py") if path.name != "quirks.py"
    )

    unused = [name for name in QUIRKS if f'"{name}"' not in code]

    assert unused == []


@pytest.mark.parametrize("quirk", QUIRKS.values(), ids=lambda quirk: quirk.name)
def test_every_quirk_names_the_clause_it_breaks(quirk):
    assert re.search(r"RFC \d{4} [\d]|GB/T 28181-20(16|22)", quirk.clause)
    assert quirk.seen_at
    assert quirk.handling
