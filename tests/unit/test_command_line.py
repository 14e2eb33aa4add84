"""The command line's refusals: one clear line on stderr, exit code 2, nothing started."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vm_webapp.cli import keys, main
from vm_webapp.errors import InvalidInput

ID = "01a20c66-c2a9-70b2-9d9f-0558575aa31b"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run",), "one of the arguments request --resume --retry is required"),
        (("run", "x", "--retry", ID), "argument --retry: not allowed with argument request"),
        (("run", "--resume", ID, "--retry", ID), "argument --retry: not allowed with argument --resume"),
        (("run", "x", "--from-stage", "plan"), "argument --from-stage: only allowed with argument --retry"),
        (("run", "--retry", ID, "--brand", "y"), "argument --brand: not allowed with argument --retry"),
        (("run", "--resume", ID, "--project", "y"), "argument --project: not allowed with argument --resume"),
        (("run", "--retry", ID, "--workflow", "plan_90d"), "argument --workflow: not allowed with argument --retry"),
        (("run", "x", "--budget-tokens", "0"), "must be a whole number from 1 to"),
        (("run", "x", "--budget-money", "0.0"), "must be a sum of money above 0"),
        (("run", "x", "--budget-money", "-1"), "argument --budget-money: "),
        (("run", "--resume", ID, "--budget-tokens", "5"), "not allowed with argument --resume: use --retry"),
        (("run", "\udcff"), "argument request: must be UTF-8"),
        (("run", "x", "--workflow", "\udcff"), "argument --workflow: must be UTF-8"),
        (("run", "x", "--nonsense"), "unrecognized arguments: --nonsense"),
        (("run", "x", "--base-url", "nonsense"), "--base-url: must begin with http:// or https://"),
        (("nonsense",), "invalid choice: 'nonsense'"),
        (("worker", "--poll-interval-ms", "0"), "must be a whole number from 1 to"),
        (("worker", "--threads", "x"), "must be a whole number from 1 to"),
        (("worker", "--threads", "513"), "must be a whole number from 1 to 512"),
        (("serve", "--port", "70000"), "must be a whole number from 0 to 65535"),
        (("serve", "--port", "-1"), "must be a whole number from 0 to 65535"),
        (("migrate", "sideways"), "invalid choice: 'sideways'"),
        ((), "the following arguments are required: command"),
    ],
)
def test_wrong_usage_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("vm_webapp: ")
    assert said in line


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"VM_ENABLE_MANAGED_MODE": "true"}, "VM_ENABLE_MANAGED_MODE=true requires VM_DB_URL"),
        (
            {"VM_ENABLE_MANAGED_MODE": "true", "VM_DB_URL": "postgresql://user:secret@db/vm"},
            "VM_ENABLE_MANAGED_MODE=true requires VM_REDIS_URL",
        ),
        ({"APP_ENV": "production"}, "APP_ENV=production requires VM_ENABLE_MANAGED_MODE=true"),
        ({"PORT": "eight"}, "PORT must be a whole number from 1 to 65535"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "worker", "migrate"])
def test_a_wrong_environment_stops_every_command_at_once(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: str,
    env: dict[str, str],
    said: str,
) -> None:
    for name in ("VM_ENABLE_MANAGED_MODE", "VM_DB_URL", "VM_REDIS_URL", "APP_ENV", "PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VM_WORKSPACE_ROOT", str(tmp_path / "workspace"))
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert main([command]) == 2
    assert capsys.readouterr().err == f"vm_webapp: {said}\n"
    assert not (tmp_path / "workspace").exists()


def test_an_unexpected_exception_is_one_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object, **__: object) -> int:
        raise KeyError("items")

    monkeypatch.setattr(keys, "run_list", break_down)
    assert main(["keys", "list"]) == 1
    assert capsys.readouterr().err == "vm_webapp: this is a defect: KeyError: 'items' (LOG_LEVEL=DEBUG shows where)\n"


def test_no_error_reaches_the_terminal_as_a_control_character(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise InvalidInput("there is no key \x1b[2J\nof this name")

    monkeypatch.setattr(keys, "run_list", refuse)
    assert main(["keys", "list"]) == 2
    assert capsys.readouterr().err == "vm_webapp: there is no key \\x1b[2J\\nof this name\n"
    with pytest.raises(SystemExit):
        main(["keys", "list", "\x1b[2J"])
    assert "\x1b" not in capsys.readouterr().err


COMMANDS = ("serve", "worker", "run", "migrate", "smoke", "doctor", "queue", "autoscale", "keys", "audit", "purge")


def _help(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    listed = re.findall(r"^    (\S+)(?:  +\S.*)?$", _help(capsys), re.MULTILINE)
    assert tuple(listed) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_of_its_own(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert f"usage: python -m vm_webapp {command}" in _help(capsys, command)


def test_the_readme_names_every_command() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"`python -m vm_webapp {' | '.join(COMMANDS)}`" in readme
