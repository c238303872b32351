"""The command line in processes of its own: interrupts, streams in any state, and the cache of machine code."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import fp8sim
from fuzz.command import contents, damaged, listing
from fuzz.harness import Failure, category, chance, must, pick, shortened

#: What every process does before its work, with this in it: a fault that is planted.
_prelude = ""
PACKAGES = str(Path(fp8sim.__file__).parents[1])
MAIN = "import sys; from fp8sim import cli; cli.main()"


@contextlib.contextmanager
def prelude(code: str) -> Iterator[None]:
    """Let every process do something first."""
    global _prelude
    _prelude = code
    try:
        yield
    finally:
        _prelude = ""


def environment(**more: str) -> dict[str, str]:
    """Return variables with which a process finds this package."""
    return {**os.environ, "PYTHONPATH": PACKAGES, "PYTHONDONTWRITEBYTECODE": "1", **more}


def program(code: str) -> list[str]:
    """Return the words that run code in a process."""
    lines = [_prelude, code] if _prelude else [code]
    return [sys.executable, "-c", "\n".join(lines)]


def _not_on_unix() -> str:
    return "" if os.name == "posix" and shutil.which("bash") else "needs a Unix and bash"


# --- interrupts -------------------------------------------------------------------------------------------

WORK: list[tuple[str, ...]] = [
    ("compare", "--shape", "64x512x2048"),
    ("explain", "0.3"),
    ("formats", "--json"),
    ("model", "deepseek-v3"),
]
if find_spec("matplotlib"):
    WORK.append(("model", "llama-3.1-8b", "--plot", "old.png"))
if find_spec("torch"):
    WORK.append(
        (
            "train", "--steps", "40", "--seeds", "1", "--width", "16", "--heads", "2", "--layers", "1", "--context", "8",
            "--recipe", "fp32", "--text", "text.txt", "--out", "run",
        )
    )  # fmt: skip
WORK.append(("claims", "--html", "old.html"))


@category(
    "interrupts at any moment",
    few=2,
    plant=lambda: prelude(
        "from fp8sim import cli\ncli._outcome = lambda error: (1, repr(error))\n"
        "def _interrupt(seen):\n    raise KeyboardInterrupt\ncli._interrupt = _interrupt"
    ),
    skip=_not_on_unix,
)
def signals(rng: np.random.Generator, folder: Path) -> None:
    """Interrupt a command after some time: status 130, no word, no half-written file."""
    (folder / "text.txt").write_bytes(contents()["text.txt"])
    (folder / "old.png").write_bytes(b"old")
    (folder / "old.html").write_text("<p>old</p>")
    line = pick(rng, WORK)
    code = (  # a moment from main() on: what Python does before is its own
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from fp8sim import cli\nseen = signal.signal\n"
        "def first(*words):\n    seen(*words); signal.signal = seen; os.write(3, b'x')\n"
        f"signal.signal = first\nsys.argv = ['fp8sim', *{line!r}]\ncli.main()"
    )
    delay = float(rng.uniform(0, 0.6) if chance(rng, 0.5) else rng.uniform(0, 3))
    read, write = os.pipe()
    try:
        with subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3>&{write}', "bash", *program(code)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, env=environment(), pass_fds=[write],
        ) as child:  # fmt: skip
            os.close(write)
            write = -1
            os.read(read, 1)
            time.sleep(delay)
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=50)
    finally:
        os.close(read)
        if write >= 0:
            os.close(write)
    what = f"{' '.join(line)} after {delay:.3f} s"
    words = [text for text in err.decode().splitlines() if not text.startswith("wrote ")]
    if child.returncode not in (130, 0) or words or b"Traceback" in out:
        raise Failure("traceback", f"status {child.returncode}, {what}: {shortened(err.decode()[-500:])}")
    for name, content in listing(folder).items():
        good = {"old.png": (b"old", b"IEND\xaeB`\x82"), "old.html": (b"<p>old</p>", b"</html>")}.get(name)
        if name.endswith(".part") or (good and content and not content.strip().endswith(good)):
            raise Failure("half-written", f"{name}, {what}")


# --- streams ----------------------------------------------------------------------------------------------

COMMANDS = (
    "formats",
    "recipes --json",
    "explain 0.3 448",
    "explain dot",
    "model deepseek-v3",
    "--help",
    "formats --nothing",
    "explain x",
)
STREAMS = (
    ">&-", "2>&-", "<&-", ">&- 2>&-", ">&- 2>&- <&-", ">/dev/full", "2>/dev/full", ">/dev/full 2>&-", "| true",
    "| head -n 1", "2>&1 | true", ">/dev/null", "</dev/zero", "2>&- | tail -n 1",
)  # fmt: skip
LOCALES: tuple[dict[str, str], ...] = (
    {}, {}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "utf-16"},
    {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"COLUMNS": "1"}, {"COLUMNS": "x"},
    {"TERM": "dumb"}, {"NO_COLOR": "1"}, {"FORCE_COLOR": "1"}, {"NUMBA_DISABLE_JIT": "1"}, {"PYTHONOPTIMIZE": "2"},
    {"PYTHONWARNINGS": "error"}, {"OMP_NUM_THREADS": "0"}, {"HOME": "/nowhere"}, {"NUMBA_CACHE_DIR": "/proc/no"},
)  # fmt: skip


@category(
    "streams that are closed, full or without Unicode",
    few=3,
    plant=lambda: prelude(
        "from fp8sim.cli import streams; streams.prepare = streams.drain = lambda: None; import fp8sim.cli"
    ),
    skip=_not_on_unix,
)
def streams(rng: np.random.Generator, folder: Path) -> None:
    """Run a command whose streams are in any state: status 0 or 2, and at most one line."""
    words, stream, variables = pick(rng, COMMANDS), pick(rng, STREAMS), pick(rng, LOCALES)
    line = f'"$0" -c "$1" {words} {stream}; exit ${{PIPESTATUS[0]}}'
    executable, _, code = program(MAIN)
    done = subprocess.run(
        ["bash", "-c", line, executable, code],
        capture_output=True,
        check=False,
        cwd=folder,
        env=environment(**variables),
        timeout=50,
    )
    encoding = variables.get("PYTHONIOENCODING", "utf-8")
    out, err = (raw.decode(encoding, "replace") for raw in (done.stdout, done.stderr))
    what = f"fp8sim {words} {stream} {variables}"
    bad = words in ("formats --nothing", "explain x")
    status = 2 if bad or (">/dev/full" in stream and "2>/dev/full" not in stream) else 0
    if done.returncode != status:
        raise Failure(
            "traceback", f"status {done.returncode}, want {status}: {what}: {shortened(err[-500:])}"
        )
    if len(err.splitlines()) > 1 or "Traceback" in err + out or "Exception ignored" in err:
        raise Failure("traceback", f"{what}: {shortened(err[-500:])}")


# --- the cache of machine code ----------------------------------------------------------------------------

CAST = (
    "import hashlib, sys, numpy as np, fp8sim\n"
    "x = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)\n"
    "sys.stdout.write(hashlib.sha256(fp8sim.round_to(x, 'e4m3').tobytes()).hexdigest())"
)


@functools.cache
def _warm() -> tuple[Any, Path, bytes]:
    """Fill a cache once: a temporary folder that lives as long as this, and what the cast gave."""
    keep = tempfile.TemporaryDirectory(prefix="fp8sim-fuzz-cache-")
    return keep, Path(keep.name), _cast(Path(keep.name)).stdout


def _cast(cache: Path) -> subprocess.CompletedProcess[bytes]:
    variables = environment(NUMBA_CACHE_DIR=str(cache))
    return subprocess.run(program(CAST), capture_output=True, check=False, env=variables, timeout=50)


@category(
    "the cache of machine code, damaged",
    few=1,
    plant=lambda: prelude(
        "from fp8sim._kernels import _jit\n_jit._Cache.load_overload = _jit.caching.FunctionCache.load_overload"
    ),
    skip=lambda: "" if find_spec("numba") else "needs numba",
)
def kernel_cache(rng: np.random.Generator, folder: Path) -> None:
    """Damage files of the cache: the same bits all the same, and no word."""
    _, whole, want = _warm()
    shutil.copytree(whole, folder / "cache")
    files = sorted(path for path in (folder / "cache").rglob("*.nb?"))
    must(files, "nothing is cached")
    for file in [pick(rng, files) for _ in range(int(rng.integers(1, 4)))]:
        file.write_bytes(damaged(rng, file.read_bytes()))
    if chance(rng, 0.1):
        pick(rng, files).unlink()
    done = _cast(folder / "cache")
    if done.returncode or done.stderr:
        raise Failure("traceback", f"status {done.returncode}: {shortened(done.stderr.decode()[-500:])}")
    must(done.stdout == want, "other bits from a damaged cache")
