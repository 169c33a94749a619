"""Planted bugs: each can still be planted. That the world finds them: `make mutants`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.world.mutants import MUTANTS, ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_bug_is_another_program_that_still_compiles(mutant: Mutant, tmp_path: Path):
    text = (ROOT / mutant.file).read_text("utf-8")
    copy = tmp_path / mutant.file
    copy.parent.mkdir(parents=True)
    copy.write_text(text, "utf-8")

    mutant.plant(tmp_path)

    planted = copy.read_text("utf-8")
    assert planted != text
    compile(planted, mutant.file, "exec")


def test_there_are_ten_at_least_and_each_has_a_name_of_its_own():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 10


def test_a_text_that_is_gone_is_not_planted_in_silence(tmp_path: Path):
    copy = tmp_path / MUTANTS[0].file
    copy.parent.mkdir(parents=True)
    copy.write_text("", "utf-8")

    with pytest.raises(LookupError):
        MUTANTS[0].plant(tmp_path)
