"""What the page knows of the library's machines: tensor cores, models, and what FP8 multiplies faster."""

from __future__ import annotations

from typing import Any

from fp8sim._support.published import CLAIM, SPEEDUPS
from fp8sim.costs import get_device
from fp8sim.experiments.claims.rules import HALVED
from fp8sim.formats import get_format
from fp8sim.models import get_model, inventory, model_cost
from fp8sim.tensor_cores import LAWS, OUTPUTS, TENSOR_CORES, TensorCore

__all__ = ["core_data", "describe_core", "model_data"]

#: Models of the page: a mixture of experts and dense ones, of which small ones spend more on attention.
MODELS = ("deepseek-v3", "qwen3-235b-a22b", "llama-3.1-405b", "llama-3.1-8b", "llama-3.2-1b")

DEVICE = "h100"  # whose measured peaks are published for both


def core_data() -> dict[str, Any]:
    """Return every named core, and the words for how they sum.

    Examples
    --------
    >>> core = core_data()["cores"]["hopper-fp8"]
    >>> core["fraction_bits"], core["out_bits"], core["inputs"]
    (13, 13, ['e4m3', 'e5m2'])
    """
    cores = {name: describe_core(core) for name, core in TENSOR_CORES.items()}
    return {"cores": cores, "laws": LAWS, "outputs": OUTPUTS}


def describe_core(core: TensorCore) -> dict[str, Any]:
    """Return a core as plain data: the rule of its steps, and what it takes.

    Examples
    --------
    >>> describe_core(TENSOR_CORES["blackwell-nvfp4"])["scale_format"]
    'e4m3'
    """
    return {
        **core.rule._asdict(),
        "c_emin": core.rule.c_emin,
        "name": core.name,
        "inputs": [get_format(fmt).name for fmt in core.inputs],
        "output": core.output,
        "scale_format": core.scale_format,
        "scale_block": core.scale_block,
    }


def model_data() -> dict[str, Any]:
    """Return the flops of models by what FP8 multiplies, and how many times faster it does.

    Attention's are so many for each token of context, since under a causal mask a token meets half of them.

    Examples
    --------
    >>> data = model_data()
    >>> model = data["models"]["deepseek-v3"]
    >>> attention = 4096 * model["attention_flops"]
    >>> round(model["fp8_flops"] / (model["fp8_flops"] + model["kept_flops"] + attention), 3)
    0.853
    >>> data["sentence"]["holds"], [round(row["ratio"], 3) for row in data["gemm_speedups"]]
    (0.525, [2.0, 1.765])
    """
    device = get_device(DEVICE)
    whole = [row for row in SPEEDUPS if row.end_to_end]
    ceilings = model_cost(MODELS[0], MODELS[0], device=device).ceilings
    return {
        "models": {name: _flops(name) for name in MODELS},
        "gemm_speedups": [
            {"words": words, "ratio": row.gemm_speedup, "source": row.source}
            for words, row in (
                ("Half the bits, twice the products", ceilings[0]),
                (f"Highest rates measured on an {device.name}", ceilings[-1]),
            )
        ],
        "published": (min(row.low for row in whole), max(row.high for row in whole)),
        "sentence": {"text": CLAIM, "holds": HALVED.holds, "partly": HALVED.partly},
    }


def _flops(name: str) -> dict[str, float]:
    """Forward flops a token: of what a recipe applies to, of the other GEMMs, of attention a key."""
    matrices = inventory(get_model(name))
    length = 4096  # any: what a token meets grows with its context, half of it under a causal mask
    attention = sum(core.flops_per_token(core.keys(length, half=True)) for core in matrices.cores)
    return {
        "fp8_flops": float(matrices.linear_flops),
        "kept_flops": float(matrices.kept_flops),
        "attention_flops": attention / length,
    }
