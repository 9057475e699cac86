"""One writer for a project: a file in its folder, locked by the system while a process builds, or trains.

In: a project's folder. Out: the lock, held until it is let go or the process ends, however it ends. The process's
number stands in the file for the message to a second process; it decides nothing, so a killed writer blocks nobody.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Self

from carspotter.errors import CatalogError

BUILDING, TRAINING = ".lock", ".train.lock"
"""What is locked: the catalogue and all that a build makes; the run of a training, beside which a build may go on."""
_BUSY = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}
_PID_BYTES = 32


class ProjectLock:
    """A project's lock; processes that this one starts anew do not inherit it, forked ones do."""

    def __init__(self, project: Path, file: str = BUILDING) -> None:
        """Take the lock at once; raises CatalogError when another process has it, or the folder cannot be locked."""
        path = project / file
        try:
            # Never removed: a second process could otherwise lock a file that a third one no longer sees.
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        except OSError as error:
            raise CatalogError(
                f"{path}: cannot be opened to lock the project ({error.strerror}); nothing was written"
            ) from error
        try:
            _lock(self._file)
        except OSError as error:
            holder = _read_pid(self._file)
            os.close(self._file)
            raise _refusal(path, error, holder) from error
        os.ftruncate(self._file, 0)
        # A full disk may refuse these few bytes; the lock holds without them.
        with contextlib.suppress(OSError):
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, str(os.getpid()).encode())

    def __enter__(self) -> Self:
        """Return the lock, which is held."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lock."""
        self.release()

    def release(self) -> None:
        """Release the lock."""
        os.close(self._file)


def _refusal(path: Path, error: OSError, holder: str) -> CatalogError:
    who = holder or "another process"
    if error.errno in _BUSY and path.name == TRAINING:
        return CatalogError(f"{path.parent} is being trained on by {who}; wait until it has finished, or stop it")
    if error.errno in _BUSY:
        return CatalogError(f"{path.parent} is being built by {who}; wait until it has finished, or stop it")
    return CatalogError(
        f"{path.parent}: this file system cannot lock files ({error.strerror}); keep the project on a local disk"
    )


def _read_pid(file: int) -> str:
    try:
        os.lseek(file, 0, os.SEEK_SET)
        content = os.read(file, _PID_BYTES).decode("ascii", "ignore").strip()
    except OSError:
        return ""
    return f"process {content}" if content.isdigit() else ""


try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    # Beyond the number of the process: what is locked there cannot be read by others.
    _LOCKED_BYTE = 1 << 20

    def _lock(file: int) -> None:
        os.lseek(file, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
else:

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
