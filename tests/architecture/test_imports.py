"""Who may import whom, what a pure core may touch, and how independent the simulators are.

These are the directions of docs/ARCHITECTURE.md as a test: a violation names file, line and rule.
What is not allowed here is forbidden, so that a new module needs a line of its own.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

GROUND = {"errors", "model", "ports", "clock", "config", "disk", "blocking", "faults"}
"""May import one another, nothing above."""

MIDDLE = {"sip", "media", "access", "retention", "health"}
"""Never one another, never the store: they receive ports."""

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "model": {"errors"},
    "ports": {"errors", "model"},
    "clock": GROUND,
    "config": GROUND,
    "disk": GROUND,
    "blocking": GROUND,
    "faults": set(),
    "link": GROUND,
    "seal": GROUND,
    "logs": GROUND,
    "processes": GROUND,
    "rundir": GROUND | {"processes"},
    "supervisor": GROUND | {"processes", "rundir"},
    "run": GROUND | {"logs", "rundir", "supervisor"},
    "sip": GROUND,
    "media": GROUND | {"link"},
    "access": GROUND,
    "retention": GROUND,
    "health": GROUND,
    "store": GROUND | {"seal"},
    "actions": GROUND | {"access"},
    "web": GROUND | {"access", "actions"},
    "jobs": GROUND | {"actions"},
}
"""Parts of vsp; those that are not named are roots and may import everything but a node."""

ROOTS = {
    "node",
    "composition",
    "worker",
    "administer",
    "checking",
    "demo",
    "doctor",
    "cli",
    "__main__",
}

IMPURE = {
    "asyncio",
    "concurrent",
    "ctypes",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
    "select",
    "selectors",
    "socket",
    "ssl",
    "structlog",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "uuid",
    "vsp.clock.SystemClock",
    "vsp.clock.SystemIds",
}
IMPURE_CALLS = {"now", "utcnow", "today", "fromtimestamp", "open", "urandom"}
"""Bare `open(...)`; the others as methods of a class that is imported from `datetime` or `os`."""

PURE = ("vsp/model", "vsp/sip/core", "vsp/media/core")
PURE_FILES = (
    "vsp/errors.py",
    "vsp/ports.py",
    "vsp/access/policy.py",
    "vsp/actions/timeline.py",
    "vsp/sip/admission.py",
    "vsp/sip/presence.py",
    "vsp/sip/quirks.py",
    "vsp/sip/tally.py",
)
PURE_PARTS = GROUND | {"sip.core", "media.core"}
"""What pure code may import of vsp; a core that reached into a shell would be as impure as it."""

SHARED_WITH_SIMULATORS = (
    "vsp.errors",
    "vsp.clock",
    "vsp.ports",
    "vsp.model",
    "vsp.sip.core.agent",
    "vsp.sip.core.dialog",
    "vsp.sip.core.framing",
    "vsp.sip.core.message",
    "vsp.sip.core.transaction",
    "vsp.sip.core.uri",
)
"""RFC 3261 has one meaning; all that GB/T 28181 adds is written a second time (simulators/)."""

WORLD = ROOT / "simulators/world"
"""The stage on which the platform itself plays; its cameras are the simulators' own as ever."""

CRASHING = ROOT / "simulators/crashing.py"
"""Runs a process of the platform that is to be killed; it knows the names of points, no codec."""


def python_files(folder: str) -> Iterator[Path]:
    path = ROOT / folder
    if path.is_file():
        yield path
        return
    for found in sorted(path.rglob("*.py")):
        if "node_modules" not in found.parts:
            yield found


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of a file, those under TYPE_CHECKING included.

    `from a import b` gives `a.b`: b may be a module.
    """
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: imports are absolute here"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def touches(module: str, banned: str) -> bool:
    return module == banned or module.startswith(f"{banned}.")


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def part_of(path: Path) -> str:
    """`vsp/sip/core/uri.py` is of part `sip`, `vsp/jobs.py` of part `jobs`."""
    return path.relative_to(ROOT / "vsp").parts[0].removesuffix(".py")


def test_every_part_has_its_place():
    parts = {part_of(path) for path in python_files("vsp")} - {"__init__"}

    assert parts == MAY_IMPORT.keys() | ROOTS


def test_imports_go_one_way():
    wrong = []
    for path in python_files("vsp"):
        part = part_of(path)
        if part in ROOTS or part == "__init__":
            continue
        for line, module in imports(path):
            package, _, rest = module.partition(".")
            other = rest.partition(".")[0]
            if package == "vsp" and other not in MAY_IMPORT[part] | {part, "__version__"}:
                wrong.append(f"{where(path, line)} imports {module}")

    assert not wrong, "\n".join(wrong)


def test_the_layers_are_those_of_the_table():
    for part in MIDDLE:
        assert not MAY_IMPORT[part] & (MIDDLE | {"store", "actions", "web", "jobs"})
    for part in GROUND:
        assert MAY_IMPORT[part] <= GROUND


def test_nobody_imports_a_composition_root_of_a_process():
    wrong = [
        f"{where(path, line)} imports {module}"
        for path in python_files("vsp")
        for line, module in imports(path)
        if touches(module, "vsp.node") or touches(module, "vsp.worker")
    ]

    assert not wrong, "\n".join(wrong)


def test_the_product_knows_neither_its_simulators_nor_its_tests():
    wrong = [
        f"{where(path, line)} imports {module}"
        for path in python_files("vsp")
        for line, module in imports(path)
        if any(touches(module, other) for other in ("simulators", "tests", "benchmarks", "av"))
    ]

    assert not wrong, "\n".join(wrong)


def impure_calls(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        owner, _, name = called.rpartition(".")
        clock = owner.rpartition(".")[2] in {"datetime", "date", "os"}
        if name in IMPURE_CALLS and (clock or called == "open"):
            # A moment made of a given one is arithmetic; without a zone it would ask the machine.
            if name == "fromtimestamp" and len(node.args) + len(node.keywords) == 2:
                continue
            yield node.lineno, called


@pytest.mark.parametrize("folder", [*PURE, *PURE_FILES])
def test_cores_touch_no_clock_no_socket_no_file_and_no_chance(folder: str):
    files = list(python_files(folder))
    assert files

    wrong = [
        f"{where(file, line)} imports {module}"
        for file in files
        for line, module in imports(file)
        for banned in IMPURE
        if touches(module, banned)
    ]
    wrong += [
        f"{where(file, line)} calls {call}" for file in files for line, call in impure_calls(file)
    ]

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("folder", [*PURE, *PURE_FILES])
def test_cores_import_nothing_of_ours_that_is_not_pure(folder: str):
    allowed = [f"vsp.{part}" for part in PURE_PARTS]
    allowed += [file.removesuffix(".py").replace("/", ".") for file in PURE_FILES]

    wrong = [
        f"{where(file, line)} imports {module}"
        for file in python_files(folder)
        for line, module in imports(file)
        if touches(module, "vsp") and not any(touches(module, part) for part in allowed)
    ]

    assert not wrong, "\n".join(wrong)


def test_only_the_endpoint_of_sip_has_sockets():
    opening = {"create_datagram_endpoint", "create_server", "create_connection"}
    opening |= {"start_server", "open_connection", "add_reader"}
    wrong = []
    for path in python_files("vsp/sip"):
        if path == ROOT / "vsp/sip/endpoint.py":
            continue
        wrong += [where(path, line) for line, module in imports(path) if touches(module, "socket")]
        wrong += [
            where(path, node.lineno)
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Attribute) and node.attr in opening
        ]

    assert not wrong, "\n".join(wrong)


def test_simulators_share_the_transaction_core_and_no_codec():
    wrong = [
        f"{where(path, line)} imports {module}"
        for path in python_files("simulators")
        if WORLD not in path.parents
        for line, module in imports(path)
        if touches(module, "vsp")
        and not any(touches(module, shared) for shared in SHARED_WITH_SIMULATORS)
        and not (path == CRASHING and touches(module, "vsp.faults"))
    ]

    assert not wrong, "\n".join(wrong)


def test_the_product_reaches_its_named_points_and_can_lay_no_plan():
    """Neither a setting nor the environment nor a call of vsp/ can make a point do anything: what
    vsp/ takes of vsp/faults.py is a name and a call without effect."""
    wrong = [
        f"{where(path, line)} imports {module}"
        for path in python_files("vsp")
        for line, module in imports(path)
        if touches(module, "vsp.faults") and module not in {"vsp.faults.Point", "vsp.faults.reach"}
    ]
    asks = {module for _, module in imports(ROOT / "vsp/faults.py")}

    assert not wrong, "\n".join(wrong)
    assert asks == {"__future__.annotations", "collections.abc.Callable", "enum.StrEnum"}


def test_a_process_of_the_product_has_no_plan():
    code = "import vsp.node, vsp.worker, vsp.faults; assert vsp.faults._plan is None"

    assert "simulators" not in {name.partition(".")[0] for name in loaded_with(code)}


def loaded_with(statement: str) -> set[str]:
    """Every module that a fresh interpreter holds after `statement`."""
    said = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys\nprint(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(said.stdout.split())


def test_what_simulators_share_brings_no_codec_along():
    names = [path.stem for path in (ROOT / "simulators").glob("[!_]*.py")]
    loaded = loaded_with(
        f"import simulators.__main__, {', '.join(f'simulators.{n}' for n in names)}"
    )

    twice = ("vsp.sip.core.digest", "vsp.sip.core.sdp", "vsp.sip.core.manscdp", "vsp.media")
    assert {name for name in loaded if any(touches(name, codec) for codec in twice)} == set()
    assert "vsp.sip.core.transaction" in loaded


def test_a_media_worker_loads_no_database_no_signalling_and_no_sealed_secret():
    """docs/decisions/0003: what parses hostile media holds as little as it can."""
    loaded = loaded_with("import vsp.worker")

    kept_out = ("sqlalchemy", "alembic", "asyncpg", "aiosqlite", "av")
    kept_out += ("vsp.sip", "vsp.actions", "vsp.web", "vsp.node", "vsp.seal", "vsp.access.authn")
    assert {name for name in loaded if any(touches(name, other) for other in kept_out)} == set()
    assert "vsp.media.worker" in loaded
