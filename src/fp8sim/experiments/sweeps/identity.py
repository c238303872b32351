"""What a function or an object is, whole: a digest, by which a file knows what its rows are of."""

from __future__ import annotations

import copyreg
import dataclasses
import dis
import functools
import hashlib
import sys
import types
from collections.abc import Iterator
from typing import Any

from fp8sim._support.text import shown

__all__ = ["digest"]

# not its place in a file, nor its name
_OF_CODE = "co_code co_consts co_names co_varnames co_flags co_argcount co_kwonlyargcount co_exceptiontable"
_OF_DESCRIPTORS = "fget fset __func__ func"  # of a property, static and class methods, a cached property


def digest(value: Any, what: str) -> str:
    """Return a digest of all that a value is: the same in any process, another where anything differs.

    Raises
    ------
    ValueError
        If part of it cannot be told, such as an open file.

    Examples
    --------
    >>> import functools
    >>> double, triple = (lambda x: 2 * x), (lambda x: 3 * x)
    >>> digest(double, "f") == digest(lambda x: 2 * x, "f"), digest(double, "f") == digest(triple, "f")
    (True, False)
    >>> digest(functools.partial(print, file=sys.__stdout__), "print")
    Traceback (most recent call last):
    ValueError: out= keeps no rows of print: it holds or reads <_io.TextIOWrapper ... encoding='utf-8'>, ...
    """
    try:
        return hashlib.sha256(_Whole().of(value).encode()).hexdigest()[:16]
    except _Untold as error:
        raise ValueError(
            f"out= keeps no rows of {what}: it holds or reads {error}, which no digest can tell; "
            "make that in the function, or import the function from a module"
        ) from None


class _Untold(Exception):
    """Something that no digest can tell."""


class _Whole:
    """Digests of a value and of what it holds, each object digested once."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[str, Any]] = {}  # with the object, whose place no other takes then
        self.depth = 0

    def of(self, value: Any) -> str:
        """Return the digest of a value, or what it is where that is short."""
        if type(value) in (bool, float, complex, types.NoneType):
            return repr(value)
        if type(value) is int:
            return hex(value)
        if id(value) not in self.known:
            self.known[id(value)] = f"circle {self.depth}", value  # until it is known
            self.depth += 1
            try:
                parts = b"\n".join(p if isinstance(p, bytes) else p.encode() for p in self._parts(value))
            except _Untold:
                raise
            except Exception:  # an object may raise anything as it is taken apart
                raise _Untold(shown(value)) from None
            self.depth -= 1
            self.known[id(value)] = hashlib.sha256(parts).hexdigest(), value
        return self.known[id(value)][0]

    def _parts(self, value: Any) -> Iterator[str | bytes]:
        if isinstance(value, type):
            yield f"class {value.__module__}.{value.__qualname__}"
            if not _imported(value):
                yield from map(self.of, (value.__bases__, _members(value)))
            return
        yield self.of(type(value))
        torch = sys.modules.get("torch")
        if isinstance(value, bytes):
            yield value
        elif isinstance(value, str):
            yield repr(str(value))
        elif isinstance(value, (list, tuple)):
            yield from map(self.of, value)
        elif isinstance(value, (set, frozenset)):
            yield from sorted(map(self.of, value))
        elif isinstance(value, dict):
            yield from (self.of(part) for pair in value.items() for part in pair)
        elif isinstance(value, types.ModuleType):
            yield value.__name__
        elif isinstance(value, types.CodeType):
            yield from (self.of(getattr(value, name, b"")) for name in _OF_CODE.split())
        elif isinstance(value, types.MethodType):
            yield from map(self.of, (value.__func__, value.__self__))
        elif isinstance(value, types.FunctionType):
            yield from map(self.of, (value.__code__, value.__defaults__, value.__kwdefaults__, vars(value)))
            yield from map(self.of, [_held(cell) for cell in value.__closure__ or ()])
            yield self.of({} if _imported(value) else _read(value))
        elif isinstance(value, (property, staticmethod, classmethod, functools.cached_property)):
            yield from (
                self.of(getattr(value, name)) for name in _OF_DESCRIPTORS.split() if hasattr(value, name)
            )
        elif "__wrapped__" in getattr(value, "__dict__", ()):  # compiled, or with a cache
            yield self.of(value.__wrapped__)
        elif torch is not None and isinstance(value, torch.Tensor):
            yield f"{value.dtype} {tuple(value.shape)}"
            yield value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes()
        elif dataclasses.is_dataclass(value):  # not what it worked out from its fields and keeps
            yield from (self.of(getattr(value, field.name)) for field in dataclasses.fields(value))
        else:  # as a copy would be made of it: by what is called, with what, and what is put in
            reduce = copyreg.dispatch_table.get(type(value))
            parts = reduce(value) if reduce else value.__reduce_ex__(4)
            for part in (parts,) if isinstance(parts, str) else parts:
                yield self.of(tuple(part) if isinstance(part, Iterator) else part)


def _imported(value: Any) -> bool:
    """Tell whether it is of a module other than the one that runs, whose name stands for what it reads."""
    return value.__module__ != "__main__" and value.__module__ in sys.modules


def _held(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty as yet
        return "nothing"


def _read(function: types.FunctionType) -> dict[str, Any]:
    """Return the globals that a function reads."""
    codes, names = [function.__code__], set[str]()
    for code in codes:
        names |= {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
        codes += [part for part in code.co_consts if isinstance(part, types.CodeType)]
    return {name: function.__globals__[name] for name in sorted(names) if name in function.__globals__}


def _members(value: type) -> dict[str, Any]:
    """Return what makes a class, without what Python notes in it."""
    return {
        name: member
        for name, member in vars(value).items()
        if isinstance(member, types.FunctionType) or not name.startswith(("__", "_abc_"))
    }
