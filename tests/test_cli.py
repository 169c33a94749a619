"""The commands as a person types them: what they print, what they refuse, their exit codes."""

import pytest

from vsp import config
from vsp.cli import main

DEVICE = "34020000001320000001"


@pytest.fixture
def at(tmp_path):
    return ["--set", f"node.data_dir={tmp_path / 'data'}"]


def test_a_bad_setting_is_refused_by_name_with_exit_code_2(capsys):
    assert main(["config", "check", "--set", "web.port=99999"]) == 2
    assert "web.port" in capsys.readouterr().err


def test_an_unknown_role_is_refused(capsys):
    assert main(["run", "--role", "signal,cook"]) == 2
    assert "cook" in capsys.readouterr().err


def test_the_configuration_page_is_printed(capsys):
    assert main(["config", "docs"]) == 0
    assert capsys.readouterr().out == config.documentation()


def test_a_device_is_added_listed_and_not_added_twice(at, capsys):
    assert main(["device", "add", DEVICE, "--name", "东门", *at]) == 0
    code, password = capsys.readouterr().out.split()
    assert code == DEVICE
    assert len(password) > 16

    assert main(["device", "list", *at]) == 0
    assert capsys.readouterr().out == f"{DEVICE}\tunknown\t东门\n"
    assert main(["device", "add", DEVICE, *at]) == 2


def test_an_import_names_its_bad_lines(at, tmp_path, capsys):
    sheet = tmp_path / "devices.csv"
    sheet.write_bytes(
        f"国标编号,密码,名称\n{DEVICE},s3cret-lamp,东门\n12,x,西门\n".encode("gb18030")
    )

    assert main(["device", "import", str(sheet), *at]) == 1
    said = capsys.readouterr()
    assert "1 of 2 added" in said.out
    assert "line 3" in said.err


def test_an_import_without_its_file_is_refused_in_words(at, tmp_path, capsys):
    assert main(["device", "import", str(tmp_path / "none.csv"), *at]) == 2
    assert "none.csv cannot be read" in capsys.readouterr().err


def test_a_user_is_added_with_a_password_of_its_own_and_the_chain_holds(at, capsys):
    assert main(["user", "add", "li", "--role", "auditor", *at]) == 0
    assert main(["user", "password", "li", *at]) == 0
    assert main(["user", "list", *at]) == 0
    assert "li\tauditor\tenabled" in capsys.readouterr().out

    assert main(["audit", "verify", *at]) == 0
    assert "audit rows follow one another" in capsys.readouterr().out


def test_an_unknown_user_or_role_is_refused(at, capsys):
    assert main(["user", "password", "nobody", *at]) == 2
    assert main(["user", "add", "li", "--role", "king", *at]) == 2
    assert "king" in capsys.readouterr().err
