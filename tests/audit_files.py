"""Checkpoints for audits, made from a seed: one model as one file, as shards, and in layouts of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from tensor_files import KINDS, safetensors, save

BF16 = ml_dtypes.bfloat16


def weights(seed: int = 0, dtype: Any = BF16) -> dict[str, Any]:
    """Return a small model: matrices of awkward shapes, experts, an embedding, norms, and what is no weight."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int, size: float = 0.02) -> Any:
        return (rng.standard_normal(shape) * size).astype(dtype)

    model = {"model.embed_tokens.weight": normal(50, 64), "model.norm.weight": normal(64)}
    for layer in range(2):
        stem = f"model.layers.{layer}"
        heavy = normal(300, 260)
        heavy[7] *= 100
        model |= {
            f"{stem}.self_attn.q_proj.weight": heavy,
            f"{stem}.mlp.down_proj.weight": normal(129, 512),
            f"{stem}.mlp.experts.weight": normal(3, 140, 96),
            f"{stem}.input_layernorm.weight": normal(64),
        }
    model["lm_head.weight"] = normal(40, 64)
    model["lm_head.weight"][3] = 0
    return model | {"model.position_ids": np.arange(64).reshape(2, 32)}


def one_file(folder: Path, model: dict[str, Any], name: str = "model.safetensors", **also: Any) -> Path:
    """Write a model as one file."""
    folder.mkdir(parents=True, exist_ok=True)
    save(folder / name, **{name.replace(".", ":"): x for name, x in {**model, **also}.items()})
    return folder


def shards(folder: Path, model: dict[str, Any], count: int = 5) -> Path:
    """Write a model as several files and an index, neighbours in different ones."""
    names = [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    where = {name: names[i % count] for i, name in enumerate(model)}
    folder.mkdir(parents=True, exist_ok=True)
    for file in names:
        part = {name: (KINDS[x.dtype.name], x) for name, x in model.items() if where[name] == file}
        (folder / file).write_bytes(safetensors(part))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder


def many(folder: Path, count: int, rows: int = 256, columns: int = 512) -> Path:
    """Write many matrices of one size."""
    rng = np.random.default_rng(1)
    matrix = {f"layers.{i}.q.weight": rng.standard_normal((rows, columns)).astype(BF16) for i in range(count)}
    return one_file(folder, matrix)
