"""The file of a sweep, in JSON Lines: what is swept, then each row once it is there, to resume from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from fp8sim._support.files import check_target, locked, read_bytes, written
from fp8sim._support.text import shown
from fp8sim.experiments.sweeps.grid import Grid
from fp8sim.experiments.sweeps.values import canonical, from_json, to_json
from fp8sim.experiments.sweeps.workers import Outcome, columns_of

__all__ = ["FORMAT", "Record", "recorded"]

FORMAT = 1  # of the file; a number of its own, so that a version that changes it can still read the old one

_CHANGED = {
    "code": "the code of the function, or a value that it holds or reads, has changed",
    "objects": "what a name in the grid stands for has changed",
}

Header = dict[str, Any]


@contextlib.contextmanager
def recorded(path: str | Path, header: Header, grid: Grid, what: str = "sweep") -> Iterator[Record]:
    """Keep the rows of a sweep, or of what else, in a file, for this run alone; begin with those there are.

    Each row is written as it comes, and can be cut off anywhere. At the end of the block, if every point is
    there, the rows are in the order of the grid: the bytes of the file do not depend on how it came about.

    Raises
    ------
    ValueError
        If the file is of another sweep, or of none, or another run writes in it.
    OSError
        If it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from fp8sim.experiments.sweeps.grid import read_grid
    >>> grid = read_grid({"exp": [2, 3]}, lambda exp: 2**exp)
    >>> folder = tempfile.TemporaryDirectory()
    >>> file = Path(folder.name) / "powers.jsonl"
    >>> with recorded(file, {"measure": "powers"}, grid) as record:
    ...     record.add(1, {"result": {"value": 8}})
    >>> with recorded(file, {"measure": "powers"}, grid) as record:
    ...     print(record.outcomes)
    ...     record.add(0, {"result": {"value": 4}})
    {1: {'result': {'value': 8}}}
    >>> print(file.read_text(), end="")
    {"fp8sim sweep": 1, "measure": "powers"}
    {"point": {"exp": 2}, "result": {"value": 4}}
    {"point": {"exp": 3}, "result": {"value": 8}}
    >>> folder.cleanup()
    """
    target = check_target(path, "sweep.jsonl")
    with _trouble(path, None):
        target.touch()
    with locked(target):
        record = Record(path, target, {f"fp8sim {what}": FORMAT, **header}, grid)
        with contextlib.closing(record.stream):
            yield record
        record.finish()


class Record:
    """The file of a sweep that is under way."""

    def __init__(self, path: str | Path, target: Path, header: Header, grid: Grid) -> None:
        self.path, self.target, self.header = path, target, to_json(header)
        self.points, self.kind = grid.rows, next(iter(header))
        self.outcomes: dict[int, Outcome] = {}  #: place in the grid -> what is there
        self.suspects: list[int] = []  #: places at which a worker may have died: to be run alone
        content = read_bytes(target)
        *lines, cut_off = content.split(b"\n")  # the last line of a run that was killed
        if lines:
            self._compare(lines[0])
        elif not self.header.encode().startswith(cut_off.rstrip(b"\0")):  # which a lost block is read as
            raise self._no_sweep()
        self._take_up(lines[1:])
        #: whether the file is, so far, as it will be
        self.clean = lines[:1] in ([], [self.header.encode()]) and lines[1:] == [
            self._line(place, self.outcomes[place]).encode() if place in self.outcomes else None
            for place in range(len(lines[1:]))
        ]
        with _trouble(path, self):
            self.stream: IO[bytes] = target.open("r+b", buffering=0)
            self.end = self.stream.truncate(len(content) - len(cut_off))
            self.stream.seek(self.end)
        if not lines:
            self._write(self.header)

    def add(self, place: int, outcome: Outcome) -> None:
        """Write a row."""
        self._write(self._line(place, outcome))
        self.clean = self.clean and place == len(self.outcomes)
        self.outcomes[place] = outcome

    def suspect(self, places: list[int]) -> None:
        """Note where a worker may have died; a point alone at which one has died again has failed."""
        if len(places) == 1 and places[0] in self.suspects:
            self.add(places[0], {"error": "ChildProcessError: a worker died at this point, twice"})
        else:
            for place in places:
                self._write(self._line(place, {"died": True}))

    def finish(self) -> None:
        """Put the rows in order, if all are there and they are not."""
        if self.clean or len(self.outcomes) < len(self.points):
            return
        with _trouble(self.path, self), written(self.target) as file:
            file.write(f"{self.header}\n".encode())
            for place in range(len(self.points)):
                file.write(f"{self._line(place, self.outcomes[place])}\n".encode())

    @property
    def what(self) -> str:
        """What the file is of: the word that its first line begins with."""
        return self.kind.removeprefix("fp8sim ")

    @property
    def words(self) -> str:
        """What there is to go on from."""
        count = f"{len(self.outcomes)} of {len(self.points)} rows"
        return f"{count} are in {self.path}: run the same again, and it goes on from there"

    def _line(self, place: int, outcome: Outcome) -> str:
        return to_json({"point": self.points[place], **outcome})

    def _write(self, line: str) -> None:
        """Write a line whole, or leave what was there: what a full disk took of it is cut off."""
        rest = memoryview(f"{line}\n".encode())
        with _trouble(self.path, self):
            try:
                while rest:
                    rest = rest[self.stream.write(rest) :]
            except OSError:
                with contextlib.suppress(OSError):
                    self.stream.truncate(self.end)
                raise
        self.end = self.stream.tell()

    def _take_up(self, lines: list[bytes]) -> None:
        """Take what is there of these points; a line that cannot be read is done again."""
        places = {canonical(point): place for place, point in enumerate(self.points)} if lines else {}
        for line in lines:
            with contextlib.suppress(ValueError, TypeError, LookupError, AttributeError, RecursionError):
                row = from_json(line)
                place, point = places[canonical(row["point"])], row.pop("point")
                if row.keys() == {"result"}:
                    self.outcomes.setdefault(place, {"result": columns_of(row["result"], point)})
                elif row.keys() == {"error"} and isinstance(row["error"], str):
                    self.outcomes.setdefault(place, row)
                elif row == {"died": True}:
                    self.suspects.append(place)
        self.suspects = [place for place in dict.fromkeys(self.suspects) if place not in self.outcomes]

    def _compare(self, first: bytes) -> None:
        """Refuse a file that is not of this sweep, and say what is another in it."""
        theirs, ours = None, from_json(self.header)
        with contextlib.suppress(ValueError, RecursionError):
            theirs = from_json(first)
        if not isinstance(theirs, dict) or not isinstance(theirs.get(self.kind), int):
            raise self._no_sweep()
        if theirs[self.kind] > FORMAT:
            raise ValueError(f"{self.path} is of a newer fp8sim; name another file, or update")
        if to_json(theirs) != self.header:  # which tells orders apart too
            difference = "; ".join(_differences(theirs, ours)) or "its arguments are in another order"
            raise ValueError(f"{self.path} is of another {self.what}: {difference}; name another file")

    def _no_sweep(self) -> ValueError:
        article = "an" if self.what[0] in "aeiou" else "a"
        return ValueError(f"{self.path} is no file of {article} {self.what}; name another one")


def _differences(theirs: Header, ours: Header) -> Iterator[str]:
    """Yield in words where two headers differ, argument by argument where both are of arguments."""
    for name in dict.fromkeys([*theirs, *ours]):
        left, right = theirs.get(name), ours.get(name)
        if isinstance(left, dict) and isinstance(right, dict):
            yield from _differences(left, right)
        elif left != right and name in _CHANGED:
            yield _CHANGED[name]
        elif left != right:
            yield f"{name} is {_brief(left)} there and {_brief(right)} here"


def _brief(value: Any) -> str:
    return "missing" if value is None else value if isinstance(value, str) else shown(value)


@contextlib.contextmanager
def _trouble(path: str | Path, record: Record | None) -> Iterator[None]:
    """Say of a file that cannot be written what to do about it."""
    try:
        yield
    except OSError as error:
        words = f"cannot write {path}: {error.strerror}" if error.strerror else str(error)
        more = "" if record is None else f"; make room for it: {record.words}"
        raise type(error)(words + more) from None
