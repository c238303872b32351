"""What fp8sim computes, as digests: moving its files and functions about must change no bit of it.

The cases are in `recorded_cases`. The first parts of a name say how a case is compared:

rounded/  floats to 6 digits: they hang on sums whose order BLAS decides
close/    floats to 12 digits: they hang on float64 sums and powers of Python and its libm
numpy/    drawn from a numpy generator, whose stream may differ in other versions of numpy
torch/    needs PyTorch
errors/   must raise, and the name of the type is what counts; no other case may raise

``python tests/recorded_outputs.py`` compares with the recording; ``--write`` makes a new one, or with
``--only GROUPS`` renews what was changed on purpose: cases of these groups, and those that are no more;
``--show NAME`` prints what a case computes, for a diff between two checkouts.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import importlib
import importlib.util
import json
import operator
import platform
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from pprint import pformat
from typing import Any, NamedTuple

import numpy as np

import fp8sim

RECORDING = Path(__file__).parent / "data" / "recorded_outputs.json"
DIGITS = {"rounded": 6, "close": 12}
Case = tuple[str, Callable[[], Any]]
Keys = dict[str, list[str]]

# --- names: all that may move ---------------------------------------------------------------------

#: What is not in `fp8sim` itself -> the modules that may hold it, the newest home first.
HOMES = {
    "ACCUMULATORS exact_dot get_accumulator": "accumulators",
    "OneChain": "accumulators one_chain",
    "sum_error_bound": "accumulators error_bounds",
    "DEVICES OPERAND_CLASSES operand_class": "costs costs.devices costs.gemm devices cost",
    "round_reference ROUNDINGS": "reference rounding",
    "encode_reference decode_reference": "reference codec",
    "quantize_reference round_trip": "quantization reference",
    "SCALE_FORMATS SCALE_RULES Scaling group_sizes": "quantization scaling",
    "promoted_matmul tensor_core_matmul_reference": "tensor_cores reference",
    "quantize_operands": "gemm",
    "MODELS check_model get_model inventory": "models",
    "explain_block explain_dot": "anatomy",
    "TRAINING_RECIPES GEMMS DelayedScaling get_training_recipe": "training training_recipes",
    "LinearGemms Statistics": "training linear_gemms",
    "main": "cli",
    "open_checkpoint read_array": "checkpoints",
    "llm_like_activations llm_like_operands weight_operands": "experiments.data",
    "gradient_outliers token_gradients": "experiments.gradient_outliers",
    "RunResult compare_losses recipe_label relative_errors smooth": (
        "experiments.train experiments.train.losses experiments.training experiments.loss_curves"
    ),
    "linear": "pytorch",
}


def first(*candidates: str) -> Any:
    """Return the first ``module:name`` that there is, so that one script serves checkouts before and after."""
    for candidate in candidates:
        module, _, name = candidate.partition(":")
        with contextlib.suppress(ModuleNotFoundError, AttributeError):
            return getattr(importlib.import_module(module), name)
    raise ImportError(f"none of {', '.join(candidates)} exists: add its new home to HOMES")


def quantize_reference(x: Any, fmt: Any, scaling: Any, axis: int) -> Any:
    """Call what is now the one pipeline, without kernels."""
    from fp8sim import _kernels
    from fp8sim.quantization import Operand, quantize_with

    with _kernels.readable():
        return quantize_with(x, Operand(fmt, scaling), axis=axis)


def round_trip(x: Any, fmt: Any, scaling: Any, axis: int) -> Any:
    """Call it with an operand instead of a format and a scaling."""
    from fp8sim.quantization import Operand, round_trip

    return round_trip(x, Operand(fmt, scaling), axis=axis)


#: What has another name than when the recording was made, and what is called in another way.
RENAMED = {
    "quantize_operands": "quantize_both",
    "llm_like_operands": "llm_like_matrices",
    "weight_operands": "weight_matrices",
}
CALLED = {"quantize_reference": quantize_reference, "round_trip": round_trip}


class _Names:
    def __getattr__(self, name: str) -> Any:
        if name in CALLED and hasattr(importlib.import_module("fp8sim._kernels"), "readable"):
            return CALLED[name]
        homes = next((homes for names, homes in HOMES.items() if name in names.split()), "")
        if not homes:
            raise AttributeError(f"{name} is not in HOMES")
        names = (RENAMED.get(name, name), name)
        return first(*(f"fp8sim.{home}:{name}" for home in homes.split() for name in names))


api = _Names()

# --- digests --------------------------------------------------------------------------------------

_NUMBER = re.compile(r"\d+\.\d+(e[+-]?\d+)?")


class Figures(NamedTuple):
    """What ``to_dict`` returns, under the name of its kind; of its keys, those recorded count."""

    kind: str
    data: Any


def figures(result: Any, *without: str) -> Figures:
    """Return the figures of a result, some of them left out."""
    return Figures(type(result).__name__, {k: v for k, v in result.to_dict().items() if k not in without})


def facts(thing: Any, names: str) -> dict[str, Any]:
    """Read attributes by name, so that ones added later do not matter; an object of fp8sim by its text."""
    found = {name: operator.attrgetter(name)(thing) for name in names.split()}
    own = {name: type(value).__module__.startswith("fp8sim") for name, value in found.items()}
    return {name: str(value) if own[name] else value for name, value in found.items()}


def restrict(data: Any, path: str, keys: Keys) -> Any:
    """Keep the keys that are recorded for a path; a path that is new, as all are in writing, records its own."""
    if isinstance(data, dict):
        known = keys.setdefault(path, sorted(data))
        return {key: restrict(data[key], f"{path}.{key}", keys) for key in known if key in data}
    return [restrict(item, path, keys) for item in data] if isinstance(data, (list, tuple)) else data


def canonical(value: Any, digits: int | None, keys: Keys) -> str:
    """Write values as equal texts if and only if they are equal; floats to some digits if so asked."""
    write = partial(canonical, digits=digits, keys=keys)
    if isinstance(value, Figures):
        return write(restrict(value.data, value.kind, keys))
    if isinstance(value, (np.ndarray, np.generic)):
        rounded = digits and value.dtype in (np.float32, np.float64)
        kept = write(value.ravel().tolist()).encode() if rounded else value.tobytes()
        return f"{value.dtype.name}{value.shape}{hashlib.sha256(kept).hexdigest()}"
    if isinstance(value, float):  # of Python: a NaN is a NaN
        return f"{value:.{digits - 1}e}" if digits else value.hex()
    if isinstance(value, str) and digits:
        return repr(_NUMBER.sub(lambda found: f"{float(found[0]):.{digits}g}", value))
    if isinstance(value, BaseException):
        return f"raises {type(value).__name__}"
    if dataclasses.is_dataclass(value):
        value = facts(value, " ".join(field.name for field in dataclasses.fields(value)))
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return "{" + ",".join(f"{key!r}:{write(value[key])}" for key in sorted(value, key=repr)) + "}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(write, value))}]"
    if value is None or isinstance(value, (bool, int, str, bytes, np.dtype)):
        return repr(value)
    raise TypeError(f"no digest of {type(value)}: read its attributes with facts()")


def digest(value: Any, digits: int | None = None, keys: Keys | None = None) -> str:
    """Return 16 hex digits that change with any bit of a value, or with any of the digits asked for."""
    return hashlib.sha256(canonical(value, digits, {} if keys is None else keys).encode()).hexdigest()[:16]


# --- running --------------------------------------------------------------------------------------


def cases() -> Iterator[Case]:
    """Yield all cases; a name says what is computed."""
    yield from importlib.import_module("recorded_cases").cases()  # which imports this module


def group_of(name: str) -> str:
    """Return the group of a case: how it is compared, and what it is about."""
    parts = name.split("/")
    about = next(i for i, part in enumerate(parts) if part not in ("numpy", "torch", *DIGITS))
    return "/".join(parts[: about + 1])


def compute(thunk: Callable[[], Any]) -> Any:
    """Return what a case computes, an exception included; warnings are other tests' business."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return thunk()
        except Exception as error:
            return error


def digest_of(name: str, value: Any, keys: Keys) -> str:
    """Return the digest of what a case computed, to as many digits as its name says."""
    return digest(value, next((DIGITS[part] for part in name.split("/") if part in DIGITS), None), keys)


def differences(chosen: Iterable[Case], recorded: dict[str, str], keys: Keys) -> list[str]:
    """Name the cases whose digest is not the recorded one, and those that are new or gone."""
    found = {name: digest_of(name, compute(thunk), keys) for name, thunk in chosen}
    return sorted(name for name in found.keys() | recorded.keys() if found.get(name) != recorded.get(name))


def obstacle(name: str, head: dict[str, str]) -> str:
    """Say what keeps a case or a group from being compared here; nothing if nothing does."""
    parts, (major, minor) = name.split("/"), head["numpy"].split(".")[:2]
    if "torch" in parts and not importlib.util.find_spec("torch"):
        return "needs torch"
    other = "numpy" in parts and np.__version__.split(".")[:2] != [major, minor]
    return f"was recorded with numpy {major}.{minor}" if other else ""


def load() -> tuple[dict[str, str], Keys, dict[str, str]]:
    """Return the recording: versions, keys and digests."""
    recording = json.loads(RECORDING.read_text(encoding="utf-8"))
    return recording["head"], recording["keys"], recording["cases"]


def write(only: Sequence[str] = ()) -> None:
    """Make a recording; refuse one of exceptions where there should be none, or the other way round."""
    keys: Keys = {}
    digests: dict[str, str] = {}
    head, keys_before, before = load() if only else ({}, {}, {})
    for name, thunk in cases():
        if only and group_of(name) not in only:
            digests[name] = before[name]
            continue
        value = compute(thunk)
        mistaken = "argument" in str(value) and isinstance(value, TypeError)  # of a call, not in its values
        if isinstance(value, Exception) != name.startswith("errors/") or mistaken or name in digests:
            raise SystemExit(f"{name}: {value!r}, or a name that is there already")
        digests[name] = digest_of(name, value, keys)
    git = ["git", "-C", str(Path(fp8sim.__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    versions = {name: metadata.version(name) for name in ("numpy", "ml_dtypes", "numba")}
    if only:  # of the commit before the change
        renewed = {**head.get("renewed", {}), **dict.fromkeys(only, commit)}
        head, keys = {**head, "renewed": renewed}, {**keys_before, **keys}
    else:
        head = {"commit": commit, "python": platform.python_version(), **versions}
    text = json.dumps({"head": head, "keys": keys, "cases": digests}, indent=0)
    RECORDING.parent.mkdir(exist_ok=True)
    RECORDING.write_text(f"{text}\n", encoding="utf-8")
    sys.stdout.write(f"{len(digests)} cases in {RECORDING}\n")


def main() -> int:
    """Compare with the recording, or do what the options say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", action="store_true", help="make a new recording")
    parser.add_argument("--only", nargs="+", default=(), metavar="GROUP", help="renew these groups alone")
    parser.add_argument("--show", metavar="NAME", help="print what a case computes")
    options = parser.parse_args()
    if options.write:
        write(options.only)
        return 0
    if options.show:
        np.set_printoptions(threshold=sys.maxsize, floatmode="unique")
        sys.stdout.write(pformat(compute(dict(cases())[options.show]), width=110) + "\n")
        return 0
    head, keys, digests = load()
    recorded = {name: value for name, value in digests.items() if not obstacle(name, head)}
    different = differences((case for case in cases() if not obstacle(case[0], head)), recorded, keys)
    sys.stdout.writelines(f"{name}\n" for name in different)
    sys.stdout.write(f"{len(different)} of {len(recorded)} cases differ\n")
    return 1 if different else 0


if __name__ == "__main__":
    from recorded_outputs import main as main_of_the_module  # the one that the cases import from

    raise SystemExit(main_of_the_module())
