"""Argument checks: every refusal names what was given and says what to do instead."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import ml_dtypes
import numpy as np

from fp8sim._support.typing import AnyArray, ArrayLike, FloatArray

T = TypeVar("T")


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
    names = list(names)
    close = difflib.get_close_matches(str(value).lower(), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"known: {', '.join(names)}"
    return f"unknown {what} {value!r}; {hint}"


def several(x: str | T | Iterable[str | T], kind: type[T], what: str) -> list[str | T]:
    """Return `x` as a list: one name, or one object of its kind, is a list of one.

    Examples
    --------
    >>> several("bf16", int, "recipes"), several(("bf16", "mxfp8"), int, "recipes")
    (['bf16'], ['bf16', 'mxfp8'])
    """
    if isinstance(x, (str, kind)):
        return [x]
    if not isinstance(x, Iterable):
        raise TypeError(f"{what} must be a name, a {kind.__name__}, or a list of them, got {x!r}")
    return list(x)


def positive_int(value: object, what: str) -> int:
    """Return `value` as a positive int, else raise."""
    number = whole_number(value, what)
    if number < 1:
        raise ValueError(f"{what} must be at least 1, got {number}")
    return number


def whole_number(value: object, what: str) -> int:
    """Return `value` as an int, else raise."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{what} must be a whole number, got {value!r}")
    return int(value)


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
            "rounding='stochastic' draws random numbers: "
            f"pass rng=np.random.default_rng(seed), got rng={rng!r}"
        )
    return rng


def as_array(x: ArrayLike, what: str = "x") -> AnyArray:
    """Take `x` as a numpy array in native byte order; a torch tensor is viewed, in its own dtype."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{what} is a masked array, whose mask would be lost; pass x.filled(value)")
    torch = sys.modules.get("torch")  # there is no tensor before it is loaded
    if torch is not None and isinstance(x, torch.Tensor):
        return _from_torch(x, what, torch)
    try:
        array: AnyArray = np.asarray(x)
    except (ValueError, TypeError) as error:
        raise TypeError(f"{what} cannot be read as an array of numbers: {error}") from None
    if array.dtype == object:
        raise TypeError(
            f"{what} is an object array (ragged lists, None or big integers?); "
            "pass np.asarray(x, dtype=np.float64)"
        )
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _from_torch(x: Any, what: str, torch: Any) -> AnyArray:
    """View a tensor as numpy sees the same bits; ml_dtypes has the formats that numpy lacks."""
    if x.device.type != "cpu" or x.layout != torch.strided:
        where = f"a tensor on {x.device}, {x.layout}"
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
