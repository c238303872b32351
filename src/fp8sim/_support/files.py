"""Files: what can be read and written is said before any work, and what is written is whole or not there."""

from __future__ import annotations

import contextlib
import difflib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from fp8sim._support import memory
from fp8sim._support.text import printable, shown

__all__ = ["check_distinct", "check_source", "check_target", "locked", "named", "read_bytes", "written"]


def named(path: str | os.PathLike[str]) -> Path:
    """Return a name of a file as a `Path`; what is no name is a TypeError.

    Examples
    --------
    >>> named(3)
    Traceback (most recent call last):
    TypeError: the name of a file must be text or a Path, got 3
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"the name of a file must be text or a Path, got {shown(path)}")
    return Path(path)


def check_source(path: str | Path) -> Path:
    """Return `path` if it is a file that can be read to its end; what never ends or waits for ever is none.

    Raises
    ------
    FileNotFoundError
        If there is no such file; the message names those with names near it.
    ValueError
        If it is a folder, a device, a pipe or a socket.

    Examples
    --------
    >>> check_source("/dev/zero")
    Traceback (most recent call last):
    ValueError: /dev/zero is a device, a pipe or a socket; name a file
    """
    file = named(path)
    try:
        found, folder = file.exists(), file.is_dir()
    except (OSError, ValueError) as error:  # a name too long, or with a NUL
        raise ValueError(
            f"{printable(str(path))} is no name of a file: {getattr(error, 'strerror', None) or error}"
        ) from None
    if not found:
        siblings = file.parent.iterdir() if file.parent.is_dir() else ()
        near = difflib.get_close_matches(file.name, [p.name for p in siblings], n=3)
        hint = printable(f"; near it are {', '.join(near)}") if near else ""
        raise FileNotFoundError(f"no file {printable(str(path))}{hint}")
    if folder:
        raise ValueError(f"{printable(str(path))} is a folder; name a file in it")
    if not file.is_file():
        raise ValueError(f"{printable(str(path))} is a device, a pipe or a socket; name a file")
    return file


def read_bytes(path: str | Path) -> bytes:
    """Return all of a file that `check_source` takes, if there is memory for it.

    Examples
    --------
    >>> read_bytes(__file__)[:3]
    b'\"\"\"'
    """
    file = check_source(path)
    memory.require(file.stat().st_size, str(path))
    return file.read_bytes()


def check_target(path: str | Path, such_as: str = "report.html") -> Path:
    """Return where a file for `path` goes, links followed; refuse what cannot be written.

    Called before anything is measured, so that a wrong name costs no waiting.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    ValueError
        If the name is a folder, a device or a pipe, or a link to itself.
    PermissionError
        If the folder is not writable, or the file that is there is read-only.

    Examples
    --------
    >>> check_target("no/such/folder/report.html")
    Traceback (most recent call last):
    FileNotFoundError: no folder no/such/folder to write report.html in; make it first
    """
    file, name = named(path), printable(str(path))
    try:
        target = file.resolve()
        if target.is_symlink():  # to itself: from Python 3.13 on that is what it resolves to
            raise OSError
        there, folder = target.exists(), target.is_dir()
    except (OSError, RuntimeError, ValueError):  # a link to itself; a NUL; too long
        raise ValueError(f"{name} is no name of a file, or a link to itself; name a file") from None
    if folder:
        raise ValueError(f"{name} is a folder; name a file in it, such as {printable(str(file / such_as))}")
    if not target.parent.is_dir():
        where = printable(str(file.parent))
        raise FileNotFoundError(f"no folder {where} to write {printable(file.name)} in; make it first")
    if there and not target.is_file():
        raise ValueError(f"{name} is no regular file; name one, such as {printable(str(such_as))}")
    if there and not target.stat().st_mode & 0o222:  # a folder's owner could replace it all the same
        raise PermissionError(f"{name} is read-only; name another file, or make it writable first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise PermissionError(
            f"folder {printable(str(target.parent))} is not writable; name a file in another one"
        )
    return target


def check_distinct(**paths: str | Path | None) -> None:
    """Refuse one file for two options, before the work: what is written last would replace the other.

    Examples
    --------
    >>> check_distinct(out="rows.jsonl", csv="./rows.jsonl", plot=None)
    Traceback (most recent call last):
    ValueError: --out and --csv are both ./rows.jsonl; give each a file of its own
    """
    taken: dict[str, str] = {}
    for option, path in paths.items():
        if path is not None:
            first = taken.setdefault(os.path.normcase(os.path.realpath(named(path))), option)
            if first != option:
                name = printable(str(path))
                raise ValueError(f"--{first} and --{option} are both {name}; give each a file of its own")


@contextlib.contextmanager
def written(path: str | Path, mode: str = "wb", **options: Any) -> Iterator[IO[Any]]:
    """Open a file to be written whole or not at all: beside its place, where it goes in one step at the end.

    A reader sees the old file or the new one, and a full disk or an interrupt leaves the old one. `options`
    are those of `open`.

    Raises
    ------
    FileNotFoundError, ValueError, PermissionError, OSError
        As `check_target`, or if the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with written(Path(folder) / "x.txt", "w", encoding="utf-8") as stream:
    ...         _ = stream.write("all of it")
    ...     [(file.name, file.read_text()) for file in Path(folder).iterdir()]
    [('x.txt', 'all of it')]
    """
    target = check_target(path)
    part = target.with_name(f".{secrets.token_hex(8)}.part")  # short, whatever the length of the name
    try:
        with part.open(mode.replace("w", "x"), **options) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            shutil.copymode(target, part)
        part.replace(target)
    except OSError as error:
        raise type(error)(f"cannot write {printable(str(path))}: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)


_locks: set[int] = set()  # handles of this process


def _let_go() -> None:
    """Close, in a process that was forked off, its locks: it would hold them when its parent is gone."""
    for handle in _locks:
        os.close(handle)
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep a folder or a file for one run in a block, and refuse a second; the system lets go in any case.

    Where there is no such lock (Windows, some network file systems) nothing is refused.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder)):
    ...     with locked(Path(folder)):
    ...         pass
    Traceback (most recent call last):
    ValueError: another run writes in ...; wait for its end, or name another folder
    """
    try:
        import fcntl
    except ModuleNotFoundError:
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    _locks.add(handle)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(os.fstat(handle), path.stat())
        except (BlockingIOError, FileNotFoundError):
            ours = False
        except OSError:
            ours = True
        if not ours:  # or the file that is there now is not the one that was opened: a run has just ended
            kind = "folder" if path.is_dir() else "file"
            raise ValueError(f"another run writes in {path}; wait for its end, or name another {kind}")
        yield
    finally:
        if handle in _locks:  # it is not in a process that was forked off in the block
            _locks.remove(handle)
            os.close(handle)
