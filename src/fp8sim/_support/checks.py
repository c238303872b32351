"""Argument checks: every refusal names what was given and says what to do instead."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias, TypeVar, Union, cast

import ml_dtypes
import numpy as np

from fp8sim._support.text import printable, shown
from fp8sim._support.typing import AnyArray, ArrayLike, FloatArray

T = TypeVar("T")

#: The largest size, count or exponent that is taken: from here on float64, in which costs and sums are
#: worked out, skips whole numbers, and a product of a few of them still fits it.
LARGEST = 2**53

Limits: TypeAlias = "tuple[float | None, float | None]"  # least and most; None: no limit


def one_of(value: object, allowed: Iterable[str], what: str) -> str:
    """Return `value` if it is among `allowed`, else raise ValueError naming the nearest."""
    names = list(allowed)
    if isinstance(value, str) and value in names:
        return value
    raise ValueError(unknown(what, value, names))


def lookup(name: object, table: Mapping[str, T], what: str) -> T:
    """Return `table[name]`, upper and lower case alike, else raise naming the nearest."""
    if isinstance(name, str):
        for key in (name, name.lower()):
            if key in table:
                return table[key]
    raise ValueError(unknown(what, name, table))


def unknown(what: str, value: object, names: Iterable[str]) -> str:
    """Say that `value` is no known `what`, with the nearest name or the whole list."""
    names, words = list(names), shown(value)
    text = value if isinstance(value, str) else words
    close = difflib.get_close_matches(text.lower(), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"known: {', '.join(names)}"
    return f"unknown {what} {words}; {hint}"


def several(x: str | T | Iterable[Any], kind: type[T], what: str) -> list[str | T]:
    """Return `x` as a list: one name, or one object of its kind, is a list of one.

    Examples
    --------
    >>> several("bf16", int, "recipes"), several(("bf16", "mxfp8"), int, "recipes")
    (['bf16'], ['bf16', 'mxfp8'])
    """
    if isinstance(x, (str, kind)):
        return [x]
    try:
        return list(cast("Iterable[str | T]", x))
    except Exception:  # of what has no elements, or raises what it likes as it is asked for them
        raise TypeError(
            f"{what} must be a name, a {kind.__name__}, or a list of them, got {shown(x)}"
        ) from None


def positive_int(value: object, what: str) -> int:
    """Return `value` as a positive int, else raise."""
    return int(within(whole_number(value, what), what, 1, LARGEST))


def whole_number(value: object, what: str) -> int:
    """Return `value` as an int, else raise."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral):
        raise TypeError(f"{what} must be a whole number, got {shown(value)}")
    return int(value)


def seed(value: object) -> int:
    """Return a seed of generated numbers as an int, else raise."""
    return int(within(whole_number(value, "seed"), "seed", 0))


def number(value: object, what: str) -> float:
    """Return `value` as it is if it is a real number, one of Python's own in place of others, else raise."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError(f"{what} must be a number, got {shown(value)}")
    if value != value:
        raise ValueError(f"{what} must be a number, got NaN")
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, float):
        within(value, what, -sys.float_info.max, sys.float_info.max)
    return value if isinstance(value, (int, float)) else float(value)  # a fraction is no plain data


def of_kind(value: Any, kind: Any, what: str) -> Any:
    """Return `value` if it is one of a class, else raise TypeError.

    Examples
    --------
    >>> of_kind(3, str, "recipe")
    Traceback (most recent call last):
    TypeError: recipe must be text, got 3
    """
    if not isinstance(value, kind):
        name = kind.__name__
        word = {str: "text", bool: "True or False"}.get(kind, f"a{'n' * (name[0] in 'AEIOU')} {name}")
        raise TypeError(f"{what} must be {word}, got {shown(value)}")
    return value


def sizes(value: Any, what: str) -> tuple[int, ...]:
    """Return a shape as a tuple of whole numbers that are not negative, else raise.

    Examples
    --------
    >>> sizes([4, 0], "shape")
    (4, 0)
    """
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{what} must be a tuple of whole numbers, got {shown(value)}")
    return tuple(
        int(within(whole_number(one, f"an entry of {what}"), f"an entry of {what}", 0)) for one in value
    )


def within(value: T, what: str, least: float | None = None, most: float | None = None) -> T:
    """Return `value` if it is neither below `least` nor above `most`, else raise ValueError."""
    low = least is not None and value < least  # type: ignore[operator]  # a number
    high = most is not None and value > most  # type: ignore[operator]
    if low or high:
        both = least is not None and most is not None and most < LARGEST
        limits = f"{least} to {most}" if both else f"at least {least}" if low else f"at most {most}"
        raise ValueError(f"{what} must be {limits}, got {shown(value)}")
    return value


def fields(instance: Any, **limits: Limits) -> None:
    """Check every field of a frozen dataclass against its annotation, and numbers against limits.

    A field that is not of its type is a TypeError, a number beyond its limits or a name that is not among
    the literals of its type a ValueError. Numpy's numbers become Python's, and lists become tuples, so
    that the instance is hashable. Whole numbers are at most `LARGEST`, whatever their limits.

    Parameters
    ----------
    instance : dataclass
        Called from its ``__post_init__``, once what may be given by name is looked up.
    **limits : tuple
        Field -> least and most of the number, or of the numbers of a tuple; None where there is no limit.

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True)
    ... class Step:
    ...     name: str
    ...     products: int = 32
    ...     def __post_init__(self):
    ...         fields(self, products=(1, 64))
    >>> Step("hopper", np.int64(16))
    Step(name='hopper', products=16)
    >>> Step("hopper", products=65)
    Traceback (most recent call last):
    ValueError: hopper: products must be 1 to 64, got 65
    """
    given = vars(instance)
    for label in given.keys() & {"name", "title"}:
        text, whole = given[label], f"a {type(instance).__name__} needs a {label}"
        if not (isinstance(text, str) and text):
            raise TypeError(f"{whole}, got {shown(text)}")
        if printable(text) != text:
            raise ValueError(f"{whole} of one short line, got {shown(text)}")
    name = given.get("name")
    kind: Any = type(instance)
    for field, check in _checks(kind).items():
        what = f"{name}: {field}" if name else field
        value = check(given[field], what)
        least, most = limits.get(field, (None, None))
        for entry in value if isinstance(value, tuple) else (value,):
            if isinstance(entry, int) and not isinstance(entry, bool):
                within(entry, what, -LARGEST if least is None else least, LARGEST if most is None else most)
            elif isinstance(entry, float):
                within(entry, what, least, most)
        if value is not given[field]:
            object.__setattr__(instance, field, value)


Check: TypeAlias = Callable[[Any, str], Any]


@functools.cache
def _checks(kind: type) -> dict[str, Check]:
    """Return what checks each field of a dataclass."""
    hints = typing.get_type_hints(kind)
    return {field.name: _check(hints[field.name]) for field in dataclasses.fields(kind)}


@functools.cache
def _check(hint: Any) -> Check:
    """Return what checks a value against a type: it returns the value, or raises saying what it should be."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return lambda value, what: value
    if origin is Literal:
        return lambda value, what: one_of(value, arguments, what.rpartition(": ")[2])
    if origin in (Union, types.UnionType):
        return functools.partial(_check_union, arguments)
    if origin is tuple:
        return functools.partial(_check_tuple, arguments)
    if hint in _NUMBERS:
        return _NUMBERS[hint]
    return lambda value, what: of_kind(value, origin or hint, what)


def _check_union(options: tuple[Any, ...], value: object, what: str) -> Any:
    if value is None and type(None) in options:
        return None
    some = [option for option in options if option is not type(None)]
    if len(some) == 1:
        return _check(some[0])(value, what)
    for option in some:
        with contextlib.suppress(TypeError):
            return _check(option)(value, what)
    raise TypeError(f"{what} must be {' or '.join(o.__name__ for o in some)}, got {shown(value)}")


def _check_tuple(entries: tuple[Any, ...], value: object, what: str) -> Any:
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{what} must be a tuple, got {shown(value)}; write ({shown(value)},)")
    if entries[-1] is Ellipsis:
        entries = entries[:1] * len(value)
    if len(value) != len(entries):
        raise ValueError(f"{what} must have {len(entries)} entries, got {shown(value)}")
    return tuple(_check(entry)(x, what) for entry, x in zip(entries, value, strict=True))


def _check_bool(value: object, what: str) -> bool:
    return bool(of_kind(bool(value) if isinstance(value, np.bool_) else value, bool, what))


_NUMBERS: dict[Any, Check] = {int: whole_number, float: number, bool: _check_bool}


def as_float(x: ArrayLike, what: str = "x") -> FloatArray:
    """Take `x` as float32 or float64 without changing any value.

    float32 and float64 arrays pass as they are (no copy), narrower floats become float32, and
    integers and nested lists become float64. What would lose digits is refused.
    """
    array = as_array(x, what)
    dtype = array.dtype
    if dtype in (np.float32, np.float64):
        return array
    if dtype.kind in "iu":
        return _exact(array, np.float64, what)
    if dtype.itemsize <= 2 and _is_float(dtype):
        with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
            return array.astype(np.float32)
    if dtype == np.longdouble:
        return _exact(array, np.float64, what)
    hint = {"c": "pass .real and .imag apart", "b": "write .astype(np.float32)"}.get(dtype.kind)
    raise TypeError(
        f"{what} has dtype {dtype}, which is not a real number type; "
        f"{hint or 'pass a float or integer array'}"
    )


def as_matrix(x: ArrayLike, what: str) -> FloatArray:
    """Take `x` as `as_float` does and require two dimensions."""
    array = as_float(x, what)
    if array.ndim != 2:
        raise ValueError(f"{what} must be a matrix (2 dimensions), got shape {array.shape}")
    return array


def multiply_shapes(a: AnyArray, b: AnyArray) -> tuple[int, int, int]:
    """Return (m, n, k) of `a @ b`, else raise saying which axis must match."""
    (m, k), (k_b, n) = a.shape, b.shape
    if k != k_b:
        hint = "; b looks transposed: pass b.T" if n == k else ""
        raise ValueError(
            f"shapes {a.shape} and {b.shape} do not multiply: "
            f"a has k = {k} columns and b has k = {k_b} rows{hint}"
        )
    return m, n, k


class NotFiniteError(ValueError):
    """NaN or infinity where there can be none: a training that comes to this has diverged."""


def finite(x: FloatArray, what: str, why: str) -> None:
    """Raise `NotFiniteError` if `x` holds NaN or infinity, saying where the first one is."""
    bad = ~np.isfinite(x)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise NotFiniteError(
            f"{what} holds {int(bad.sum())} NaN or infinite values, the first at {list(where)}; "
            f"{why}: mask or clip them first"
        )


def generator(rng: object) -> np.random.Generator:
    """Require a numpy Generator, as stochastic rounding does."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            "random numbers are drawn here, as by rounding='stochastic': "
            f"pass rng=np.random.default_rng(seed), got rng={shown(rng)}"
        )
    return rng


def as_array(x: ArrayLike, what: str = "x") -> AnyArray:
    """Take `x` as a numpy array in native byte order; a torch tensor is viewed, in its own dtype."""
    if _has_mask(x):
        raise TypeError(f"{what} is a masked array, whose mask would be lost; pass x.filled(value)")
    torch = sys.modules.get("torch")  # there is no tensor before it is loaded
    if torch is not None and isinstance(x, torch.Tensor):
        return _from_torch(x, what, torch)
    try:
        array: AnyArray = np.asarray(x)
    except Exception as error:  # what a list holds, or is an array by its own words, may raise anything
        ragged = "inhomogeneous" in str(error)  # numpy's word, at the end of a long text
        why = "its rows differ in length; pad them to one" if ragged else " ".join(str(error).split())
        raise TypeError(f"{what} cannot be read as an array of numbers: {why}") from None
    if array.dtype == object:
        raise TypeError(
            f"{what} is an object array (ragged lists, None or big integers?); "
            "pass np.asarray(x, dtype=np.float64)"
        )
    if array.dtype.kind == "T":  # StringDType, of which numpy knows no byte order
        raise TypeError(
            f"{what} has dtype {array.dtype}, which is not a real number type; pass a float array"
        )
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _has_mask(x: object, depth: int = 0) -> bool:
    """Whether `x` is a masked array or holds one in lists, as deep as numpy has axes."""
    if not isinstance(x, (list, tuple)) or depth > 64:
        return isinstance(x, np.ma.MaskedArray)
    return any(_has_mask(part, depth + 1) for part in x)


def _from_torch(x: Any, what: str, torch: Any) -> AnyArray:
    """View a tensor as numpy sees the same bits; ml_dtypes has the formats that numpy lacks."""
    if x.device.type != "cpu" or x.layout != torch.strided or x.is_nested:
        where = f"a tensor on {x.device}, {'nested' if x.is_nested else x.layout}"
        raise TypeError(f"{what} is {where}; pass a dense one on the CPU, such as x.to_dense().cpu()")
    tensor = x.detach().resolve_neg()
    native = getattr(ml_dtypes, str(x.dtype).removeprefix("torch."), None)
    if native is None:
        try:
            array: AnyArray = tensor.numpy()
        except (TypeError, RuntimeError):
            raise TypeError(f"{what} is a tensor of {x.dtype}, which numpy has not; pass floats") from None
        return array
    bits = tensor.view(torch.uint8 if x.dtype.itemsize == 1 else torch.int16)
    return np.asarray(bits.numpy().view(native))


def _exact(array: AnyArray, dtype: type[np.float64], what: str) -> FloatArray:
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(dtype)
        if array.dtype.kind in "iu":
            same = _same_integer(array, converted)
        else:
            same = (converted.astype(array.dtype) == array) | (array != array)
    if not np.all(same):
        value = array[~same].flat[0]
        raise ValueError(f"{what} holds {value!s} ({array.dtype}), which float64 cannot hold exactly")
    return converted


def _same_integer(array: AnyArray, converted: AnyArray) -> AnyArray:
    limits = np.iinfo(array.dtype)
    fits = (converted >= limits.min) & (converted < 2.0 ** int(limits.max).bit_length())
    back = np.where(fits, converted, 0.0).astype(array.dtype)  # defined for what fits
    return np.asarray(fits & (back == array))


def _is_float(dtype: np.dtype[Any]) -> bool:
    """Whether `dtype` is float16 or one of ml_dtypes' own, whose kind is V for some and f for others."""
    return bool(dtype == np.float16) or dtype.type.__module__ == "ml_dtypes"
