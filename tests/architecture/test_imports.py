"""Who may import whom, what a pure core may touch, and how independent the simulators are.

These are the directions of docs/ARCHITECTURE.md as a test: a violation names file, line and rule.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

IMPURE = {"asyncio", "socket", "time", "random", "secrets", "os", "threading", "datetime.now"}
PURE = ("vsp/sip/core", "vsp/media/core", "vsp/model")
PURE_FILES = ("vsp/access/policy.py", "vsp/actions/timeline.py", "vsp/sip/presence.py")

GROUND = {"vsp.model", "vsp.ports", "vsp.errors", "vsp.clock", "vsp.config"}
"""May import one another, nothing above."""

MIDDLE = ("sip", "media", "retention", "access", "health")

FORBIDDEN: dict[str, tuple[str, ...]] = {
    **{
        f"vsp/{package}": (
            *(f"vsp.{other}" for other in MIDDLE if other != package),
            "vsp.store",
            "vsp.actions",
            "vsp.web",
            "vsp.node",
            "vsp.jobs",
        )
        for package in MIDDLE
    },
    "vsp/store": (*(f"vsp.{other}" for other in MIDDLE), "vsp.actions", "vsp.web", "vsp.node"),
    "vsp/actions": ("vsp.store", "vsp.web", "vsp.node", "vsp.jobs"),
    "vsp/web": ("vsp.store", "vsp.node", "vsp.jobs", "vsp.sip", "vsp.media"),
    "vsp/model": tuple(
        f"vsp.{name}"
        for name in (*MIDDLE, "store", "actions", "web", "node", "jobs", "ports", "config")
    ),
    "vsp": ("simulators", "tests"),
    "simulators": (
        "vsp.sip.core.manscdp",
        "vsp.sip.core.digest",
        "vsp.sip.core.sdp",
        "vsp.media",
        "vsp.store",
        "vsp.actions",
        "vsp.web",
        "vsp.node",
    ),
}


def python_files(folder: str) -> Iterator[Path]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        if "node_modules" not in path.parts:
            yield path


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of a file, those under TYPE_CHECKING included."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def touches(module: str, banned: str) -> bool:
    return module == banned or module.startswith(f"{banned}.")


@pytest.mark.parametrize("folder", sorted(FORBIDDEN))
def test_imports_go_one_way(folder: str):
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in python_files(folder)
        for line, module in imports(path)
        for banned in FORBIDDEN[folder]
        if touches(module, banned)
    ]

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("folder", [*PURE, *PURE_FILES])
def test_cores_touch_no_clock_no_socket_and_no_chance(folder: str):
    path = ROOT / folder
    files = [path] if path.is_file() else list(python_files(folder))
    assert files

    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {module}"
        for file in files
        for line, module in imports(file)
        for banned in IMPURE
        if touches(module, banned)
    ]

    assert not wrong, "\n".join(wrong)


def test_nobody_imports_the_composition_root():
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in python_files("vsp")
        for line, module in imports(path)
        if touches(module, "vsp.node")
    ]

    assert not wrong, "\n".join(wrong)


def test_only_the_endpoint_of_sip_has_sockets():
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in python_files("vsp/sip")
        if path.name != "endpoint.py"
        for line, module in imports(path)
        if touches(module, "socket")
    ]

    assert not wrong, "\n".join(wrong)
