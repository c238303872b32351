"""What every benchmark shares: answers compared before the clock starts, peers in turn, one report.

A script builds its cases one at a time, so that only one holds its arrays, and hands them to `main`:

    import harness
    from harness import Case, Options, Peer

    def cases(options: Options):
        size = 1 << (12 if options.smoke else 24)
        x = options.rng().standard_normal(size, dtype=np.float32)

        def torch_eager():                      # imports what it needs: a missing peer is skipped by name
            import torch
            t = torch.from_numpy(x)
            return lambda: t.to(torch.float8_e4m3fn)

        yield Case(
            "float32 to E4M3 codes",
            ours=lambda: fp8sim.encode(x, "e4m3"),
            peers={
                "torch eager": Peer(torch_eager, goal=1.5),              # bit for bit, or it is not timed
                "a copy": Peer(lambda: x.copy, goal=0.8, check=None),    # nothing to compare
            },
            work=size,
            unit="elements",
        )

    if __name__ == "__main__":
        sys.exit(harness.main("casts", "Casts", cases))

`python benchmarks/emulator/bench_casts.py` prints a table; `--smoke` runs small and once, `--json FILE`
keeps all figures, `--write` replaces the script's section of the README.md beside it. A ratio is the peer's
median time over ours, so above 1 we are faster; it is compared with the goal where there is one.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Case", "Options", "Peer", "main", "same_bits", "within"]

README = Path(__file__).with_name("README.md")
HEADER = """# How fast the emulator is

fp8sim beside other software that does the same on a CPU. What FP8 saves on a GPU is not timed here: that is
in [fp16_vs_fp8](../README.md).

Each section below was written by the run of one script, `python benchmarks/emulator/bench_NAME.py --write`,
and by nothing else. Every peer ran in the same process on the same arrays, in turn with fp8sim, after its
answer had been compared with ours. Times are medians, each of a run that follows one off the clock; a ratio
is the peer's time over ours, so above 1 fp8sim is faster; extra memory is the peak of one call above its
inputs and its result.
"""
PAUSE = 0.03  # seconds; OpenBLAS threads spin for 2^26 cycles
QUICK = 0.5  # seconds; slower calls have no use for a run off the clock
PACKAGES = ("numpy", "ml_dtypes", "numba", "torch", "jax", "gfloat", "mmaemu")

Call = Callable[[], Any]
Check = Callable[[Any, Any], None]
Report = dict[str, Any]


def as_array(result: Any) -> np.ndarray:
    """Take a result of numpy, torch or jax as a numpy array of the same bits."""
    if type(result).__module__.partition(".")[0] == "torch":
        import torch

        if result.dtype == torch.bfloat16 or str(result.dtype).startswith("torch.float8"):
            result = result.view(torch.uint8 if result.dtype.itemsize == 1 else torch.int16)
        return np.asarray(result.numpy())
    return np.asarray(result)


def same_bits(ours: Any, theirs: Any) -> None:
    """Require equal bits, of one array or of each in a tuple; NaNs may differ in sign and payload."""
    if isinstance(ours, tuple):
        if len(ours) != len(theirs):
            raise AssertionError(f"{len(theirs)} answers, not {len(ours)}")
        for mine, other in zip(ours, theirs, strict=True):
            same_bits(mine, other)
        return
    mine, other = as_array(ours), as_array(theirs)
    if mine.shape != other.shape or mine.itemsize != other.itemsize:
        raise AssertionError(f"{other.dtype} of shape {other.shape}, not {mine.dtype} of {mine.shape}")
    bits = np.dtype(f"u{mine.dtype.itemsize}")
    differ = mine.view(bits) != other.view(bits)
    if mine.dtype.kind == "f":
        differ &= ~(np.isnan(mine) & np.isnan(other.view(mine.dtype)))
    if differ.any():
        where = tuple(int(i) for i in np.argwhere(differ)[0])
        raise AssertionError(f"{int(differ.sum())} of {differ.size} answers differ, the first at {where}")


def within(relative: float) -> Check:
    """Require a relative Frobenius distance of at most `relative`, for peers that sum in another way."""

    def check(ours: Any, theirs: Any) -> None:
        mine, other = (as_array(r).astype(np.float64) for r in (ours, theirs))
        distance = np.linalg.norm(mine - other) / np.linalg.norm(other)
        if not distance <= relative:
            raise AssertionError(f"relative distance {distance:.2e}, allowed {relative:.2e}")

    return check


@dataclass(frozen=True)
class Peer:
    """Another way to do the work of a case.

    `make` imports what it needs and returns the call to time. `goal` is the least ratio of its time to
    ours. `check(ours, theirs)` raises AssertionError where the answers differ; None compares nothing.
    """

    make: Callable[[], Call]
    goal: float | None = None
    check: Check | None = same_bits


@dataclass(frozen=True)
class Case:
    """One piece of work: our call, the peers by name, and how much of which unit one call does.

    `goal` is the least of it that we should do per second.
    """

    name: str
    ours: Call
    peers: Mapping[str, Peer]
    work: float
    unit: str
    goal: float | None = None


@dataclass(frozen=True)
class Options:
    """What the command line chose."""

    smoke: bool = False
    seed: int = 0
    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    seconds: float = 4.0

    def rng(self) -> np.random.Generator:
        """Return a fresh generator of the seed."""
        return np.random.default_rng(self.seed)


def main(
    name: str, title: str, cases: Callable[[Options], Iterator[Case]], argv: list[str] | None = None
) -> int:
    """Run the cases of one script; return 1 if a goal was missed in a full run, else 0."""
    parser = argparse.ArgumentParser(description=title, allow_abbrev=False)
    parser.add_argument("--smoke", action="store_true", help="small and once: does it run and agree?")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=Options().threads, help="for every peer")
    parser.add_argument("--seconds", type=float, default=4.0, help="spent on each call that is timed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--write", action="store_true", help="replace its section of the README.md here")
    chosen = parser.parse_args(argv)
    if chosen.smoke and chosen.write:
        parser.error("--write shows a real run; leave --smoke out")
    options = Options(chosen.smoke, chosen.seed, chosen.threads, chosen.seconds)
    report = measure(name, title, cases, options)
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=1) + "\n")
    if chosen.write:
        write_section(name, markdown(report))
    judged = [row for case in report["cases"] for row in (case, *case["peers"])]
    missed = [row for row in judged if row.get("met") is False]
    return int(bool(missed) and not options.smoke)


def measure(name: str, title: str, cases: Callable[[Options], Iterator[Case]], options: Options) -> Report:
    """Run the cases one after the other, print each, and return all figures."""
    _set_threads(options.threads)
    report: Report = {"benchmark": name, "title": title, **_setting(options), "cases": []}
    for case in cases(options):
        report["cases"].append(_run(case, options))
        print(_text(report["cases"][-1]), flush=True)
    return report


def _run(case: Case, options: Options) -> dict[str, Any]:
    """Compare the answers, then time our call and those of the peers in turn."""
    case.ours()  # compiles
    answer, extra = _traced(case.ours)
    calls, skipped = {"fp8sim": case.ours}, {}
    for peer_name, peer in case.peers.items():
        try:
            call = peer.make()
        except ImportError as error:
            skipped[peer_name] = str(error)
            continue
        theirs = call()
        if peer.check is not None:
            try:
                peer.check(answer, theirs)
            except AssertionError as error:
                raise AssertionError(f"{case.name}: {peer_name}: {error}") from None
        del theirs
        calls[peer_name] = call
    del answer
    times = _time_in_turn(calls, options)
    ours = statistics.median(times.pop("fp8sim"))
    rows = [
        judge(peer_name, seconds, ours, None if options.smoke else case.peers[peer_name].goal)
        for peer_name, seconds in times.items()
    ]
    goal = None if options.smoke else case.goal
    return {
        "case": case.name,
        "seconds": ours,
        "work": case.work,
        "unit": case.unit,
        "per_second": case.work / ours,
        "extra_bytes": extra,
        **({} if goal is None else {"goal": goal, "met": case.work / ours >= goal}),
        "peers": rows,
        "skipped": skipped,
    }


def judge(name: str, seconds: list[float], ours: float, goal: float | None) -> dict[str, Any]:
    median = statistics.median(seconds)
    ratio = median / ours
    row = {"peer": name, "seconds": median, "best": min(seconds), "runs": len(seconds), "ratio": ratio}
    return row if goal is None else {**row, "goal": goal, "met": ratio >= goal}


def _time_in_turn(calls: Mapping[str, Call], options: Options) -> dict[str, list[float]]:
    """Time one run of each call after the other, round by round, each until its seconds are spent.

    Every round has an order of its own. Before a turn the threads of the last one get the time to fall
    asleep, since some spin for a while; then a quick call runs once off the clock, so that it finds caches,
    pages and threads as it leaves them itself, and not as another left them.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    least, most = (1, 1) if options.smoke else (3, 31)
    order, rng = list(calls), options.rng()
    for done in range(most):
        rng.shuffle(order)
        for name in order:
            if done < least or sum(times[name]) < options.seconds:
                time.sleep(0 if options.smoke else PAUSE)
                if not options.smoke and max(times[name], default=0) < QUICK:
                    calls[name]()
                start = time.perf_counter()
                result = calls[name]()
                times[name].append(time.perf_counter() - start)
                del result  # freed off the clock
    return times


def _traced(call: Call) -> tuple[Any, int]:
    """Return the answer of a call, and the peak of what it allocated above that answer, in bytes.

    Counts what numpy allocates, which includes every array of the library and what it keeps for later.
    """
    from fp8sim._support import memory as _memory

    _memory.release()
    tracemalloc.start()
    try:
        answer = call()
        peak = tracemalloc.get_traced_memory()[1]
        _memory.release()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    return answer, peak - held


def _set_threads(threads: int) -> None:
    """Give fp8sim and torch as many threads; jax and numpy's BLAS take the CPUs the process may run on."""
    import fp8sim

    fp8sim.set_num_threads(threads)
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(threads)


def _setting(options: Options) -> dict[str, Any]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "machine": {"cpu": _cpu(), "cpus": os.cpu_count(), "system": platform.system()},
        "versions": versions,
        "seed": options.seed,
        "threads": options.threads,
        "smoke": options.smoke,
        "date": time.strftime("%Y-%m-%d"),
    }


def _cpu() -> str:
    """Name the processor, with its family and model numbers where the system gives them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    found = {key.strip(): value.strip() for key, value in fields.items()}
    name = found.get("model name", platform.machine())
    return f"{name}, family {found.get('cpu family', '?')} model {found.get('model', '?')}"


def _seconds(value: float) -> str:
    for scale, name in ((1, "s"), (1e-3, "ms")):
        if value >= scale:
            return f"{value / scale:.3g} {name}"
    return f"{value * 1e6:.3g} us"


def _rate(case: Mapping[str, Any]) -> str:
    rate = f"{_count(case['per_second'])}{case['unit']}/s"
    if "goal" not in case:
        return rate
    return f"{rate} (goal {_count(case['goal']).strip()}, {'met' if case['met'] else 'missed'})"


def _count(value: float) -> str:
    prefix, scale = next((p, s) for p, s in (("G ", 1e9), ("M ", 1e6), ("", 1)) if value >= s / 10)
    return f"{value / scale:.3g} {prefix}"


def _ratio(value: float) -> str:
    return f"{value:.1f}x" if value >= 10 else f"{value:.2f}x" if value >= 0.3 else f"1/{1 / value:.1f}"


def _verdict(row: Mapping[str, Any]) -> str:
    if "goal" not in row:
        return ""
    return f"{_ratio(row['goal'])}, {'met' if row['met'] else 'missed'}"


def _text(case: Mapping[str, Any]) -> str:
    lines = [
        f"{case['case']}: {_seconds(case['seconds'])}, {_rate(case)}, extra memory "
        f"{case['extra_bytes'] / 2**20:.1f} MiB"
    ]
    for row in case["peers"]:
        verdict = _verdict(row)
        goal = f"   goal {verdict}" if verdict else ""
        lines.append(f"    {row['peer']:<24} {_seconds(row['seconds']):>9}  {_ratio(row['ratio']):>8}{goal}")
    lines += [f"    {peer:<24} skipped: {why}" for peer, why in case["skipped"].items()]
    return "\n".join(lines)


def markdown(report: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    machine = report["machine"]
    lines = [
        f"## {report['title']}",
        "",
        f"{report['date']}, {machine['cpu']}, {report['threads']} threads of {machine['cpus']} CPUs, "
        f"{machine['system']}; seed {report['seed']}; {versions}.",
        "",
        "| work | fp8sim | rate | extra memory | peer | its time | ratio | goal |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in report["cases"]:
        first = (
            f"{case['case']} | {_seconds(case['seconds'])} | {_rate(case)} | "
            f"{case['extra_bytes'] / 2**20:.1f} MiB"
        )
        for row in case["peers"]:
            lines.append(
                f"| {first} | {row['peer']} | {_seconds(row['seconds'])} | {_ratio(row['ratio'])} | "
                f"{_verdict(row)} |"
            )
            first = " | | | "
        for peer in case["skipped"]:
            lines.append(f"| {first} | {peer} | not installed | | |")
            first = " | | | "
    return "\n".join(lines)


def write_section(name: str, text: str) -> None:
    """Replace the section of one script, or add it; the head of the page is `HEADER` always."""
    page = README.read_text() if README.exists() else ""
    sections = dict(re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- end -->", page, flags=re.DOTALL))
    sections[name] = text
    parts = [f"<!-- {key} -->\n{body}\n<!-- end -->\n" for key, body in sections.items()]
    README.write_text("\n".join([HEADER, *parts]))
    print(f"wrote the section {name} of {README.name}", file=sys.stderr)
