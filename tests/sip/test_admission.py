"""Strangers are answered a little, then not at all."""

from vsp.sip import admission
from vsp.sip.admission import Admission, Bucket


def test_a_source_gets_its_burst_then_silence():
    gate = Admission(now=0.0)

    answers = [gate.allow("192.0.2.1", 400, 400, 0.0) for _ in range(20)]

    assert answers == [True] * 5 + [False] * 15


def test_a_source_regains_five_answers_a_second():
    gate = Admission(now=0.0)
    for _ in range(20):
        gate.allow("192.0.2.1", 400, 400, 0.0)

    answers = [gate.allow("192.0.2.1", 400, 400, 1.0) for _ in range(20)]

    assert sum(answers) == 5


def test_silence_does_not_save_up_more_than_the_burst():
    gate = Admission(now=0.0)
    gate.allow("192.0.2.1", 400, 400, 0.0)

    answers = [gate.allow("192.0.2.1", 400, 400, 3600.0) for _ in range(20)]

    assert sum(answers) == admission.ANSWERS_BURST


def test_one_source_does_not_silence_another():
    gate = Admission(now=0.0)
    for _ in range(20):
        gate.allow("192.0.2.1", 400, 400, 0.0)

    assert gate.allow("192.0.2.2", 400, 400, 0.0)


def test_an_answer_of_twice_the_request_goes_out_and_one_byte_more_does_not():
    gate = Admission(now=0.0)

    assert gate.allow("192.0.2.1", 200, 400, 0.0)
    assert not gate.allow("192.0.2.1", 200, 401, 0.0)


def test_a_too_large_answer_costs_the_source_nothing():
    gate = Admission(now=0.0)
    for _ in range(100):
        gate.allow("192.0.2.1", 10, 400, 0.0)

    assert gate.allow("192.0.2.1", 400, 400, 0.0)


def test_forged_sources_share_one_bound():
    gate = Admission(now=0.0)

    answers = sum(gate.allow(f"2001:db8::{n:x}", 400, 400, 0.0) for n in range(5000))

    assert answers == admission.ALL_ANSWERS_PER_S


def test_the_table_of_sources_is_bounded(monkeypatch):
    monkeypatch.setattr(admission, "SOURCES_MAX", 3)
    gate = Admission(now=0.0)

    for n in range(4):
        gate.allow(f"192.0.2.{n}", 400, 400, 0.0)

    assert len(gate) == 3


def test_the_source_longest_unseen_leaves_the_table_first(monkeypatch):
    monkeypatch.setattr(admission, "SOURCES_MAX", 2)
    gate = Admission(now=0.0)
    for _ in range(9):
        gate.allow("192.0.2.1", 400, 400, 0.0)
    gate.allow("192.0.2.2", 400, 400, 0.0)
    gate.allow("192.0.2.1", 400, 400, 0.0)

    gate.allow("192.0.2.3", 400, 400, 0.0)

    assert not gate.allow("192.0.2.1", 400, 400, 0.0)  # still remembered, still empty


def test_a_clock_that_goes_back_gives_no_tokens():
    bucket = Bucket(rate=1.0, burst=1.0, now=100.0)
    bucket.take(100.0)

    assert not bucket.take(50.0)
    assert not bucket.take(50.5)
    assert bucket.take(51.5)


def test_a_fleet_behind_one_address_is_not_held_back():
    gate = Admission(now=0.0)

    answers = [gate.allow_known("192.0.2.1", f"camera {n}", 0.0) for n in range(500) for _ in "ab"]

    assert all(answers)


def test_who_says_that_it_is_a_device_gets_what_that_device_needs():
    gate = Admission(now=0.0)

    at_once = sum(gate.allow_known("192.0.2.1", "camera", 0.0) for _ in range(100))
    a_second_later = sum(gate.allow_known("192.0.2.1", "camera", 1.0) for _ in range(100))

    assert (at_once, a_second_later) == (admission.KNOWN_BURST, admission.KNOWN_PER_S)
    assert gate.allow_known("192.0.2.2", "camera", 1.0)


def test_known_ids_take_bounded_memory(monkeypatch):
    monkeypatch.setattr(admission, "KNOWN_MAX", 100)
    gate = Admission(now=0.0)

    for n in range(1000):
        gate.allow_known(f"2001:db8::{n:x}", "camera", 0.0)

    assert len(gate._known) == 100
