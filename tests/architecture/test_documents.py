"""What the documents name exists: files, links, settings, make targets, commands."""

import re
from pathlib import Path

import pytest

from vsp import cli
from vsp.config import Config

ROOT = Path(__file__).resolve().parents[2]

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "vsp/web/ui/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"
)

FOLDERS = ("", "vsp", "vsp/sip", "vsp/sip/core", "vsp/web/ui", "docs")
FOLDERS += ("vsp/web/ui/src/player", "vsp/web/ui/src/styles")
"""Where a path in a document may begin: a page on signalling says `core/agent.py`."""

SETTINGS = {
    f"{section}.{key}"
    for section, field in Config.model_fields.items()
    for key in field.annotation.model_fields
}


def code_in(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", page.read_text("utf-8"))


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_file_that_is_named_exists(page: Path):
    is_path = re.compile(r"[\w./-]+(\.(py|sh|md|css|ts|lock)|(?<=\w)/)(::\w+)?")
    named = [text.partition("::")[0] for text in code_in(page) if is_path.fullmatch(text)]

    missing = [name for name in named if not any((ROOT / f / name).exists() for f in FOLDERS)]

    assert not [name for name in missing if not (page.parent / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_link_leads_somewhere(page: Path):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))

    assert [
        link
        for link in links
        if "://" not in link and not (page.parent / link.partition("#")[0]).exists()
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_setting_that_is_named_exists(page: Path):
    sections = "|".join(Config.model_fields)
    pattern = re.compile(rf"({sections})\.(?!py\b|md\b)[a-z0-9_]+")
    named = {text.split("=")[0].split()[0] for text in code_in(page) if pattern.match(text)}

    assert named <= SETTINGS


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_command_that_is_named_exists(page: Path):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    [commands] = [
        set(action.choices)
        for action in cli._parser()._actions
        if action.dest == "command" or isinstance(action.choices, dict)
    ]
    text = page.read_text("utf-8")

    assert set(re.findall(r"`make ([a-z]+)", text)) <= targets
    assert set(re.findall(r"`vsp ([a-z]+)", text)) <= commands


def test_every_setting_is_read_by_something():
    """A setting that nothing reads is a promise that nothing keeps."""
    code = "\n".join(
        path.read_text("utf-8")
        for path in (ROOT / "vsp").rglob("*.py")
        if "node_modules" not in path.parts
    )

    unread = [
        setting for setting in SETTINGS if not re.search(rf"\.{setting.partition('.')[2]}\b", code)
    ]

    assert not unread
