"""Build a Jupyter that runs in the browser, with the student notebooks: `python docs/build_lite.py FOLDER`.

What lies in the folder afterwards is static: pages, the notebooks, fp8sim's own wheel and those of what it
needs, as far as they are pure Python. Pyodide itself (a Python for browsers, with numpy and ml_dtypes) is
loaded from its own host on first use, unless `--pyodide ARCHIVE` puts a copy of its distribution beside them.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DOCS = Path(__file__).parent
ROOT = DOCS.parent

#: The machine that the notebooks run on there (PEP 508 markers).
BROWSER = {"sys_platform": "emscripten", "platform_system": "Emscripten", "platform_machine": "wasm32"}
#: What Pyodide brings, compiled, and what is drawn with.
COMPILED = {"numpy", "ml-dtypes"}
DRAWS = "matplotlib"

FIRST = f"""\
# Here, in the browser, fp8sim is installed first.
%pip install -q fp8sim {DRAWS}"""

#: Settings of the pages: what is not there is not shown, nor asked of another host.
CONFIG = {
    "jupyter-lite-schema-version": 0,
    "jupyter-config-data": {
        "appName": "fp8sim",
        "disabledExtensions": ["@jupyterlab/extensionmanager-extension"],
    },
}


def needs(name: str, extras: frozenset[str] = frozenset()) -> Iterator[Requirement]:
    """Yield what an installed package asks for where there is no numba: in the browser."""
    for need in map(Requirement, importlib.metadata.requires(name) or ()):
        environments = [{**BROWSER, "extra": extra} for extra in ("", *extras)]
        if need.marker is None or any(map(need.marker.evaluate, environments)):
            yield need


def pure_packages(name: str = "fp8sim") -> dict[str, str]:
    """Return name -> version of what a package needs and needs in turn, Pyodide's own left out."""
    found: dict[str, str] = {}
    queue = list(needs(name))
    while queue:
        need = queue.pop()
        key = canonicalize_name(need.name)
        if key not in found and key not in COMPILED:
            found[key] = importlib.metadata.version(key)
            queue += needs(key, frozenset(need.extras))
    return dict(sorted(found.items()))


def write_wheels(folder: Path) -> list[Path]:
    """Put fp8sim's wheel there, made from this checkout, and the pure wheels of what it needs."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    pins = [f"{name}=={version}" for name, version in pure_packages().items()]
    pure = ["--no-deps", "--only-binary", ":all:", "--platform", "any"]
    subprocess.run([*pip, "download", *pure, "--dest", folder, *pins], check=True)
    return sorted(folder.glob("*.whl"))


def write_notebooks(folder: Path) -> list[Path]:
    """Put the student notebooks there, each with a cell before it that installs fp8sim."""
    subprocess.run(
        [sys.executable, DOCS / "write_notebooks.py", folder], check=True, stdout=subprocess.DEVNULL
    )
    notebooks = sorted(folder.glob("*.ipynb"))
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        notebook.cells.insert(
            0, nbformat.v4.new_code_cell(FIRST, id="install", metadata={"tags": ["remove-cell"]})
        )
        nbformat.write(notebook, path)
    return notebooks


def build(folder: Path, pyodide: str = "") -> None:
    """Build the site; what was in the folder is replaced."""
    if folder.exists() and not (folder / "jupyter-lite.json").exists() and any(folder.iterdir()):
        raise SystemExit(f"{folder} holds something else; name a new folder")
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        contents, wheels = place / "notebooks", place / "wheels"
        contents.mkdir()
        wheels.mkdir()
        write_notebooks(contents)
        (place / "jupyter-lite.json").write_text(json.dumps(CONFIG))
        command = [sys.executable, "-m", "jupyterlite_core.app", "build", "--lite-dir", place]
        command += ["--contents", contents, "--output-dir", place / "site", "--no-sourcemaps"]
        command += ["--apps", "lab", "--apps", "notebooks", "--apps", "tree", "--no-unused-shared-packages"]
        for wheel in write_wheels(wheels):
            command += ["--piplite-wheels", wheel]
        command += ["--pyodide", pyodide] if pyodide else []
        made = subprocess.run(
            command, cwd=place, capture_output=True, text=True, env={**os.environ, "CI": "1"}
        )
        if made.returncode:
            raise SystemExit(f"jupyter lite build failed:\n{made.stdout[-2000:]}{made.stderr[-2000:]}")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(place / "site", folder)


def main() -> None:
    """Build it where the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where to put the site; made anew")
    parser.add_argument(
        "--pyodide", default="", help="an archive of Pyodide's distribution, to need no other host"
    )
    arguments = parser.parse_args()
    build(arguments.folder, arguments.pyodide)
    size = sum(path.stat().st_size for path in arguments.folder.rglob("*") if path.is_file())
    print(f"{arguments.folder}: {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
