"""Files that are whole or not there at all.

On Linux the bytes go to a file without a name (O_TMPFILE), which gets its name when it is complete: whatever kills the
process, nothing is left behind. Elsewhere a temporary file in the same folder does nearly as well.
"""

import contextlib
import ctypes
import errno
import os
import secrets
import stat
import time
from pathlib import Path

from .errors import DiskFullError, OutputError

TEMPORARY = ".bidiffsr-"
A_DAY = 86_400
"""Seconds after which nobody is still at work on a temporary file."""
NO_SPACE = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raise OutputError if `path` cannot be written; called before the long work. Nothing is created."""
    try:
        if _is_device(path):
            return
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise OutputError(f"'{path}' is a folder.", "Give the name of a file.")
        if target.exists() and not overwrite:
            raise _exists(path)
        if not target.parent.is_dir():
            there = next(folder for folder in target.parents if folder.exists())
            if not there.is_dir():
                raise OutputError(f"'{there.name}' is a file, not a folder.", "Choose another folder.")
            raise OutputError(f"The folder '{path.parent}' does not exist.", f"Create it: mkdir -p '{path.parent}'")
        if target.exists() and not os.access(target, os.W_OK):
            raise OutputError(f"'{path}' is write-protected.", "Change its permissions, or choose another name.")
        if not os.access(target.parent, os.W_OK | os.X_OK):
            raise OutputError(f"The folder '{path.parent}' is write-protected.", "Choose another folder.")
    except (OSError, ValueError) as error:  # such as a name that is too long, or holds a NUL
        raise cannot_write(path, error) from error


def write_atomic(data: bytes, path: Path, *, overwrite: bool) -> None:
    """Write a whole file or none.

    A symbolic link stays, and what it points to is written. An overwritten file keeps its permissions, a new one gets
    the usual ones. Without `overwrite`, a file that appeared meanwhile is never touched.

    Raises:
        OutputError: It exists, or cannot be written there.
        DiskFullError: The disk is full.
    """
    target = Path(os.path.realpath(path))
    try:
        if _is_device(path):
            path.write_bytes(data)  # a device or a pipe takes bytes, not names
        elif not _write_nameless(data, target, overwrite):
            _write_named(data, target, overwrite)
    except FileExistsError:
        raise _exists(path) from None
    except (OSError, ValueError) as error:
        raise cannot_write(path, error) from error


def make_folder(path: Path) -> None:
    """Make a folder, and those that it lies in, where they are not there yet.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None


def sweep(folder: Path, *, older_than: float) -> None:
    """Remove what killed processes left in a folder of files that they wrote, if it is older than some seconds."""
    for path in folder.glob(f"{TEMPORARY}*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime >= older_than:
                path.unlink()


def open_plain(path: Path, flags: int) -> int:
    """Open a file that is one, and no link, pipe or device: what others left in a folder may be anything.

    Raises:
        OSError: it is something else, or cannot be opened.
    """
    careful = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if not hasattr(os, "O_NOFOLLOW") and path.is_symlink():  # Windows, where making a link takes a privilege
        raise OSError(errno.ELOOP, "It is a link", str(path))
    file = os.open(path, flags | careful, 0o666)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "It is not a plain file", str(path))
    return file


def read_plain(path: Path) -> bytes:
    """The content of such a file. Raises OSError as `open_plain`."""
    with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as file:
        return file.read()


def _write_nameless(data: bytes, target: Path, overwrite: bool) -> bool:
    """Write through a file without a name; False where the system has none."""
    if not hasattr(os, "O_TMPFILE") or not Path("/proc/self/fd").is_dir():
        return False
    try:
        file = os.open(target.parent, os.O_TMPFILE | os.O_WRONLY, 0o666)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):  # old kernels, some filesystems
            return False
        raise
    try:
        _write_all(file, data, target)
        return _give_name(file, target, overwrite)
    finally:
        os.close(file)


def _give_name(file: int, target: Path, overwrite: bool) -> bool:
    """Name a nameless file; False where /proc or the filesystem does not allow it."""
    try:
        _link(file, target)
    except FileExistsError:
        if not overwrite:
            raise
        # Linking cannot replace: the file, complete already, needs a second name for the moment between two calls.
        temporary = _temporary_name(target)
        _link(file, temporary)
        try:
            # rename(2) between two names of one file does nothing at all, so the temporary name is removed in any case
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except (PermissionError, NotADirectoryError, FileNotFoundError):
        return False
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.EXDEV):
            return False
        raise
    return True


def _link(file: int, name: Path) -> None:
    # Without a folder descriptor Python calls link(2), which would link the entry in /proc instead of the file.
    folder = os.open(name.parent, os.O_RDONLY)
    try:
        os.link(f"/proc/self/fd/{file}", name.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)


def _write_named(data: bytes, target: Path, overwrite: bool) -> None:
    """Write through a temporary file in the same folder."""
    temporary = _temporary_name(target)
    try:
        file = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666)
        try:
            _write_all(file, data, target)
        finally:
            os.close(file)
        if overwrite:
            temporary.replace(target)
        else:
            _rename_to_new(temporary, target)
        sweep(target.parent, older_than=A_DAY)
    except BaseException:  # also Ctrl-C
        temporary.unlink(missing_ok=True)
        raise


def _rename_to_new(temporary: Path, target: Path) -> None:
    """Give a whole file a name that nothing has yet. Raises FileExistsError."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError as error:  # FAT and the like have no links
        if os.name == "nt":
            temporary.rename(target)  # there it replaces nothing
        elif not _rename_by_kernel(temporary, target):
            if target.exists():  # what appears in the next moment is replaced
                raise FileExistsError from error
            temporary.replace(target)
    else:
        temporary.unlink()


def _rename_by_kernel(temporary: Path, target: Path) -> bool:
    """Rename where POSIX would replace and the kernel can be asked not to; False where it cannot."""
    library = ctypes.CDLL(None, use_errno=True)
    for name, here, not_replacing in (("renameat2", -100, 1), ("renameatx_np", -2, 4)):  # of Linux, of macOS
        if hasattr(library, name):
            paths = os.fsencode(temporary), os.fsencode(target)
            if getattr(library, name)(here, paths[0], here, paths[1], not_replacing) == 0:
                return True
            if ctypes.get_errno() == errno.EEXIST:
                raise FileExistsError
    return False


def _write_all(file: int, data: bytes, target: Path) -> None:
    """Write everything down to the disk, with the permissions of the file that is there already."""
    if hasattr(os, "fchmod") and target.exists():
        os.fchmod(file, stat.S_IMODE(target.stat().st_mode))
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
    os.fsync(file)


def _temporary_name(target: Path) -> Path:
    return target.with_name(f"{TEMPORARY}{secrets.token_hex(6)}.tmp")


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _exists(path: Path) -> OutputError:
    return OutputError(f"'{path}' exists already.", "Choose another name, or use --overwrite.")


def cannot_write(path: Path, error: Exception) -> OutputError:
    """What an error of the system becomes."""
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return DiskFullError(f"The disk is full: '{path}' was not written.", "Free some space, or choose another disk.")
    reason = getattr(error, "strerror", None) or str(error)
    return OutputError(f"'{path}' cannot be written: {reason}.", "Choose another name or folder.")
