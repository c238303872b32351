"""The command line in this process: words of a grammar that its own options make, and files of all kinds."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from fp8sim import FORMATS, RECIPES, TENSOR_CORES, cli
from fp8sim._support import checks
from fp8sim.costs import DEVICES
from fp8sim.models import MODELS
from fp8sim.quantization import SCALE_FORMATS, SCALE_RULES
from fp8sim.reference import ROUNDINGS
from fp8sim.training import TRAINING_RECIPES
from fuzz.harness import Failure, category, chance, pick, planted, shortened

HAS_TORCH = find_spec("torch") is not None
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")

Words = tuple[str, ...]
INTEGERS: Words = (
    "0",
    "1",
    "2",
    "3",
    "-1",
    "9" * 30,
    "9" * 400,
    "x",
    "1.5",
    "",
    "0x3",
    "\u0663",
    "1_0",
    str(2**63),
)
#: What has time to be done in a trial.
SMALL: Words = ("1", "2", "3", "0", "-1", "x", "9" * 400, "1e3")
#: Option -> words it takes, more or less.
VALUES: dict[str, Words] = {
    "--shape": ("4x8x16", "1x1x1", "3,5,7", "0x1x1", "4x8", "9" * 20 + "x1x1", "1000000x1000000x1000000", "x", "8X8X40"),
    "--format": (*FORMATS, "int8", "float8_e4m3fn", "e9m9"),
    "--device": (*DEVICES, "tpu"),
    "--rounding": (*ROUNDINGS, "up"),
    "--overflow": ("saturate", "ieee", "wrap"),
    "--scale-format": (*SCALE_FORMATS, "fp64"),
    "--scale-rule": (*SCALE_RULES, "best"),
    "--core": (*TENSOR_CORES, "hopper-fp8/64", "hopper-fp8/0", "warp"),
    "--promote-every": ("32", "128", "64", "1", *INTEGERS),
    "--phase": ("training", "prefill", "decode", "sleep"),
    "--seed": INTEGERS, "--seq-len": ("128", "4096", *INTEGERS), "--batch": ("1", "64", *INTEGERS),
    "--seeds": SMALL, "--steps": SMALL, "--sequences": SMALL, "--context": ("4", "8", *SMALL), "--layers": SMALL,
    "--width": ("8", "16", *SMALL), "--heads": SMALL, "--lr": ("1e-3", "0", "-1", "nan", "inf", "1e400", "x"),
}  # fmt: skip
GARBAGE: Words = (
    "", "-", "--", "-1", "--nonsense", "--json", "--help", "0.3", "nan", "inf", "-inf", "1e999", "5e-324", "2^-10",
    "2**99999", "2^2^2", "0x1p3", "[bold]x[/bold]", "\x1b[31mred", "a\nb", "\u202eabc", "\udcff", "a" * 3000, "%s",
    "{x}", "e4m3", "bf16", "\N{GREEK SMALL LETTER ALPHA}", "1,5", "--format=e4m3", "value", "block", "dot", "1x1", "16x16",
    "1x1*3", "1x1*99999999999999", "0.1x0.2*2000", "nanx1", "1x", "x", "$(id)", "~", "*", ".", "..", "/", "/dev/null",
)  # fmt: skip
ARGUMENTS: Words = (
    "0.3",
    "-1e-3",
    "2^-10",
    "448",
    "1e6",
    "inf",
    "nan",
    "0",
    "-0",
    "16x0.5",
    "1x1*40",
    "-2x3",
    "5e-324",
)
#: Commands that would take long without these words.
SHORT: dict[str, Words] = {
    "compare": ("--shape", "4x8x16"),
    "train": (
        "--steps", "1", "--seeds", "1", "--sequences", "1", "--context", "4", "--width", "8", "--layers", "1",
        "--heads", "1", "--text", "text.txt", "--recipe", "fp32", "--baseline", "fp32",
    ),
}  # fmt: skip


class Option(NamedTuple):
    """An option of a command."""

    name: str
    flag: bool


@functools.cache
def commands() -> dict[Words, list[Option]]:
    """Ask the application for its commands and their options."""
    from typer.main import get_command

    found: dict[Words, list[Option]] = {}

    def walk(command: Any, words: Words) -> None:
        options = [
            Option(p.opts[0], bool(getattr(p, "is_flag", False)))
            for p in command.params
            if p.opts[0][0] == "-"
        ]
        found[words] = [*options, Option("--help", True)]
        for name, below in getattr(command, "commands", {}).items():
            walk(below, (*words, name))

    walk(get_command(importlib.import_module("fp8sim.cli.commands").app), ())
    return found


# --- files ------------------------------------------------------------------------------------------------


def damaged(rng: np.random.Generator, content: bytes) -> bytes:
    """Flip bits, cut off, insert or overwrite."""
    data = bytearray(content)
    if not data:
        return b"x"
    at = int(rng.integers(len(data))) if chance(rng, 0.5) else int(rng.integers(min(200, len(data))))
    match pick(rng, ("flip", "flip", "cut", "insert", "zeros", "twice", "number")):
        case "flip":
            for _ in range(int(rng.integers(1, 5))):
                data[at] ^= 1 << int(rng.integers(8))
                at = int(rng.integers(len(data)))
        case "cut":
            del data[at:]
        case "insert":
            data[at:at] = rng.bytes(int(rng.integers(1, 9)))
        case "zeros":
            data[at : at + 16] = bytes(len(data[at : at + 16]))
        case "twice":
            data *= 2
        case _:
            data[at : at + 8] = b"\xff" * len(data[at : at + 8])
    return bytes(data)


@functools.cache
def contents() -> dict[str, bytes]:
    """Return good files by what they are."""
    array = io.BytesIO()
    np.save(array, np.linspace(-3, 3, 80, dtype=np.float32).reshape(5, 16))
    text = ("The quick brown fox jumps over the lazy dog. " * 300).encode()
    config = json.dumps(dict(MODELS["llama-3.1-8b"].config)).encode()
    made = {"x.npy": array.getvalue(), "text.txt": text, "config.json": config}
    if find_spec("safetensors"):
        from safetensors.numpy import save

        rng = np.random.default_rng(0)
        names = ("layer.weight", "\x1b[31mred", "a\nb", "[bold]", "x" * 500)
        tensors = {name: rng.standard_normal((8, 16)).astype(np.float16) for name in names}
        made["model.safetensors"] = save({**tensors, "bias": np.ones(8, np.float32)})
    return made


def changed_config(rng: np.random.Generator) -> bytes:
    """Return the configuration of a model with a few entries that are other ones."""
    config: dict[str, Any] = dict(MODELS[pick(rng, MODELS)].config)
    odd = (
        None,
        True,
        0,
        -1,
        1,
        3,
        1e3,
        2**53,
        10**310,
        "x",
        [],
        {},
        [1],
        "\x1b[31m",
        0.5,
        [10**6] * 3,
        "4096",
    )
    for _ in range(int(rng.integers(1, 4))):
        key = pick(rng, (*config, "new"))
        if chance(rng, 0.3):
            config.pop(key, None)
        else:
            config[key] = pick(rng, odd)
    return json.dumps(config).encode()


def make_files(rng: np.random.Generator, folder: Path) -> list[str]:
    """Fill a folder with good, damaged and odd files; return their names and some that there are not."""
    for name, content in contents().items():
        (folder / name).write_bytes(content)
        (folder / f"damaged-{name}").write_bytes(damaged(rng, content))
    (folder / "changed.json").write_bytes(changed_config(rng))
    (folder / "empty.npy").write_bytes(b"")
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "binary.json").write_bytes(rng.bytes(200))
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "old.html").write_text("<p>old</p>")
    (folder / "old.png").write_bytes(b"old")
    (folder / "locked.html").write_text("<p>kept</p>")
    (folder / "locked.html").chmod(0o444)
    (folder / "loop").symlink_to("loop")
    (folder / "nowhere").symlink_to("nothing/here")
    (folder / "sub").mkdir()
    (folder / "\x1b[31mred.json").write_bytes(contents()["config.json"])
    with contextlib.suppress(OSError, UnicodeError):
        (folder / "\udcff.npy").write_bytes(contents()["x.npy"])
    np.save(folder / "nan.npy", np.full((5, 16), np.nan))
    np.save(folder / "big.npy", np.full((5, 16), 1e300))
    np.save(folder / "ints.npy", np.arange(80).reshape(5, 16))
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000, 4000000000), }".ljust(118) + "\n"
    (folder / "huge.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + (118 + 1).to_bytes(2, "little") + header.encode()
    )
    names = sorted(path.name for path in folder.iterdir())
    return [
        *names,
        "missing.json",
        "sub/new.html",
        "no/folder/x.html",
        "new.png",
        "new.svg",
        "new.pdf",
        "new.xyz",
        "new",
        "",
    ]


# --- running ----------------------------------------------------------------------------------------------


class Done(NamedTuple):
    """How a command ended."""

    status: object
    out: str
    err: str


def run(arguments: Words, folder: Path) -> Done:
    """Run the command line in this process, in a folder, its streams caught."""
    streams = [
        io.TextIOWrapper(io.BytesIO(), "utf-8", errors="surrogateescape", write_through=True)
        for _ in range(2)
    ]
    here = Path.cwd()
    status: object = None
    os.chdir(folder)
    try:
        with (
            mock.patch.multiple(sys, argv=["fp8sim", *arguments], stdout=streams[0], stderr=streams[1]),
            mock.patch.object(cli, "_on_interrupt", return_value=False),
            mock.patch("webbrowser.open", return_value=True),
        ):
            cli.main()
    except SystemExit as stopped:
        status = stopped.code
    finally:
        os.chdir(here)
    out, err = (stream.buffer.getvalue().decode("utf-8", "surrogateescape") for stream in streams)  # type: ignore[attr-defined]
    return Done(status, out, err)


def words(rng: np.random.Generator, files: list[str]) -> Words:
    """Draw a command line."""
    if chance(rng, 0.05):
        return tuple(pick(rng, GARBAGE) for _ in range(int(rng.integers(0, 4))))
    name = pick(rng, [name for name in commands() if name not in (("claims",),)])
    options = commands()[name]
    line: list[str] = []
    if name[:1] == ("explain",):
        line += [pick(rng, ARGUMENTS) for _ in range(int(rng.integers(0, 4)))]
    elif name == ("model",):
        line.append(pick(rng, (*MODELS, *files)))
    line += SHORT.get(name[0] if name else "", ())
    for option in [pick(rng, options) for _ in range(int(rng.integers(0, 5)))]:
        if option.name == "--help" and chance(rng, 0.9):
            continue
        line.append(option.name)
        if not option.flag:
            line.append(_value(rng, name, option.name, files))
    if (
        name == ("compare",)
        and any(word in line for word in ("--checkpoint", "--tensor"))
        and chance(rng, 0.8)
    ):
        line = line[2:]  # no shape
    if chance(rng, 0.15):
        line.insert(int(rng.integers(len(line) + 1)), pick(rng, GARBAGE))
    return *name, *line


def _value(rng: np.random.Generator, name: Words, option: str, files: list[str]) -> str:
    if chance(rng, 0.06):
        return str(pick(rng, GARBAGE))
    if option in ("--recipe", "--baseline"):
        return str(pick(rng, (*(TRAINING_RECIPES if name == ("train",) else RECIPES), "best", "")))
    if option == "--tensor":
        return str(pick(rng, ("layer.weight", "layer.weigh", "bias", "\x1b[31mred", "a\nb", "x" * 500, "")))
    if option in ("--checkpoint", "--activations", "--html", "--plot", "--out", "--text"):
        ending = {"--checkpoint": ".safetensors", "--activations": ".npy"}.get(option)
        likely = [file for file in files if ending and file.endswith(ending)]
        return str(pick(rng, likely if likely and chance(rng, 0.7) else files))
    return str(pick(rng, VALUES.get(option, INTEGERS)))


def check(done: Done, line: Words) -> None:
    """Fail unless a command ended as it may."""
    what = shortened(repr(line))
    if done.status not in (0, 2):
        raise Failure("traceback", f"status {done.status}: {what}: {shortened(done.err)}")
    for name, text in (("output", done.out), ("standard error", done.err)):
        if found := CONTROLS.search(text):
            raise Failure("wrong bits", f"{found[0]!r} in the {name}: {what}: {shortened(text)}")
        if "Traceback" in text:
            raise Failure("traceback", f"{what}: {shortened(text[-300:])}")
    lines = done.err.splitlines()
    if done.status == 2:
        if len(lines) != 1 or not lines[0].startswith("fp8sim: ") or len(lines[0]) > 5000:
            raise Failure("traceback", f"{len(lines)} lines of error: {what}: {shortened(done.err)}")
        if "report this" in lines[0]:
            raise Failure("traceback", f"{what}: {lines[0]}")
    elif any(not text.startswith("wrote ") for text in lines):
        raise Failure("warning", f"{what}: {shortened(done.err)}")
    elif "--json" in line and "--help" not in line and "-h" not in line and done.out[:1] in ("{", "["):
        _parse(done.out, what)


def _parse(out: str, what: str) -> None:
    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    try:
        json.loads(out, parse_constant=refuse)
    except ValueError as error:
        raise Failure("wrong bits", f"no JSON: {error}: {what}") from error


def listing(folder: Path) -> dict[str, bytes | None]:
    """Return what lies in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def check_files(before: dict[str, bytes | None], folder: Path, line: Words, done: Done) -> None:
    """Fail if something was left half-written, or changed by a command that failed."""
    after = listing(folder)
    out = line[line.index("--out") + 1] if "--out" in line[:-1] else None
    for name, content in after.items():
        if name.endswith(".part") or (name in before and content is None and before[name] is not None):
            raise Failure("half-written", f"{name}: {shortened(repr(line))}")
        ours = out is not None and name.startswith(out.rstrip("/"))
        if before.get(name, b"new") != content and done.status == 2 and not ours and content is not None:
            raise Failure("half-written", f"{name} by a command that failed: {shortened(repr(line))}")
        if (
            name.endswith(".png")
            and before.get(name) != content
            and not (content or b"").endswith((b"IEND\xaeB`\x82", b"</html>\n"))  # a page may have any name
        ):
            raise Failure("half-written", f"{name} has no end: {shortened(repr(line))}")
    if lost := before.keys() - after.keys():
        raise Failure("half-written", f"{sorted(lost)} gone: {shortened(repr(line))}")


def _raw_unknown() -> AbstractContextManager[Any]:
    def broken(what: str, value: object, names: Any) -> str:
        return {}[what]  # type: ignore[no-any-return]

    return planted(checks, "unknown", broken)


@category("the command line with words and files of all kinds", few=40, plant=_raw_unknown)
def command(rng: np.random.Generator, folder: Path) -> None:
    """Run a command line."""
    files = make_files(rng, folder)
    line = words(rng, files)
    if line[:1] == ("train",) and not HAS_TORCH:
        return
    before = listing(folder)
    with _environment():
        done = run(line, folder)
    check(done, line)
    check_files(before, folder, line, done)


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Let no library that a command loads leave variables behind that the next trial would see."""
    with mock.patch.dict(os.environ):
        yield
