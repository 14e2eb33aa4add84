"""The operators' commands refuse wrong arguments: exit code 2, one line, nothing started."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.commands import command
from vm_webapp.cli import main
from vm_webapp.durations import parse_duration


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("smoke",), "the following arguments are required: --base-url"),
        (("smoke", "--base-url", "nonsense"), "must begin with http:// or https://"),
        (("smoke", "--base-url", "http://["), "must begin with http:// or https:// and name a host"),
        (("smoke", "--base-url", "http://host:port"), "and name a host"),
        (("smoke", "--base-url", "http://user:hidden@x"), "must have no user name and no password: set VM_API_TOKEN"),
        (("smoke", "--base-url", "http://x", "--wait", "-1"), "must be a whole number from 0 to 3600"),
        (("smoke", "--base-url", "http://\udcff"), "--base-url: must be UTF-8"),
        (("smoke", "--base-url", "http://x", "--expect-build", "\udcff"), "--expect-build: must be UTF-8"),
        (("queue", "pause", "--reason", "\udcff"), "--reason: must be UTF-8"),
        (("queue", "cancel", "--workflow", "\udcff"), "--workflow: must be UTF-8"),
        (("queue", "resume-provider", "\udcff"), "NAME: must be UTF-8"),
        (("keys", "create", "\udcff"), "name: must be UTF-8"),
        (("keys", "revoke", "\udcff"), "name: must be UTF-8"),
        (("purge",), "the following arguments are required: --older-than"),
        (("purge", "--older-than", "90"), "must be a length of time such as 90d"),
        (("purge", "--older-than", "0d"), "more than nothing"),
        (("queue", "sideways"), "invalid choice: 'sideways'"),
        (("queue", "cancel", "--status", "completed"), "invalid choice: 'completed'"),
        (("queue", "resume-provider"), "the following arguments are required: NAME"),
        (("keys",), "the following arguments are required: action"),
        (("keys", "create"), "the following arguments are required: name"),
    ],
)
def test_wrong_usage_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    errors = capsys.readouterr().err
    assert said in errors.strip().splitlines()[-1]
    assert "hidden" not in errors


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90d", timedelta(days=90)),
        ("12h", timedelta(hours=12)),
        ("30m", timedelta(minutes=30)),
        ("45s", timedelta(seconds=45)),
    ],
)
def test_lengths_of_time_are_a_number_and_a_unit(text: str, length: timedelta) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize("text", ["", "d", "-1d", "1.5d", "1w", "0h", "999999999d", "٣d", "1d\n"])
def test_any_other_spelling_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a length of time such as 90d"):
        parse_duration(text)


@pytest.mark.parametrize("value", ["foo://user:hidden@x", "socks5://x:1", "http://x:port"])
@pytest.mark.parametrize("arguments", [("smoke",), ("queue", "status")])
def test_a_wrong_proxy_is_one_clear_line_without_its_password(
    capsys: pytest.CaptureFixture[str], value: str, arguments: tuple[str, ...]
) -> None:
    code, said, errors = command(capsys, {"ALL_PROXY": value}, *arguments, "--base-url", "http://api.invalid")
    assert (code, said) == (2, "")
    assert errors == (
        "vm_webapp: ALL_PROXY is not a proxy that can be used: set it to an http:// or https:// URL,"
        " or add api.invalid to NO_PROXY\n"
    )


@pytest.mark.parametrize("env", [{"APP_ENV": "production"}, {"VM_ENABLE_MANAGED_MODE": "true"}])
@pytest.mark.parametrize("arguments", [("smoke",), ("queue", "status")])
def test_over_an_api_nothing_of_the_mode_is_needed(
    capsys: pytest.CaptureFixture[str], env: dict[str, str], arguments: tuple[str, ...]
) -> None:
    code, said, errors = command(capsys, env, *arguments, "--base-url", "http://127.0.0.1:1")
    assert code == 1
    assert "http://127.0.0.1:1" in said + errors


def test_without_an_api_the_queue_needs_what_the_mode_needs(capsys: pytest.CaptureFixture[str]) -> None:
    said = "vm_webapp: APP_ENV=production requires VM_ENABLE_MANAGED_MODE=true\n"
    assert command(capsys, {"APP_ENV": "production"}, "queue") == (2, "", said)
