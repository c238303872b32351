"""Whether every machine computes the same bits: 200 workloads, as one digest, on kinds of CPU that this one can be.

``python tests/machines.py`` prints the digest of this machine as it is. ``--all`` runs the workloads once more for
every row of `MACHINES`, each in a process of its own, and says what differs: other instructions (numba is told
which CPU to compile for, numpy which of its loops to leave aside), other numbers of threads, no numba.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

TESTS = Path(__file__).parent


class Machine(NamedTuple):
    """A kind of machine, and how this one becomes it."""

    cpu: str = ""  #: that numba compiles for: LLVM's name; this one by default
    numpy_without: str | None = None  #: loops of numpy that are not taken: those with this in their names
    threads: int = 0
    numba: bool = True

    @property
    def environment(self) -> dict[str, str]:
        """What its process is started with; a CPU has the instructions that its name says, and no others."""
        chosen = {"NUMBA_CPU_NAME": self.cpu, "NUMBA_CPU_FEATURES": FEATURES[self.cpu]} if self.cpu else {}
        if self.numpy_without is None:
            return chosen
        without = [name for name in numpy_loops() if re.search(self.numpy_without, name)]
        return {**chosen, "NPY_DISABLE_CPU_FEATURES": " ".join(without)}


def numpy_loops() -> list[str]:
    """Return the names of numpy's loops for more than the least CPU, such as X86_V3 (AVX2) and X86_V4 (AVX-512)."""
    import numpy as np

    core = np._core if hasattr(np, "_core") else np.core
    return list(core._multiarray_umath.__cpu_dispatch__)


#: What numba would otherwise add from the CPU that it runs on -> CPU.
FEATURES = {
    "skylake-avx512": "+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512cd,+avx2,+fma",
    "haswell": "+avx2,+fma,-avx512f",
    "nehalem": "-avx,-avx2,-fma,-avx512f",
}
MACHINES = {
    "as it is": Machine(),
    "AVX-512": Machine("skylake-avx512"),
    "AVX2": Machine("haswell", "512|V4"),
    "SSE": Machine("nehalem", ""),
    "1 thread": Machine(threads=1),
    "2 threads": Machine(threads=2),
    "3 threads": Machine(threads=3),
    "8 threads": Machine(threads=8),
    "no numba": Machine(numba=False),
    "no numba, SSE": Machine(numpy_without="", numba=False),
}

#: group of `recorded_cases` -> how many of its cases are taken, evenly
TAKEN = {
    "casts": 40, "numpy/casts": 12, "quantize": 36, "tensor_cores": 48, "matmul": 20, "training": 12,
    "numpy/training": 7, "metrics": 4, "rounded/metrics": 6,
}  # fmt: skip


def workloads() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield name and work: cases of `recorded_cases`, and larger ones that threads share."""
    from recorded_cases import cases
    from recorded_outputs import group_of

    groups: dict[str, list[Any]] = {}
    for name, work in cases():
        groups.setdefault(group_of(name), []).append((name, work))
    for group, count in TAKEN.items():
        every = groups[group]
        yield from (every[at * len(every) // count] for at in range(count))
    yield from large()


def large() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield work that several threads share."""
    import numpy as np

    import fp8sim
    from fp8sim import metrics
    from fp8sim.quantization import Operand, Scaling, round_trip
    from recorded_cases import spread

    a, b = spread((70, 600), 1), spread((600, 96), 2)
    x = spread((300, 700), 3)

    def of_core(name: str, every: int | None) -> Any:
        fmt = fp8sim.TENSOR_CORES[name].formats[0]
        left, right = (fp8sim.round_to(y, fmt) for y in (a, b))
        return fp8sim.tensor_core_matmul(left, right, name, promote_every=every)

    for recipe in ("bf16", "fp8-row", "deepseek-v3", "mxfp8", "nvfp4"):
        yield f"large/matmul/{recipe}", lambda recipe=recipe: fp8sim.matmul(a, b, recipe)
    for name, every in (("hopper-fp8", None), ("hopper-fp8", 128), ("ampere-bf16", None), ("volta-fp16", 64)):
        yield f"large/core/{name}/{every}", lambda name=name, every=every: of_core(name, every)
    for rounding in ("nearest-even", "stochastic"):
        yield (
            f"large/encode/{rounding}",
            lambda rounding=rounding: fp8sim.encode(
                x, "e5m2", rounding=rounding, rng=np.random.default_rng(4)
            ),
        )
    for granularity in ("1x128", "128x128", "1x32"):
        operand = Operand("e4m3", Scaling(granularity))
        yield f"large/round_trip/{granularity}", lambda operand=operand: round_trip(x, operand, axis=1)
    y = x * np.float32(1.25)
    yield (
        "large/metrics",
        lambda: [getattr(metrics, name)(x, y) for name in metrics.__all__ if name not in APART],
    )


#: Measures that take other arguments
APART = ("outlier_channels", "ulp_error", "row_errors", "row_error_spread", "ordinary_channel_error")


def digests(part: int = 1, only: str = "") -> dict[str, str]:
    """Return the digest of every `part`-th workload whose name begins so, to the last bit."""
    from recorded_outputs import compute, digest

    found = {}
    chosen = [(name, work) for name, work in workloads() if name.startswith(only)]
    for name, work in chosen[::part]:
        value = compute(work)
        if isinstance(value, Exception):
            raise value
        found[name] = digest(value)
    return found


def whole(found: dict[str, str]) -> str:
    """Return one digest of all."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]


def vectors() -> str:
    """Say which registers numba's code for a plain loop uses: xmm has 128 bits, ymm 256, zmm 512."""
    import numba
    import numpy as np

    @numba.njit
    def scale(x: Any, y: Any) -> None:
        for i in range(x.size):
            y[i] = 3.0 * x[i]

    scale(np.ones(4), np.ones(4))
    code = next(iter(scale.inspect_asm().values()))
    return next((name for name in ("zmm", "ymm", "xmm") if f"%{name}" in code), "none")


def run(machine: Machine, part: int = 1, only: str = "") -> dict[str, Any]:
    """Run the workloads as on a machine: what numba's code uses, and the digests."""
    command = [sys.executable, __file__, "--json", "--part", str(part), "--only", only]
    command += ["--threads", str(machine.threads)] if machine.threads else []
    command += [] if machine.numba else ["--no-numba"]
    environment = {**os.environ, **machine.environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return dict(json.loads(done.stdout))


def has(machine: Machine) -> bool:
    """Whether this CPU has the instructions of a machine."""
    if machine.cpu and platform.machine() not in ("x86_64", "AMD64"):
        return False
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "avx512" not in machine.cpu or "avx512f" in flags


def main() -> int:
    """Print digests, or compare machines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--all", action="store_true", help="compare every machine that this one can be")
    parser.add_argument("--part", type=int, default=1, help="every so manieth workload alone")
    parser.add_argument("--only", default="", help="workloads whose name begins so")
    parser.add_argument("--threads", type=int, default=None, help="how many fp8sim may use")
    parser.add_argument("--no-numba", action="store_true", help="block numba")
    parser.add_argument("--json", action="store_true", help="print the digest of each workload")
    options = parser.parse_args()
    if options.no_numba:
        sys.modules["numba"] = None  # type: ignore[assignment]  # importing it raises ImportError
    import fp8sim

    if options.all:
        return compare(options.part, options.only)
    fp8sim.set_num_threads(options.threads)
    found = digests(options.part, options.only)
    if options.json:
        registers = "-" if options.no_numba else vectors()
        sys.stdout.write(json.dumps({"registers": registers, "digests": found}))
    else:
        sys.stdout.write(f"{whole(found)} of {len(found)} workloads\n")
    return 0


def compare(part: int, only: str) -> int:
    """Run on every machine; print a table and what differs."""
    first: dict[str, str] = {}
    wrong = 0
    sys.stdout.write(f"{'machine':16}{'registers':>10}{'workloads':>10}{'seconds':>9}  digest\n")
    for name, machine in MACHINES.items():
        if not has(machine):
            sys.stdout.write(f"{name:16}  this CPU has no such instructions\n")
            continue
        began = time.perf_counter()
        result = run(machine, part, only)
        found, seconds = result["digests"], time.perf_counter() - began
        first = first or found
        line = f"{name:16}{result['registers']:>10}{len(found):>10}{seconds:9.0f}  {whole(found)}\n"
        sys.stdout.write(line)
        different = [case for case in first if found[case] != first[case]]
        sys.stdout.writelines(f"  differs: {case}\n" for case in different)
        sys.stdout.flush()
        wrong += len(different)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.path.insert(0, str(TESTS))
    raise SystemExit(main())
