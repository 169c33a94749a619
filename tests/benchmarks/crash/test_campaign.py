import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.crash import campaign as campaigns
from benchmarks.crash.batch import Scene
from benchmarks.crash.campaign import OUTAGES_MIN, Report, Wish, campaign, faults
from benchmarks.crash.schedule import named_points
from vsp.faults import Point

WISH = Wish(kills=20, seed=0, batch=10, scene=Scene())


def death(process: str = "worker-0", point: str = "", **cost: float) -> dict[str, Any]:
    costs = {"received_s": 1.0, "outage_s": 3.0, "missing_s": 0.0, **cost}
    return {"at_us": 1, "process": process, "point": point, "streams": 10, **costs}


def result(seed: int = 0, kills: int = 10, **found: Any) -> dict[str, Any]:
    """A batch in which everything went well, but for what is given."""
    points = named_points(kills, seed)
    deaths = [death(point=point.value) for point in points]
    deaths += [death("node", outage_s=0.0, received_s=0.0)] * (kills - len(points))
    names = "acknowledged_lost strays altered miscounted probe orphans missed"
    return {
        "kills": deaths,
        **{name: [] for name in names.split()},
        **dict.fromkeys(("doubled", "disordered", "unknown"), 0),
        "acknowledged": 9,
        "pictures": 900,
        "probed": 3,
        "check": "",
        "took_s": 60.0,
        "back_s": [2.0],
        "sync_s": [0.01],
        **found,
    }


def report(*results: dict[str, Any]) -> Report:
    return Report(WISH, results)


def test_a_campaign_in_which_everything_went_well_holds():
    well = report(result(0), result(1))

    assert well.holds, well.table()
    assert [figure.value for figure in well.figures] == [0, 1.0, 3.0, 3.0, 0.0]
    assert "points hit: 10, at least 10 of all 40" in well.table()


@pytest.mark.parametrize(
    "found",
    [
        {"acknowledged_lost": ["v1/a.mp4"]},
        {"strays": [{"channel": "c"}]},
        {"doubled": 1},
        {"disordered": 1},
        {"unknown": 1},
        {"altered": ["v1/a.mp4"]},
        {"miscounted": ["v1/a.mp4"]},
        {"probe": ["a.mp4: 3 pictures decode, 4 are stamped"]},
        {"orphans": [".uploads/u1"]},
        {"check": "[{}]"},
    ],
)
def test_whatever_is_wrong_in_one_batch_fails_the_campaign(found: dict[str, Any]):
    assert faults(result(**found))
    assert not report(result(0, **found), result(1)).holds


@pytest.mark.parametrize(
    ("process", "cost"),
    [("worker-1", {"received_s": 4.01}), ("node", {"missing_s": 0.1})],
)
def test_a_death_that_cost_too_much_fails_the_campaign(process: str, cost: dict[str, float]):
    dear = result(0)
    dear["kills"][-1] = death(process, **cost)

    assert faults(dear)
    assert not report(dear, result(1)).holds


@pytest.mark.parametrize(("slow", "holds"), [(5, True), (6, False)])
def test_of_many_deaths_the_95th_percentile_of_outages_is_held(slow: int, holds: bool):
    outages = [10.5] * slow + [3.0] * (OUTAGES_MIN - slow)
    many = result(kills=20)
    many["kills"] += [death(outage_s=outage_s) for outage_s in outages[: OUTAGES_MIN - 10]]
    for kill in many["kills"][:10]:
        kill["outage_s"] = 3.0

    assert len(report(many).costs("outage_s")) == OUTAGES_MIN
    assert report(many).holds is holds


@pytest.mark.parametrize(("slow", "holds"), [(4, True), (8, False)])
def test_of_few_deaths_the_median_of_outages_is_held(slow: int, holds: bool):
    few = [result(0), result(1)]
    for kill in [kill for each in few for kill in each["kills"] if kill["point"]][:slow]:
        kill["outage_s"] = 10.5

    assert report(*few).holds is holds


def test_a_point_that_was_due_and_hit_nobody_is_named():
    missed = result(0)
    name = missed["kills"][0]["point"]
    missed["kills"][0]["point"] = ""

    judged = report(missed, result(1))

    assert judged.not_hit == [name]
    assert not judged.holds
    assert f"not hit: {name}" in judged.table()


def test_a_campaign_with_fewer_deaths_than_asked_for_fails():
    few = result(0)
    few["kills"].pop()

    assert not report(few, result(1)).holds


def test_a_thousand_deaths_are_due_at_every_point():
    wish = Wish(kills=1000, seed=1)

    assert len(wish.batches) == 20
    assert Report(wish, []).due.keys() == {point.value for point in Point}


def test_an_interrupted_campaign_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ran: list[int] = []

    def run_batch(seed: int, kills: int, *_: object) -> dict[str, Any]:
        ran.append(seed)
        if seed == 1 and len(ran) == 2:
            raise KeyboardInterrupt
        return result(seed, kills)

    monkeypatch.setattr(campaigns, "run_batch", run_batch)
    with pytest.raises(KeyboardInterrupt):
        campaign(WISH, tmp_path)

    assert campaign(WISH, tmp_path).holds
    assert ran == [0, 1, 1]
    assert json.loads((tmp_path / "report.json").read_text())["holds"]
    assert campaign(WISH, tmp_path, fresh=True).holds
    assert ran[3:] == [0, 1]


def test_what_another_program_did_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(campaigns, "run_batch", lambda seed, kills, *_: result(seed, kills))
    campaign(WISH, tmp_path)
    for file in tmp_path.glob("*.json"):
        kept = json.loads(file.read_text())
        kept["asked"]["program"] = "another"
        kept["doubled"] = 7
        file.write_text(json.dumps(kept))

    assert campaign(WISH, tmp_path).total("doubled") == 0
