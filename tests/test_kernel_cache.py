"""The disk cache of machine code: it serves what was compiled, and nothing that an edit has overtaken."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import fp8sim

PACKAGE = Path(fp8sim.__file__).parent
KERNELS = {path.name: path.read_text(encoding="utf-8") for path in (PACKAGE / "_kernels").glob("*.py")}

# A kernel in one file calls one in another, as the real ones do: numba looks at the file of the first alone.
CALLED = """
from fp8sim._kernels._jit import jit

FACTOR = 3.0

@jit
def scaled(x):
    return FACTOR * x
"""
CALLER = """
from fp8sim._kernels._jit import jit
from fp8sim._kernels.called import scaled

@jit
def summed(x):
    return scaled(x) + 1.0
"""


class Run(NamedTuple):
    """What a kernel returned in a fresh interpreter, and whether its machine code came from the disk."""

    result: float
    from_disk: bool


@pytest.fixture
def copy(tmp_path):
    pytest.importorskip("numba")
    folder = tmp_path / "src" / "fp8sim"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "_kernels" / "called.py").write_text(CALLED)
    (folder / "_kernels" / "caller.py").write_text(CALLER)
    return folder


def run(copy: Path) -> Run:
    """Call `summed(2.0)` of a copy of the package; the copy's own folders hold the cache."""
    script = (
        "from fp8sim._kernels.caller import summed\nprint(summed(2.0), sum(summed.stats.cache_hits.values()))"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy.parent),
        "NUMBA_CACHE_DIR": str(copy.parent.parent / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",  # else an edit within a second, of the same length, may go unseen
    }
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    result, hits = done.stdout.split()
    return Run(float(result), hits != "0")


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new"), [("FACTOR = 3.0", "FACTOR = 5.0"), ("FACTOR * x", "FACTOR + x + 5.0 - 0.0 * x")]
)
def test_an_edit_of_a_called_kernel_is_seen(copy, old, new):
    assert run(copy) == (7.0, False)
    assert run(copy) == (7.0, True)  # so there is something that could be served by mistake
    edit(copy / "_kernels" / "called.py", old, new)
    assert run(copy) == (11.0, False)
    assert run(copy) == (11.0, True)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16  # among the machine code, where nothing but a digest would tell
    file.write_bytes(content)


DAMAGES = {
    "cut": lambda file: os.truncate(file, 20),
    "emptied": lambda file: os.truncate(file, 0),
    "overwritten": lambda file: file.write_bytes(b"\x80\x05garbage" * 100),
    "flipped": flip,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_a_damaged_cache_is_built_anew(copy, suffix, damage):
    run(copy)
    files = list((copy.parent.parent / "cache").rglob(f"*.{suffix}"))
    assert len(files) == 2  # of the two kernels
    for file in files:
        DAMAGES[damage](file)
    assert run(copy) == (7.0, False)
    assert run(copy) == (7.0, True)


def test_a_cache_that_there_is_no_room_for_is_done_without(copy):
    full = "\n\ndef _full(*_):\n    raise OSError(28, 'No space left on device')\n\n\n_Files.save = _full\n"
    with (copy / "_kernels" / "_jit.py").open("a") as file:
        file.write(full)
    assert run(copy) == (7.0, False)
    assert run(copy) == (7.0, False)


def compilers(source: str) -> set[str]:
    """Return what a module has functions compiled by, other than `jit` and `intrinsic` of the kernels."""
    names = {ast.unparse(node).split("(")[0] for tree in ast.walk(ast.parse(source))
             for node in getattr(tree, "decorator_list", ())}  # fmt: skip
    return {name for name in names if name.startswith("numba") or name in ("njit", "vectorize", "overload")}


@pytest.mark.parametrize("file", sorted(KERNELS.keys() - {"_jit.py"}))
def test_every_kernel_is_compiled_by_what_knows_of_edits(file):
    assert compilers(KERNELS[file]) == set()


def test_another_way_to_compile_is_found():
    source = "@numba.njit(cache=True)\ndef f(): ...\n@jit\ndef g(): ...\n@njit\ndef h(): ..."
    assert compilers(source) == {"numba.njit", "njit"}
