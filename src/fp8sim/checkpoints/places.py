"""Where the files of a checkpoint lie, here or behind a URL, and any range of bytes of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fp8sim._support.files import check_source
from fp8sim._support.text import printable

__all__ = ["Folder", "HeldFolder", "RemoteFolder", "is_url", "locate"]

Bytes: TypeAlias = NDArray[np.uint8]


class Folder:
    """A folder of this machine.

    Examples
    --------
    >>> Folder(Path(__file__).parent).read("places.py", 0, 9).tobytes()
    b'\"\"\"Where '
    """

    def __init__(self, path: Any) -> None:
        self.path = path

    def label(self, name: str = "") -> str:
        """Return the name of a file for a message."""
        return printable(str(self.path / name if name else self.path))

    def names(self) -> list[str]:
        """Return the names of what lies in the folder, in order."""
        return sorted(path.name for path in self.path.iterdir())

    def holds(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return bool((self.path / name).is_file())

    def size(self, name: str) -> int:
        """Return the bytes of a file."""
        return int(check_source(self.path / name).stat().st_size)

    def changed(self, name: str) -> str:
        """Return what differs once a file has been written anew, if the file system tells."""
        return str(check_source(self.path / name).stat().st_mtime_ns)

    def read(self, name: str, start: int, stop: int) -> Bytes:
        """Return the bytes from `start` up to `stop`; a file that has fewer is a ValueError."""
        try:
            found = np.fromfile(check_source(self.path / name), np.uint8, stop - start, offset=start)
        except OSError as error:
            raise ValueError(f"{self.label(name)} cannot be read: {error.strerror or error}") from None
        return self._whole(found, name, stop - start)

    def _whole(self, found: Bytes, name: str, wanted: int) -> Bytes:
        if found.size != wanted:
            raise ValueError(f"{self.label(name)} became shorter while it was read; open it again")
        return found


class RemoteFolder(Folder):
    """A folder that fsspec reaches: ``memory://``, ``file://``, ``https://``, ``s3://``, ``hf://``."""

    def __init__(self, fs: Any, path: str, url: str) -> None:
        super().__init__(path.rstrip("/"))
        self.fs, self.url = fs, url

    def label(self, name: str = "") -> str:
        """Return the name of a file for a message."""
        return printable(f"{self.url}/{name}" if name else self.url)

    def _path(self, name: str) -> str:
        return f"{self.path}/{name}"

    def names(self) -> list[str]:
        """Return the names of what lies in the folder, in order."""
        with _in_one_line(self.label()):
            return sorted(
                str(path).rstrip("/").rpartition("/")[2] for path in self.fs.ls(self.path, detail=False)
            )

    def holds(self, name: str) -> bool:
        """Whether there is a file of this name."""
        with _in_one_line(self.label(name)):
            return bool(self.fs.isfile(self._path(name)))

    def size(self, name: str) -> int:
        """Return the bytes of a file."""
        with _in_one_line(self.label(name)):
            size = self.fs.size(self._path(name))
        if size is None:
            raise ValueError(f"{self.label(name)}: the server does not tell its size; download it first")
        return int(size)

    def changed(self, name: str) -> str:
        """Return what differs once a file has been written anew, if the file system tells."""
        with _in_one_line(self.label(name)):
            info = self.fs.info(self._path(name))
        return str(
            next(
                (info[key] for key in ("ETag", "etag", "mtime", "LastModified", "created") if key in info), ""
            )
        )

    def read(self, name: str, start: int, stop: int) -> Bytes:
        """Return the bytes from `start` up to `stop`; a file that has fewer is a ValueError."""
        with _in_one_line(self.label(name)):
            found = self.fs.cat_file(self._path(name), start=start, end=stop) if stop > start else b""
        return self._whole(np.frombuffer(found, np.uint8), name, stop - start)


class HeldFolder(Folder):
    """A folder of which a range of bytes of a file is in memory: it is read once, however often asked for.

    Examples
    --------
    >>> held = HeldFolder(Folder(Path(__file__).parent), "places.py", 3, 9)
    >>> held.read("places.py", 3, 8).tobytes()
    b'Where'
    """

    def __init__(self, folder: Folder, name: str, start: int, stop: int) -> None:
        super().__init__(folder.path)
        self.folder, self.name, self.start, self.stop = folder, name, start, stop
        self.bytes = folder.read(name, start, stop)
        self.bytes.flags.writeable = False

    def read(self, name: str, start: int, stop: int) -> Bytes:
        """Return the bytes from `start` up to `stop`, from memory where they are there."""
        if name == self.name and self.start <= start <= stop <= self.stop:
            return self.bytes[start - self.start : stop - self.start]
        return self.folder.read(name, start, stop)


def is_url(source: object) -> bool:
    """Whether a source is one that fsspec is asked for.

    Examples
    --------
    >>> is_url("memory://model"), is_url("model.safetensors"), is_url("C:/model")
    (True, False, False)
    """
    return isinstance(source, str) and "://" in source


def locate(source: Any) -> tuple[Folder, str]:
    """Return the folder of a source, and the name of the file in it that was meant: none for a folder.

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
        If there is no such file or folder, or it is neither.
    ModuleNotFoundError
        If a URL needs a package that is not installed.

    Examples
    --------
    >>> folder, name = locate(__file__)
    >>> name
    'places.py'
    """
    if is_url(source):
        return _locate_remote(source)
    with contextlib.suppress(TypeError, OSError, ValueError):
        if Path(source).is_dir():
            return Folder(Path(source)), ""
    file = check_source(source)
    return Folder(file.parent), file.name


def _locate_remote(url: str) -> tuple[Folder, str]:
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError:
        raise ModuleNotFoundError("reading a URL needs fsspec: pip install 'fp8sim[remote]'") from None
    with _in_one_line(printable(url)):
        fs, path = url_to_fs(url)
        path = str(path)
        found = "file" if fs.isfile(path) else "folder" if fs.isdir(path) else ""
    above, _, name = path.rstrip("/").rpartition("/")
    if not found:
        raise FileNotFoundError(f"no file or folder {printable(url)}")
    if found == "folder":
        return RemoteFolder(fs, path, url.rstrip("/")), ""
    return RemoteFolder(fs, above, url.rstrip("/").rpartition("/")[0]), name


@contextlib.contextmanager
def _in_one_line(what: str) -> Iterator[None]:
    """Say in one line what a file system raised, of which there are as many kinds as file systems."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"no file or folder {what}") from None
    except ImportError as error:
        raise ModuleNotFoundError(printable(f"{what} needs a package of its own: {error}")) from None
    except Exception as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(printable(f"{what} cannot be read: {words}")) from None
