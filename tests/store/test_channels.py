from collections.abc import Sequence

from tests.contract.manual import CountingIds
from tests.contract.samples import camera_id, item
from vsp.model.device import CatalogItem
from vsp.model.ids import ChannelId, GbId
from vsp.store.channels import Answer, KnownItem

ENCODER = GbId("34020000001110000009")


def answer(*pieces: Sequence[CatalogItem]) -> Answer:
    made = Answer()
    for piece in pieces:
        made.take(piece)
    return made


def stored(made: Answer) -> dict[GbId, KnownItem]:
    """What is known once all of an answer was new and is written."""
    new, _ = made.judge(list(made.items.values()), {}, CountingIds().row_id)
    return {
        judged.item.gb_id: KnownItem(judged.channel_id, judged.fingerprint, "", False)
        for judged in new
    }


def test_an_answer_taken_in_pieces_is_the_same_as_taken_whole():
    items = [item(1), item(2, gb_id=ENCODER), item(3, parent_ids=(ENCODER,)), item(1, name="twice")]

    whole, pieces = answer(items), answer(items[:2], [], items[2:])

    assert pieces == whole
    assert whole.items[camera_id(1)].name == "twice"
    assert ENCODER in whole.parents


def test_the_same_answer_again_changes_nothing_and_another_word_changes_its_item():
    before = answer([item(1), item(2)])
    known = stored(before)

    again = before.judge(list(before.items.values()), known, CountingIds().row_id)
    after = answer([item(1, name="other"), item(2)])
    new, altered = after.judge(list(after.items.values()), known, CountingIds().row_id)

    assert again == ([], [])
    assert new == []
    assert [judged.channel_id for judged in altered] == [known[camera_id(1)].channel_id]


def test_what_is_stored_and_not_in_the_answer_still_hangs_below_its_parent():
    child = KnownItem(ChannelId("c1"), "", ENCODER, False)
    made = answer([item(gb_id=ENCODER)])

    made.heed({camera_id(7): child})
    [encoder], _ = made.judge(list(made.items.values()), {}, CountingIds().row_id)

    assert not encoder.playable


def test_missing_is_told_once():
    there = KnownItem(ChannelId("c1"), "", "", False)
    gone = KnownItem(ChannelId("c2"), "", "", True)
    known = {camera_id(1): there, camera_id(2): gone, camera_id(3): there}

    assert answer([item(1)]).newly_missing(known) == [camera_id(3)]
