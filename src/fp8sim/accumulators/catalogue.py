"""The accumulators by name."""

from __future__ import annotations

from fp8sim._support import checks
from fp8sim.accumulators.base import Accumulator
from fp8sim.accumulators.exact import Exact
from fp8sim.accumulators.float_sums import Fp32, Kahan, Pairwise, Sequential
from fp8sim.accumulators.tensor_core_sum import TensorCoreSum
from fp8sim.formats import FORMATS
from fp8sim.tensor_cores import TENSOR_CORES, split_interval

__all__ = ["ACCUMULATORS", "get_accumulator"]

#: Name -> accumulator.
ACCUMULATORS: dict[str, Accumulator] = {
    "fp32": Fp32(),
    "fp32-sequential": Sequential(FORMATS["fp32"]),
    "fp32-pairwise": Pairwise(),
    "fp32-kahan": Kahan(),
    "bf16-sequential": Sequential(FORMATS["bf16"]),
    "fp16-sequential": Sequential(FORMATS["fp16"]),
    "exact": Exact(),
}


def get_accumulator(accumulator: str | Accumulator) -> Accumulator:
    """Find an accumulator by name.

    Parameters
    ----------
    accumulator : str or Accumulator
        A name in `ACCUMULATORS`; a tensor core (``"hopper-fp8"``), with the promotion interval after
        a slash where there is one (``"hopper-fp8/128"``); or an `Accumulator`, which is returned.

    Returns
    -------
    Accumulator
        The accumulator.

    Raises
    ------
    ValueError
        If the name is not known, or the interval is no multiple of the core's step.

    Examples
    --------
    >>> get_accumulator("fp32")
    Fp32()
    >>> get_accumulator("hopper-fp8/128").promote_every
    128
    """
    if isinstance(accumulator, Accumulator):
        return accumulator
    name = str(accumulator).lower()
    if name.partition("/")[0] in TENSOR_CORES:
        return TensorCoreSum(*split_interval(name))
    if name in ACCUMULATORS:
        return ACCUMULATORS[name]
    raise ValueError(checks.unknown("accumulator", accumulator, [*ACCUMULATORS, *TENSOR_CORES]))
