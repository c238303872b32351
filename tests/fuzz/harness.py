"""What a trial is: a few draws, a call, and four ways to fail. Every category is a list of such functions.

A trial is a function of a generator, from which it draws all that it does, and of an empty folder. The seed,
the category and the number of the trial make the generator, so that any trial can be run again alone. It fails
by raising `Failure`, or by what the harness sees for itself: another exception, a warning, a file left over.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import tempfile
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fp8sim._support import text

KINDS = ("wrong bits", "traceback", "warning", "half-written")
LONGEST = 60.0  # seconds of one trial: more is a failure too

Trial = Callable[[np.random.Generator, Path], None]
T = TypeVar("T")


class Failure(AssertionError):
    """What a trial found."""

    def __init__(self, kind: str, what: str) -> None:
        assert kind in KINDS
        super().__init__(f"{kind}: {what}")
        self.kind = kind


class TooLong(BaseException):
    """A trial that takes too long: nothing that catches an `Exception` goes on with it."""


def no_skip() -> str:
    """Return why a category cannot be run here: it can."""
    return ""


@dataclass(frozen=True)
class Category:
    """One kind of trial, and a fault that it must find."""

    name: str
    about: str
    trial: Trial
    plant: Callable[[], AbstractContextManager[Any]]  #: breaks the library for as long as it is entered
    few: int  #: trials of a test run, of about two seconds
    skip: Callable[[], str] = field(default=no_skip)


CATEGORIES: dict[str, Category] = {}


def category(
    about: str,
    *,
    few: int,
    plant: Callable[[], AbstractContextManager[Any]],
    skip: Callable[[], str] = no_skip,
) -> Callable[[Trial], Trial]:
    """Make a category of a trial; its name is the function's."""

    def add(trial: Trial) -> Trial:
        name = trial.__name__.replace("_", "-")
        CATEGORIES[name] = Category(name, about, trial, plant, few, skip)
        return trial

    return add


def run_trial(chosen: Category, seed: int, number: int) -> Failure | None:
    """Run one trial, and return what is wrong."""
    rng = np.random.default_rng([seed, number, zlib.crc32(chosen.name.encode())])
    with tempfile.TemporaryDirectory(prefix="fp8sim-fuzz-") as folder:
        try:
            with unchanged_process(), warnings.catch_warnings(record=True) as seen, limited():
                warnings.simplefilter("always")
                chosen.trial(rng, Path(folder))
        except Failure as failure:
            return failure
        except (Exception, TooLong) as error:
            return Failure("traceback", _where(error))
        parts = [path.name for path in Path(folder).rglob("*.part")]
        if parts:
            return Failure("half-written", f"left {parts}")
        ours = [one for one in seen if not issubclass(one.category, (ResourceWarning, DeprecationWarning))]
        if ours:
            return Failure("warning", f"{ours[0].category.__name__}: {ours[0].message} ({ours[0].filename})")
    return None


def _where(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "fp8sim" in f.filename]
    at = f" in {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{at}: {shortened(error)}"


def shortened(error: object) -> str:
    """Return the words of an error or of anything in one printable line."""
    return text.shorten(text.printable(" ".join(str(error).split())), 300)


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Stop a block that takes too long, where it is in the main thread of Python."""

    def stop(*_: object) -> None:
        raise TooLong(f"more than {LONGEST:g} s")

    try:
        before = signal.signal(signal.SIGALRM, stop)
    except (AttributeError, ValueError):  # Windows; another thread
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def unchanged_process() -> Iterator[None]:
    """Hold that a block changes nothing of the process that others see."""

    def look() -> tuple[Any, ...]:
        # PyTorch sets TORCHINDUCTOR_CACHE_DIR as parts of it are loaded
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TORCHINDUCTOR")}
        drawn: Any = np.random.get_state()  # noqa: NPY002  # what must stay as it is
        return np.geterr(), environment, Path.cwd(), drawn[1].tobytes()

    before = look()
    yield
    after = look()
    names = ("numpy's error state", "the environment", "the working folder", "numpy's global generator")
    for name, old, new in zip(names, before, after, strict=True):
        if old != new:
            changed = sorted(set(old.items()) ^ set(new.items())) if isinstance(old, dict) else ""
            raise Failure("wrong bits", f"{name} is another one afterwards {changed}")


# --- calls ------------------------------------------------------------------------------------------------

#: What a public function may raise for bad input: its own two, and what says that something is not there.
ALLOWED = (ValueError, TypeError, FileNotFoundError, PermissionError, ModuleNotFoundError)
#: Words of Python, numpy and others that a user of the library can do nothing with.
RAW = (
    "has no attribute", "object is not", "object has no", "unhashable", "not supported between", "ufunc",
    "positional argument", "unexpected keyword", "object cannot be", "must be real number, not", "broadcast",
    "inhomogeneous", "truth value", "could not convert", "invalid literal", "Cannot interpret", "int() ",
    "float() ", "expected str, bytes", "out of bounds", "not enough values", "too many values", "math domain",
    "data type", "can't convert", "Cannot cast", "unsupported operand", "Invalid dtype", "iterable", "LLVM",
)  # fmt: skip


def attempt(call: Callable[..., T], *args: Any, **options: Any) -> tuple[T | None, Exception | None]:
    """Call what may refuse: return the result or the refusal, which is one clear line, and check the inputs."""
    before = [(x, fingerprint(x)) for x in [*args, *options.values()]]
    refusal, result = None, None
    try:
        result = call(*args, **options)
    except ALLOWED as error:
        refusal = error
        words = str(error)
        if not words or "\n" in words or len(words) > 1500:
            raise Failure("traceback", f"no one line: {type(error).__name__}: {words[:300]!r}") from error
        raw = [word for word in RAW if word in words]
        if raw and not calm(words):
            raise Failure("traceback", f"raw words: {type(error).__name__}: {shortened(words)}") from error
    for x, was in before:
        if fingerprint(x) != was:
            raise Failure("wrong bits", f"{shortened(repr(x))} was modified")
    return result, refusal


def calm(words: str) -> bool:
    """Whether raw words stand in a sentence of the library's own, which says what to do."""
    return any(
        advice in words
        for advice in ("must be", "is no readable", "pass ", "cannot be read", "write ", "did you mean")
    )


def fingerprint(x: object) -> object:
    """Return what changes when an input is modified."""
    if isinstance(x, np.ndarray) and x is not np.ma.masked:
        if x.dtype == object or x.dtype.kind == "T":
            return repr(x)
        return x.shape, x.strides, x.dtype, x.tobytes()
    if isinstance(x, (list, tuple)):
        return type(x), tuple(
            id(one) if isinstance(one, (list, tuple)) else fingerprint(one) for one in x[:50]
        )
    if type(x).__module__ == "torch":
        return repr(x)
    return id(x)


# --- comparing --------------------------------------------------------------------------------------------


def must_equal(found: Any, wanted: Any, what: str) -> None:
    """Fail unless two arrays have equal shapes, values, NaNs and signs of zeros."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    if found.shape != wanted.shape:
        raise Failure("wrong bits", f"{what}: shape {found.shape}, want {wanted.shape}")
    with np.errstate(invalid="ignore"):  # signalling NaNs
        left, right = found.astype(np.float64), wanted.astype(np.float64)
        same = (left == right) & (np.signbit(left) == np.signbit(right)) | np.isnan(left) & np.isnan(right)
    if not same.all():
        at = tuple(int(i) for i in np.argwhere(~same)[0]) if same.ndim else ()
        count = int((~same).sum())
        raise Failure(
            "wrong bits", f"{what}: {left[at]!r}, want {right[at]!r} at {list(at)}; {count} of {same.size}"
        )


def must_equal_bits(found: Any, wanted: Any, what: str) -> None:
    """Fail unless two arrays are the same to the last bit, dtype and payload of NaNs too."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    if found.dtype != wanted.dtype:
        raise Failure("wrong bits", f"{what}: dtype {found.dtype}, want {wanted.dtype}")
    must_equal(found, wanted, what)
    if found.tobytes() != wanted.tobytes():
        raise Failure("wrong bits", f"{what}: other bits of a NaN")


def must(holds: object, what: str) -> None:
    """Fail unless something holds."""
    if not holds:
        raise Failure("wrong bits", what)


# --- draws ------------------------------------------------------------------------------------------------


def pick(rng: np.random.Generator, options: Any) -> Any:
    """Draw one of a few things."""
    some = list(options)
    return some[int(rng.integers(len(some)))]


def chance(rng: np.random.Generator, probability: float) -> bool:
    """Draw whether something happens."""
    return bool(rng.random() < probability)


def numbers(rng: np.random.Generator, size: int | tuple[int, ...], dtype: Any = np.float64) -> Any:
    """Draw numbers of one of several kinds: usual ones, all decades, all bits, few digits, ends of the type."""
    count = math.prod(size) if isinstance(size, tuple) else size
    limits = np.finfo(dtype)
    match pick(rng, ("usual", "usual", "decades", "bits", "grid", "ends", "sparse", "tiny")):
        case "usual":
            x = rng.standard_normal(count) * 2.0 ** rng.integers(-20, 20)
        case "decades":
            x = rng.standard_normal(count) * np.exp2(rng.uniform(-60, 60, count))
        case "bits":
            word = np.dtype(f"u{np.dtype(dtype).itemsize}")
            x = rng.integers(0, 2 ** (8 * word.itemsize), count, np.uint64).astype(word).view(dtype)
            if chance(rng, 0.6):
                x = np.where(np.isfinite(x), x, dtype(1))
            return x.reshape(size)
        case "grid":
            x = rng.integers(-40, 41, count) * 2.0 ** rng.integers(-12, 6, count)
        case "ends":
            ends = [0.0, -0.0, limits.max, -limits.max, limits.smallest_subnormal, limits.tiny, 1.0, -448.0]
            x = rng.choice(np.array(ends, dtype), count)
        case "sparse":
            x = rng.standard_normal(count) * (rng.random(count) < 0.2)
        case _:
            x = rng.standard_normal(count) * 2.0 ** rng.integers(-150, -100)
    with np.errstate(over="ignore", under="ignore"):
        return x.astype(dtype).reshape(size)


def laid_out(rng: np.random.Generator, x: Any) -> Any:
    """Return the same array in another layout of memory, perhaps read-only."""
    match pick(rng, ("same", "same", "fortran", "strided", "reversed", "unaligned", "swapped")):
        case "fortran":
            x = np.asfortranarray(x)
        case "strided" if x.ndim:
            spread = np.full((*x.shape[:-1], 2 * x.shape[-1]), 77, x.dtype)
            spread[..., ::2] = x
            x = spread[..., ::2]
        case "reversed" if x.ndim:
            x = x[::-1].copy()[::-1]
        case "unaligned" if x.size:
            raw = np.zeros(x.nbytes + 1, np.uint8)
            away = raw[1:].view(x.dtype).reshape(x.shape)
            away[...] = x
            x = away
        case "swapped" if x.dtype.kind in "fiu" and x.dtype.itemsize > 1:
            x = x.astype(x.dtype.newbyteorder())
    if x.flags.owndata:
        x = x.copy(order="K")
    if chance(rng, 0.3):
        x.flags.writeable = False
    return x


# --- faults that are planted ------------------------------------------------------------------------------


@contextlib.contextmanager
def planted(module: Any, name: str, broken: Any) -> Iterator[None]:
    """Put something else in the place of a function of a module, and wherever it was imported to."""
    whole = getattr(module, name)
    ours = ("fp8sim", "fuzz")
    places = [m for m in list(sys.modules.values()) if getattr(m, "__name__", "").startswith(ours)]
    taken = [place for place in {*places, module} if vars(place).get(name) is whole]
    for place in taken:
        setattr(place, name, broken)
    try:
        yield
    finally:
        for place in taken:
            setattr(place, name, whole)


def wrapped(module: Any, name: str, change: Callable[[Any], Any]) -> AbstractContextManager[Any]:
    """Change what a function of a module returns."""
    whole = getattr(module, name)
    return planted(module, name, lambda *args, **options: change(whole(*args, **options)))


def nothing_planted() -> AbstractContextManager[Any]:
    """Break nothing."""
    return nullcontext()
