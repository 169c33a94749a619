"""Memory of a few seconds."""

from tests.actions.rig import HandClock
from vsp.actions import memo as memo_module
from vsp.actions.memo import LIFE_S, Memo


def test_a_fact_is_remembered_for_its_life_and_no_longer():
    clock = HandClock()
    memo: Memo[str, int] = Memo(clock)
    memo.put("a", 1)

    clock.pass_s(LIFE_S - 0.1)
    assert memo.get("a") == 1
    clock.pass_s(0.1)

    assert memo.get("a") is None


def test_a_dropped_fact_is_asked_again():
    memo: Memo[str, int] = Memo(HandClock())
    memo.put("a", 1)

    memo.drop("a")
    memo.drop("never there")

    assert memo.get("a") is None


def test_a_full_memory_starts_over(monkeypatch):
    monkeypatch.setattr(memo_module, "ENTRIES_MAX", 2)
    memo: Memo[str, int] = Memo(HandClock())
    for key in "abc":
        memo.put(key, 1)

    assert (memo.get("a"), memo.get("c")) == (None, 1)
