"""What a whole model costs under a recipe, beside a baseline: figures that print as tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fp8sim._support import checks
from fp8sim._support.results import Result
from fp8sim._support.tables import Table
from fp8sim.costs import DeviceLike, get_device
from fp8sim.models.accounting import Accounting
from fp8sim.models.builtin import ModelLike, get_model
from fp8sim.models.description import Latent
from fp8sim.models.tables import model_dict, model_tables, product_table
from fp8sim.models.timing import PHASES, Phase, Workload
from fp8sim.recipes import RecipeLike, get_recipe

__all__ = ["ModelCost", "model_cost"]


@dataclass(frozen=True, repr=False)
class ModelCost(Result, Accounting):
    """Bytes, flops and roofline time of a model under a recipe and under a baseline.

    Made by `model_cost`. Prints as tables: by component; totals beside the baseline;
    speed-ups; and, under 8-bit recipes, published speed-ups. `gemm_table` lists every product.

    Parameters
    ----------
    model : ModelDescription
        The model.
    recipe, baseline : Recipe
        How its linear layers multiply, and what ratios are taken to.
    device : Device
        Whose rooflines times are modelled on.
    work : Workload
        Phase, sequences and their length.
    absorbed : bool
        Whether MLA's up-projection is folded into its neighbours, as at inference.

    Examples
    --------
    >>> from fp8sim.models import model_cost
    >>> cost = model_cost("deepseek-v3")
    >>> cost.weight_bytes / cost.baseline_weight_bytes
    0.501582...
    >>> [(ceiling.what, round(ceiling.speedup, 3)) for ceiling in cost.ceilings[:1]]
    [('GEMMs exactly 2x', 1.743)]
    """

    def to_dict(self) -> dict[str, Any]:
        """Return every figure as plain data, the unit in the key; times without a rate are None."""
        return model_dict(self)

    def parts(self) -> list[Table]:
        """Return the tables that it prints as."""
        return model_tables(self)

    def gemm_table(self) -> Table:
        """Return a table of every product: shape, count, formats, bytes and roofline time."""
        return product_table(self)


def model_cost(
    model: ModelLike,
    recipe: RecipeLike = "deepseek-v3",
    *,
    seq_len: int = 4096,
    batch: int = 1,
    phase: Phase = "training",
    device: DeviceLike = "h800",
    baseline: RecipeLike = "bf16",
    causal: bool | None = None,
    absorbed: bool | None = None,
) -> ModelCost:
    """Count what a model moves, holds and computes under a recipe, and how fast it could be.

    Parameters
    ----------
    model : str, path, mapping or ModelDescription
        A built-in name, a ``config.json``, or what one holds.
    recipe, baseline : str or Recipe
        How linear layers multiply; embedding, head, router, norms and attention products keep the
        output format (DeepSeek-V3 report, 3.3.1).
    seq_len : int
        Tokens a sequence; in decode, tokens already cached.
    batch : int
        Sequences.
    phase : {"training", "prefill", "decode"}
        What is computed; training is three times the forward flops.
    device : str or Device
        Whose peaks and bandwidth the roofline takes, as if it held the whole model.
    causal : bool, optional
        Whether a token attends to half of the sequence on average; by default so in a decoder.
    absorbed : bool, optional
        Whether latent attention works on cached latents; by default in decode only.

    Returns
    -------
    ModelCost
        Figures as attributes; prints as tables.

    Raises
    ------
    TypeError
        If a size is no whole number.
    ValueError
        If a size is not positive, a name is unknown, the configuration is malformed, or an encoder
        is asked to decode.

    Examples
    --------
    >>> cost = model_cost("deepseek-v3", seq_len=4096, phase="training")
    >>> f"{cost.flops_per_token / 1e9:.2f} GFLOP, {cost.quantized_flops_share:.1%} in FP8"
    '250.45 GFLOP, 85.3% in FP8'
    >>> f"{cost.weight_bytes / 1e9:.2f} GB against {cost.baseline_weight_bytes / 1e9:.2f} GB"
    '673.15 GB against 1342.05 GB'
    """
    description = get_model(model)
    checks.one_of(phase, PHASES, "phase")
    if absorbed is not None:
        checks.of_kind(absorbed, bool, "absorbed")
    if phase == "decode" and not description.decoder:
        raise ValueError(f"{description} is an encoder, which does not decode; use phase='prefill'")
    work = Workload(phase, seq_len, batch, description.decoder if causal is None else causal)
    on_latents = phase == "decode" if absorbed is None else absorbed
    return ModelCost(
        description,
        get_recipe(recipe),
        get_recipe(baseline),
        get_device(device),
        work,
        on_latents and any(isinstance(kind, Latent) for kind in description.attentions),
    )
