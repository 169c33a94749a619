"""The commands. Each parses its words, calls one thing, prints what it did.

Errors are one line on stderr with the cause and the next step; exit code 2 when the settings, the
words or this machine are at fault, 1 when a check failed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vsp import __version__, config
from vsp.config import Config
from vsp.errors import VspError
from vsp.supervisor import EXIT_USAGE

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the `vsp` script."""
    words = _parser().parse_args(argv)
    try:
        return int(words.command(words))
    except VspError as error:
        for line in (error.message, error.cause, error.next_step):
            if line:
                print(f"vsp: {line}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return 130


def _load(words: argparse.Namespace) -> Config:
    flags: dict[str, Any] = {}
    for setting in words.set or ():
        name, separator, value = setting.partition("=")
        section, dot, key = name.partition(".")
        if not (separator and dot):
            raise SystemExit(f"vsp: --set wants section.key=value, not {setting!r}")
        flags.setdefault(section, {})[key] = config.value_of(section, key, value)
    return config.load(words.config, flags)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vsp", description="Video sharing platform, GB/T 28181.")
    parser.add_argument("--version", action="version", version=f"vsp {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, help="settings file (default: ./vsp.toml)")
    common.add_argument("--set", action="append", metavar="SECTION.KEY=VALUE", help="one setting")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, parents=[common], help=text, description=text)
        sub.set_defaults(command=command)
        return sub

    sub = add("run", _run, "Run the platform on this machine.")
    sub.add_argument("--role", default="signal,media,web,jobs", help="comma-separated roles")
    sub = add("demo", _demo, "Run the platform with simulated cameras.")
    sub.add_argument("--cameras", type=int, default=8, help="cameras beside the recorder")
    add("doctor", _doctor, "Check ports, addresses, clock, disk, database and store.")
    add("migrate", _migrate, "Bring the database schema up to date.")

    sub = add("user", _user, "Add a user or set a password.")
    sub.add_argument("act", choices=["add", "password", "list"])
    sub.add_argument("name", nargs="?", help="user name")
    sub.add_argument("--role", default="operator", help="admin, operator or auditor")

    sub = add("device", _device, "Add, import or list devices.")
    sub.add_argument("act", choices=["add", "import", "list"])
    sub.add_argument("what", nargs="?", help="20-digit code, or a CSV file")
    sub.add_argument("--name", default="", help="display name")

    sub = add("config", _config, "Write docs/configuration.md, or check the settings.")
    sub.add_argument("act", choices=["docs", "check"])

    sub = add("audit", _audit, "Verify the audit chain.")
    sub.add_argument("act", choices=["verify"])

    sub = add("check", _check, "Check that rows and objects agree; goes on where it was stopped.")
    sub.add_argument(
        "--level",
        default="presence",
        choices=["presence", "size", "hash"],
        help="names (default), names and sizes, or every byte",
    )
    sub.add_argument("--mend", action="store_true", help="mend what loses nothing; deletes nothing")
    sub.add_argument("--fresh", action="store_true", help="begin anew")
    sub.add_argument("--json", action="store_true", help="the result as one JSON object")
    return parser


def _run(words: argparse.Namespace) -> int:
    from vsp import run

    roles = [role for role in words.role.split(",") if role]
    unknown = sorted(set(roles) - set(run.NODE_ROLES))
    if unknown:
        print(
            f"vsp: unknown role {unknown[0]}; roles: {', '.join(run.NODE_ROLES)}", file=sys.stderr
        )
        return EXIT_USAGE
    return asyncio.run(run.run(_load(words), roles))


def _demo(words: argparse.Namespace) -> int:
    from vsp import demo

    if not 1 <= words.cameras <= demo.CAMERAS_MAX:
        print(f"vsp: --cameras wants 1 to {demo.CAMERAS_MAX}", file=sys.stderr)
        return EXIT_USAGE
    return demo.demo(_load(words), words.cameras)


def _doctor(words: argparse.Namespace) -> int:
    from vsp import doctor

    findings = asyncio.run(doctor.examine(_load(words)))
    for finding in findings:
        print(finding)
    return 0 if all(finding.ok for finding in findings) else 1


def _migrate(words: argparse.Namespace) -> int:
    from vsp.store import migrate

    settings = _load(words)
    asyncio.run(migrate(settings))
    print(f"schema is up to date: {settings.database_url.rpartition('@')[2]}")
    return 0


def _user(words: argparse.Namespace) -> int:
    from vsp import administer

    return asyncio.run(administer.user(_load(words), words.act, words.name, words.role))


def _device(words: argparse.Namespace) -> int:
    from vsp import administer

    return asyncio.run(administer.device(_load(words), words.act, words.what, words.name))


def _config(words: argparse.Namespace) -> int:
    if words.act == "docs":
        print(config.documentation(), end="")
    else:
        _load(words)
        print("settings are good")
    return 0


def _check(words: argparse.Namespace) -> int:
    from vsp import checking, logs
    from vsp.retention.check import Level

    settings = _load(words)
    logs.set_up(settings.log, "check")
    wish = checking.Wish(Level(words.level), words.mend, words.fresh, words.json)
    return asyncio.run(checking.check(settings, wish))


def _audit(words: argparse.Namespace) -> int:
    from vsp import administer

    return asyncio.run(administer.verify_audit(_load(words)))
