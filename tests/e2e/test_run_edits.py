"""An edit at a review: what counts as one, and that its text is never lost."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.support.forms import only_in_full
from tests.support.gates import Gate
from tests.support.terminals import AS_STARTED, QUESTION, Desk, ended


def kept_file(said: str) -> Path:
    """Return the file that a command has named."""
    (path,) = set(re.findall(r"is kept in (\S+)", said))
    return Path(path)


@pytest.mark.parametrize("draft", ["# A\r\ntext\nmixed\r\n", *map(only_in_full, ("# A\r\n\r\ntext\r\n", "# A\ntext"))])
def test_a_draft_that_is_opened_and_closed_is_unchanged_and_asks_again(desk: Desk, draft: str) -> None:
    run_id = desk.waiting_run(draft)
    stored = desk.text(run_id, "copy")
    # The second editor saves with a final newline, as most do.
    for editor in ("true", desk.editor('[ -z "$(tail -c1 "$1")" ] || echo >> "$1"')):
        with desk.terminal(run_id, env={"EDITOR": editor}) as running:
            running.expect(QUESTION)
            running.send("e\r")
            running.expect("Nothing was changed.")
            running.expect(QUESTION)
            running.send("s\r")
            assert ended(running)[0] == 0
    assert desk.status(run_id) == "waiting_approval"
    assert desk.text(run_id, "copy") == stored
    assert not list(desk.folder.glob("vm-draft-*"))


@pytest.mark.parametrize(
    ("draft", "edited"),
    [
        only_in_full("# A\r\nold\r\nend\r\n", b"# A\r\nnew\r\nend\r\n"),
        only_in_full("# A\nold\nend", b"# A\nnew\nend"),
        ("# A\r\nold\nend\r\n", b"# A\r\nnew\nend\r\n"),
    ],
)
def test_an_edit_keeps_the_line_ends_that_it_found(desk: Desk, draft: str, edited: bytes) -> None:
    run_id = desk.waiting_run(draft, "# Legal")
    # sed -z and tr save with the line ends of Unix and a final newline.
    editor = desk.editor("""printf '%s\\n' "$(tr -d '\\r' < "$1" | sed s/old/new/)" > "$1".new && mv "$1".new "$1" """)
    with desk.terminal(run_id, env={"EDITOR": editor}) as running:
        running.expect(QUESTION)
        running.send("e\r")
        running.expect("Legal .*version 1")
    assert desk.text(run_id, "copy") == edited


@pytest.mark.parametrize(
    ("script", "said", "kept"),
    [
        (r"printf 'caf\351' > $1", "The edited text is not UTF-8", b"caf\xe9"),
        ("echo edited > $1; exit 3", "The editor ended with exit code 3: nothing was sent", b"edited\n"),
        only_in_full("echo edited > $1; kill -9 $$", "The editor was ended by signal 9: nothing was sent", b"edited\n"),
        ("head -c 400001 /dev/zero | tr '\\0' x > $1", "Nothing was decided: .*400000", b"x" * 400_001),
        only_in_full("head -c 9000000 /dev/zero | tr '\\0' x > $1", "Nothing was decided: ", b"x" * 9_000_000),
    ],
)
def test_an_edit_that_cannot_be_sent_is_kept_and_opened_again(desk: Desk, script: str, said: str, kept: bytes) -> None:
    run_id = desk.waiting_run("# Draft", "# Legal")
    again = desk.folder / f"opened-{run_id}"
    # The first time it does what the case says, the second time it notes what it was given and saves a good text.
    mark = desk.folder / f"second-{run_id}"
    editor = desk.editor(
        f'if [ -e {mark} ]; then cp "$1" {again}; printf mended > "$1"; exit 0; fi\ntouch {mark}\n{script}'
    )
    with desk.terminal(run_id, env={"EDITOR": editor}) as running:
        running.expect(QUESTION)
        running.send("e\r")
        running.expect(said)
        running.expect(QUESTION)
        file = kept_file(running.before or "")
        assert file.read_bytes() == kept
        assert desk.approved(run_id) == []
        running.send("e\r")
        running.expect("Legal .*version 1")
    assert again.read_bytes() == kept
    assert desk.text(run_id, "copy") == b"mended"
    assert not file.exists()


@pytest.mark.parametrize(
    ("editor", "said"),
    [
        ('vi "', "EDITOR is not a command: vi "),
        ("/no/such/editor --wait", "the editor /no/such/editor --wait cannot be run: No such file or directory"),
        only_in_full("/etc/passwd", "the editor /etc/passwd cannot be run: Permission denied"),
    ],
)
def test_an_editor_that_cannot_be_started_is_one_line_and_asks_again(desk: Desk, editor: str, said: str) -> None:
    run_id = desk.waiting_run("# Draft")
    with desk.terminal(run_id, env={"EDITOR": editor}, columns=200) as running:
        running.expect(QUESTION)
        running.send("e\r")
        running.expect(QUESTION)
        lines = [line for line in (running.before or "").splitlines() if "Nothing was changed" in line]
        assert len(lines) == 1
        assert said in lines[0]
        assert "set EDITOR to another" in lines[0]
        running.send("s\r")
        assert ended(running)[0] == 0
    assert not list(desk.folder.glob("vm-draft-*"))


def test_an_editor_may_have_arguments(desk: Desk) -> None:
    run_id = desk.waiting_run("# Draft", "# Legal")
    editor = desk.editor('[ "$1" = --wait ] && [ "$2" = "a b" ] && printf edited > "$3"')
    with desk.terminal(run_id, env={"EDITOR": f"{editor} --wait 'a b'"}) as running:
        running.expect(QUESTION)
        running.send("e\r")
        running.expect("Legal .*version 1")
    assert desk.text(run_id, "copy") == b"edited"


def test_an_edit_that_the_api_cannot_receive_is_sent_later(desk: Desk) -> None:
    run_id = desk.waiting_run("# Draft", "# Legal")
    port = desk.client.base_url.port
    assert port is not None
    with (
        Gate(port) as gate,
        desk.terminal(run_id, base_url=gate.url, env={"EDITOR": desk.editor('printf edited > "$1"')}) as running,
    ):
        running.expect(QUESTION)
        gate.shut()
        running.send("e\r")
        running.expect("Nothing was decided: the API at .* does not respond")
        running.expect(QUESTION)
        file = kept_file(running.before or "")
        assert file.read_bytes() == b"edited"
        gate.open()
        running.send("e\r")
        running.expect("Legal .*version 1")
    assert desk.text(run_id, "copy") == b"edited"
    assert not file.exists()


def test_an_edit_is_kept_when_somebody_else_decides_meanwhile(desk: Desk) -> None:
    run_id = desk.waiting_run("# Draft", "# Legal")
    decide = desk.folder / f"decided-{run_id}"
    editor = desk.editor(f'printf edited > "$1"; touch {decide}; while [ -e {decide} ]; do sleep 0.05; done')
    with desk.terminal(run_id, env={"EDITOR": editor}) as running:
        running.expect(QUESTION)
        running.send("e\r")
        running.expect("Editing ")
        sha256 = desk.stage(run_id, "copy")["artifact"]["sha256"]
        approved = desk.client.post(f"/runs/{run_id}/stages/copy/approve", json={"artifact_sha256": sha256})
        assert approved.status_code == 200
        while not decide.exists():
            pass
        decide.unlink()
        running.expect("decided meanwhile")
        running.expect(r"is kept in (\S+)")
        assert isinstance(running.match, re.Match)
        assert Path(running.match[1]).read_bytes() == b"edited"
        running.expect("Legal .*version 1")
    assert desk.text(run_id, "copy") == b"# Draft"


@pytest.mark.parametrize("number", [signal.SIGINT, only_in_full(signal.SIGTERM)])
def test_an_edit_is_kept_when_the_command_is_interrupted(desk: Desk, number: signal.Signals) -> None:
    run_id = desk.waiting_run("# Draft")
    started = desk.folder / f"started-{run_id}"
    editor = desk.editor(f'stty raw -echo; printf edited > "$1"; stty sane; touch {started}; exec sleep 60')
    with desk.terminal(run_id, env={"EDITOR": editor}) as running:
        running.expect(QUESTION)
        running.send("e\r")
        while not started.exists():
            pass
        if number is signal.SIGINT:
            running.sendintr()
        else:
            running.kill(number)
        code, said = ended(running)
    assert code == 128 + number
    assert kept_file(said).read_bytes() == b"edited"
    assert f"Come back with: {AS_STARTED} run --resume {run_id}" in said
    assert desk.status(run_id) == "waiting_approval"
