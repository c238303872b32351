"""The article's sentence, taken apart: each part measured, set beside what is published, and judged."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from fp8sim._support.published import CLAIM
from fp8sim._support.results import Result
from fp8sim._support.tables import Table
from fp8sim.costs.devices import DeviceLike, get_device
from fp8sim.experiments import data
from fp8sim.experiments.claims.model import model_memory, model_time
from fp8sim.experiments.claims.product import (
    Setting,
    deepgemm_test,
    gemm_bytes_and_time,
    multiply_adds,
    product_error,
    stored_bytes,
)
from fp8sim.experiments.claims.sums import sum_errors
from fp8sim.experiments.claims.training import gradients_of_tokens, training_loss
from fp8sim.experiments.claims.verdicts import VERDICTS, Claim

__all__ = ["Claims", "claims", "count_parts"]

_PARTS: dict[str, Callable[[Setting], list[Claim]]] = {
    "error of a product": product_error,
    "DeepGEMM's own test": deepgemm_test,
    "sums of 14 bits": sum_errors,
    "gradients of tokens": gradients_of_tokens,
    "loss of a short training": training_loss,
    "bytes of weights and activations": stored_bytes,
    "multiply-adds": multiply_adds,
    "DeepSeek's GEMM shapes": gemm_bytes_and_time,
    "memory of the whole model": model_memory,
    "time of the whole model": model_time,
}


@dataclass(frozen=True, repr=False)
class Claims(Result):
    """All parts of the sentence, judged; prints as tables and shows as them in a notebook."""

    sentence: str
    device: str
    seed: int
    data: tuple[str, ...]  #: the matrices that were multiplied
    environment: dict[str, str]
    rows: tuple[Claim, ...]

    @property
    def summary(self) -> str:
        """How many parts hold, in words."""
        verdicts = [row.verdict for row in self.rows]
        counted = ", ".join(f"{verdicts.count(v)} {words}" for v, words in VERDICTS.items() if v in verdicts)
        return f"Of {len(verdicts)} parts: {counted}."

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON."""
        return {
            **dataclasses.asdict(self),
            "summary": self.summary,
            "rows": [row.to_dict() for row in self.rows],
        }

    def parts(self) -> list[Table]:
        """Return the verdicts, and the reasons with their sources."""
        verdicts = Table(
            f'"{self.sentence}."',
            ["#>", "claim", "what was measured", "measured>", "published>", "ratio>", "verdict"],
            [_cells(number, row) for number, row in enumerate(self.rows, 1)],
            (self.summary,),
        )
        reasons = Table(
            "Why, and where the published figures are from",
            ["#>", "why", "source"],
            [[str(number), row.why, row.source] for number, row in enumerate(self.rows, 1)],
            (
                f"Times are modelled on {self.device}: roofline at dense peak rates. Seed {self.seed}. Data:",
                *(f"  {source}" for source in self.data),
            ),
        )
        return [verdicts, reasons]


def claims(
    *,
    device: DeviceLike = "h800",
    seed: int = 0,
    training: bool = True,
    on_part: Callable[[str], None] | None = None,
) -> Claims:
    """Measure each part of the sentence and judge it.

    Real weights are used where the extra ``sample`` is installed, and LLM-like matrices from the
    seed where not; activations are generated in both cases. Where PyTorch is installed, a small
    language model is trained for about half a minute.

    Parameters
    ----------
    device : str or Device
        Whose roofline times are modelled on. Published times are of the H800.
    seed : int
        Of everything generated.
    training : bool
        Whether to train a model, if PyTorch is installed; its row is "not measured" otherwise.
    on_part : callable, optional
        Called with the name of each part before it is measured; for progress bars.

    Returns
    -------
    Claims
        One row per figure.

    Raises
    ------
    ValueError
        If the device is unknown or the seed negative.

    Examples
    --------
    >>> import fp8sim
    >>> result = fp8sim.claims(training=False)
    >>> [row.verdict for row in result.rows if row.what.startswith("multiply-adds")]
    ['does not hold']
    """
    target = get_device(device)
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    setting = Setting(target, seed, tuple(_matrices(seed)), training)
    rows: list[Claim] = []
    for name, measure in _PARTS.items():
        if on_part is not None:
            on_part(name)
        rows.extend(measure(setting))
    sources = tuple(matrices.source for matrices in setting.matrices)
    return Claims(CLAIM, target.title, seed, sources, _environment(), tuple(rows))


def count_parts() -> int:
    """Return how often `claims` calls `on_part`.

    Examples
    --------
    >>> count_parts() > 3
    True
    """
    return len(_PARTS)


def _matrices(seed: int) -> Iterator[data.Matrices]:
    if data.sample_model_path() is None:
        yield data.llm_like_matrices(128, 2112, 7168, seed=seed)  # one of DeepSeek's shapes
        return
    for name in data.SAMPLE_WEIGHTS:
        yield data.sample_matrices(name, m=256, seed=seed)


def _cells(number: int, row: Claim) -> list[str]:
    figures = (row.figure(row.measured), row.figure(row.published))
    ratio = "-" if row.ratio is None else f"{row.ratio:.3f}"
    return [str(number), row.part, row.what, *figures, ratio, row.verdict]


def _environment() -> dict[str, str]:
    versions = {}
    for name in ("fp8sim", "numpy", "ml_dtypes", "numba"):
        with contextlib.suppress(metadata.PackageNotFoundError):  # run from a checkout
            versions[name] = metadata.version(name)
    return {"python": platform.python_version(), **versions, "machine": platform.machine()}
