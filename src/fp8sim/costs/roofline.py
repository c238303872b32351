"""The roofline: the least time that so many flops and so many bytes take on a device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

__all__ = ["Bound", "Roofline", "least_seconds"]

Bound: TypeAlias = Literal["compute", "memory", "unknown"]


def least_seconds(flops: Any, moved: Any, peak: Any, bandwidth: Any) -> Any:
    """Return the larger of the times of flops and of bytes moved; NaN where a rate is.

    Of numbers, or of arrays of them.

    Examples
    --------
    >>> least_seconds(np.array([1e9, 4e9]), 1e9, peak=1e12, bandwidth=5e11)
    array([0.002, 0.004])
    """
    return np.maximum(flops / peak, moved / bandwidth)


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """Work that multiplies and moves bytes at the same time, each as fast as the device can.

    A lower bound: it leaves out launches, caches and every kernel's distance from the peak
    (Williams, Waterman and Patterson, 2009).

    Examples
    --------
    >>> decode = Roofline(flops=29.4e6, bytes=14.7e6, peak=1979e12, bandwidth=3.35e12)  # one token, FP8
    >>> decode.bound, f"{decode.seconds * 1e6:.1f} us", f"{decode.intensity:.0f} FLOP/B"
    ('memory', '4.4 us', '2 FLOP/B')
    >>> f"bound by compute from {decode.ridge:.0f} FLOP/B on"
    'bound by compute from 591 FLOP/B on'
    """

    flops: float  #: floating-point operations
    bytes: float  #: read and written, scales included
    peak: float  #: dense FLOP/s; NaN where no figure is at hand
    bandwidth: float  #: of the memory, in B/s

    @property
    def compute_seconds(self) -> float:
        """Seconds for the flops at the dense peak; NaN where the device has no figure."""
        return self.flops / self.peak

    @property
    def memory_seconds(self) -> float:
        """Seconds for the bytes at the memory bandwidth."""
        return self.bytes / self.bandwidth

    @property
    def seconds(self) -> float:
        """The larger of compute and memory time; NaN where one is not known."""
        return float(least_seconds(self.flops, self.bytes, self.peak, self.bandwidth))

    @property
    def bound(self) -> Bound:
        """What takes the longer."""
        if math.isnan(self.compute_seconds):
            return "unknown"
        return "compute" if self.compute_seconds >= self.memory_seconds else "memory"

    @property
    def intensity(self) -> float:
        """Arithmetic intensity in FLOP/B."""
        return self.flops / self.bytes

    @property
    def ridge(self) -> float:
        """The intensity in FLOP/B at which multiplying takes as long as moving."""
        return self.peak / self.bandwidth

    @property
    def performance(self) -> float:
        """FLOP/s that the roofline lets this work reach."""
        return self.flops / self.seconds
