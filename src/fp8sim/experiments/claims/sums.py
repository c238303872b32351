"""The rows of `claims` about sums: what 14 bits lose over 4096 products, and what promotion mends."""

from __future__ import annotations

import numpy as np

from fp8sim import metrics
from fp8sim._support.published import DEEPSEEK_V3
from fp8sim._support.quantities import percent_text
from fp8sim.casts import round_to
from fp8sim.experiments.claims.product import Setting
from fp8sim.experiments.claims.verdicts import Claim
from fp8sim.tensor_cores import tensor_core_matmul

__all__ = ["sum_errors"]

SIZE, K = 256, 4096


def sum_errors(setting: Setting) -> list[Claim]:
    """Errors of Hopper's FP8 sums of standard normal numbers, operands exact in E4M3."""
    rng = np.random.default_rng(setting.seed)
    a = round_to(rng.standard_normal((SIZE, K), np.float32), "e4m3")
    b = round_to(rng.standard_normal((K, SIZE), np.float32), "e4m3")
    exact = a.astype(np.float64) @ b.astype(np.float64)
    one_chain = tensor_core_matmul(a, b, "hopper-fp8")
    promoted = tensor_core_matmul(a, b, "hopper-fp8", promote_every=128)
    errors = [metrics.relative_error(sums, exact) for sums in (one_chain, promoted)]
    largest = float(np.abs(one_chain - exact).max() / np.sqrt(np.mean(exact**2)))
    published = DEEPSEEK_V3["sum_error"]
    return [
        Claim(
            "without sacrificing accuracy",
            f"largest error of sums of {K} FP8 products, over the product's root mean square",
            largest,
            published.value / 100,
            "share",
            f"{published.source}; neither distribution, size nor normaliser is given",
            "does not hold",
            "Hopper's FP8 tensor cores keep 14 bits while they sum. The figure is consistent with the "
            f"report's, on {SIZE} x {SIZE} outputs of normal numbers; the error of all outputs is "
            f"{percent_text(errors[0])}.",
        ),
        Claim(
            "without sacrificing accuracy",
            "the error of those sums, promoted to FP32 every 128 of k, over that of one chain",
            errors[1] / errors[0],
            None,
            "ratio",
            f"{published.source}: promotion every 128 of k",
            "holds" if errors[1] < errors[0] / 5 else "partly",
            f"Promotion leaves {percent_text(errors[1])} in the sums, far below what rounding the operands "
            "to FP8 costs.",
        ),
    ]
