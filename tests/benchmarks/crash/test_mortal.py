from pathlib import Path

from benchmarks.crash.mortal import mortal
from vsp.config import Config
from vsp.run import NODE_ROLES, platform_children


def test_each_child_is_the_same_process_run_through_another_page():
    children = platform_children(Config(), NODE_ROLES)
    folder = Path("/deaths")

    for child in children:
        made = mortal(child, folder)

        python, dash_m, *words = child.argv
        assert made.argv[:3] == (python, dash_m, "simulators.crashing")
        assert made.argv[-len(words) :] == tuple(words)
        assert f"/deaths/{child.name}.plan" in made.argv
        assert (made.name, made.after, made.withheld, made.outlives) == (
            child.name,
            child.after,
            child.withheld,
            child.outlives,
        )
