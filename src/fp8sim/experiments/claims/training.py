"""The rows of `claims` about training: a short run of a small model, where PyTorch is installed."""

from __future__ import annotations

import importlib.util
import math

from fp8sim._support.published import DEEPSEEK_V3
from fp8sim._support.quantities import percent_text
from fp8sim.experiments.claims.product import Setting
from fp8sim.experiments.claims.verdicts import Claim, Verdict
from fp8sim.experiments.gradient_outliers import gradient_outliers
from fp8sim.experiments.train import ModelSize, RecipeLoss, Schedule, train

__all__ = ["gradients_of_tokens", "torch_is_installed", "training_loss"]

_PART = "without sacrificing accuracy"
_WHAT = "relative loss error of training under deepseek-v3, against bf16"
_BLOCKS = "deepseek-v3-block-gradients"


def training_loss(setting: Setting) -> list[Claim]:
    """Relative loss error of a training of half a minute, or what to type where it was not measured."""
    limit = DEEPSEEK_V3["loss_error"]
    source = f"{limit.source}: below {limit.value} %, of 16B and 230B models over about 1 T tokens"
    why = "Training was left out: type fp8sim claims, or fp8sim train." if not setting.training else ""
    if not torch_is_installed():
        why = "Training needs PyTorch: pip install 'fp8sim[torch]', then fp8sim claims, or fp8sim train."
    if why:
        return [Claim(_PART, _WHAT, None, limit.value / 100, "share", source, "not measured", why)]
    result = train(
        ["deepseek-v3", "fp8-tensor"],
        seeds=[setting.seed],
        size=ModelSize(width=256, layers=1, context=128),
        schedule=Schedule(steps=80),
    )
    rows = {row.recipe: row for row in result.rows}
    return [
        Claim(
            _PART,
            _WHAT,
            rows["deepseek-v3"].largest,
            limit.value / 100,
            "share",
            source,
            _verdict(rows["deepseek-v3"], limit.value / 100),
            _reason(rows, result.size["parameters"], len(result.runs[0].losses)),
        )
    ]


def torch_is_installed() -> bool:
    """Whether a model can be trained here.

    Examples
    --------
    >>> torch_is_installed() in (True, False)
    True
    """
    return importlib.util.find_spec("torch") is not None


def gradients_of_tokens(setting: Setting) -> list[Claim]:
    """Tokens that lose their gradient where 128 tokens share a scale."""
    spread = 2.0
    result = gradient_outliers([_BLOCKS, "deepseek-v3"], spreads=[spread], seed=setting.seed)
    blocks, fine = result.rows
    return [
        Claim(
            _PART,
            f"tokens without a gradient under deepseek-v3; standard deviation of sizes {spread:g} decades",
            fine.lost_tokens,
            None,
            "share",
            "DeepSeek-V3 report, B.2: gradients scaled by 128x128 blocks made a 16B model diverge",
            "holds" if fine.lost_tokens == 0 < blocks.lost_tokens else "does not hold",
            f"Where 128 tokens share a scale, {percent_text(blocks.lost_tokens)} of them get none: it is the "
            "fine scales that keep accuracy. The gradient is generated.",
        )
    ]


def _verdict(row: RecipeLoss, limit: float) -> Verdict:
    """Judge a loss that was followed for a while only: it can refute the claim, and support it partly."""
    if row.diverged or math.isnan(row.largest):
        return "does not hold"
    return "partly" if row.largest <= limit else "does not hold"


def _reason(rows: dict[str, RecipeLoss], parameters: int, steps: int) -> str:
    tensor = percent_text(rows["fp8-tensor"].largest)
    return (
        f"The largest of the last half of {steps} steps of a model with {parameters / 1e6:.1f} M parameters. "
        f"Too small and too short to vouch for 671 B, since even one scale per tensor gives {tensor} here: "
        "it shows that the recipe trains, not that it does at scale. fp8sim train runs longer, over seeds."
    )
