"""What multiplies: an NVIDIA GPU by PyTorch, or the model in its place."""

from __future__ import annotations

import contextlib
import importlib.metadata
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fp8sim import __version__, _kernels
from fp8sim._support.typing import AnyArray
from fp8sim.casts import decode
from fp8sim.experiments.gpu.operations import Operation, core_of, expected_words, generation_of, ways

__all__ = ["CudaDevice", "Emulated", "Gpu", "GpuFacts", "find_gpu"]

_NEEDS = "checking a GPU needs an NVIDIA GPU and PyTorch built for CUDA"


#: format -> what PyTorch calls it
_DTYPES = {
    "fp16": "float16", "bf16": "bfloat16", "e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2",
    "fp32": "float32", "tf32": "float32",
}  # fmt: skip


@dataclass(frozen=True)
class GpuFacts:
    """What a result was made on."""

    gpu: str
    capability: tuple[int, int]
    driver: str
    versions: dict[str, str]  #: library -> version


class Gpu(Protocol):
    """What `check_gpu` asks of a GPU; anything that has both can stand in for one."""

    def facts(self) -> GpuFacts:
        """Say what it is."""

    def multiply(self, operation: Operation, a: AnyArray, b: AnyArray, copies: int) -> AnyArray:
        """Return the words of A times B: codes of A (m, k), of B transposed (n, k).

        `copies` of each are stacked, to fill the GPU, and the first m by n words returned. What it cannot
        do raises NotImplementedError with one line that says why.
        """


def find_gpu() -> CudaDevice:
    """Return PyTorch's current GPU.

    Raises
    ------
    RuntimeError
        If there is none, with one line that says what is needed.

    Examples
    --------
    >>> try:
    ...     print("found", bool(find_gpu().facts().gpu))
    ... except RuntimeError as error:
    ...     print("found" if "needs an NVIDIA GPU" in str(error) else error, True)
    found True
    """
    try:
        import torch
    except ImportError:
        raise RuntimeError(f"{_NEEDS}: PyTorch is not installed (pip install torch)") from None
    if torch.version.hip:
        raise RuntimeError(f"{_NEEDS}: this PyTorch is built for ROCm, and AMD's cores are not checked yet")
    if not torch.version.cuda:
        raise RuntimeError(f"{_NEEDS}: this PyTorch is built for CPUs alone")
    if not torch.cuda.is_available():
        raise RuntimeError(f"{_NEEDS}: PyTorch sees no GPU here")
    return CudaDevice()


class CudaDevice:
    """PyTorch's current GPU; what is switched for a product is switched back after it."""

    place = "cuda"  #: where PyTorch multiplies

    def facts(self) -> GpuFacts:
        """Say what it is."""
        import torch

        versions = {"torch": torch.__version__, "CUDA of torch": str(torch.version.cuda)}
        for name in ("nvidia-cublas", "nvidia-cublas-cu12", "nvidia-cublas-cu11"):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                versions["cuBLAS"] = importlib.metadata.version(name)
                break
        versions |= {"numpy": np.__version__, "fp8sim": __version__}
        capability = torch.cuda.get_device_capability()
        return GpuFacts(torch.cuda.get_device_name(), capability, _driver(), versions)

    def multiply(self, operation: Operation, a: AnyArray, b: AnyArray, copies: int) -> AnyArray:
        """Multiply as PyTorch has cuBLAS do it."""
        import torch

        out = getattr(torch, _DTYPES[operation.out])
        try:
            left = _tensor(a, operation.a, copies, self.place)
            right = _tensor(b, operation.b, copies, self.place).t()
            with _settings(operation):
                if operation.fast is not None:
                    one = torch.ones((), device=self.place)
                    options = {"out_dtype": out, "use_fast_accum": operation.fast}
                    product = torch._scaled_mm(left, right, scale_a=one, scale_b=one, **options)
                elif out == left.dtype:
                    product = torch.mm(left, right)
                else:
                    product = torch.mm(left, right, out_dtype=out)
            corner = product[: len(a), : len(b)].contiguous()
            words = corner.view(torch.int32 if corner.itemsize == 4 else torch.int16).cpu().numpy()
        except Exception as error:  # of many types: what this GPU, or this version of PyTorch, has not
            first_line = (str(error).splitlines() or [""])[0]
            raise NotImplementedError(f"refused: {type(error).__name__}: {first_line}") from error
        return words.view(f"u{words.itemsize}")


class Emulated:
    """The model in the place of a GPU, by the readable way: tries the check where there is none.

    Parameters
    ----------
    capability : tuple of int
        Compute capability of the GPU that it stands for.

    Examples
    --------
    >>> Emulated((8, 9)).facts().gpu
    'ada, emulated'
    """

    def __init__(self, capability: tuple[int, int] = (9, 0)) -> None:
        self.capability, self.generation = capability, generation_of(capability)

    def facts(self) -> GpuFacts:
        """Say what it is."""
        versions = {"numpy": np.__version__, "fp8sim": __version__}
        return GpuFacts(f"{self.generation}, emulated", self.capability, "none", versions)

    def multiply(self, operation: Operation, a: AnyArray, b: AnyArray, copies: int) -> AnyArray:
        """Multiply by the model, in the plain order."""
        core = core_of(operation, self.generation)
        plain = next(ways(operation, core, a.shape[1]))
        with _kernels.readable():
            return expected_words(operation, core, plain, a, b)


def _tensor(codes: AnyArray, fmt: str, copies: int, place: str) -> Any:
    import torch

    tiled = np.ascontiguousarray(np.tile(codes, (copies, 1)))  # one copy may lie column by column
    if fmt == "tf32":
        return torch.from_numpy(decode(tiled, fmt)).to(place)
    bits = torch.from_numpy(tiled.view(f"i{tiled.itemsize}")).to(place)
    return bits.view(getattr(torch, _DTYPES[fmt]))


@contextlib.contextmanager
def _settings(operation: Operation) -> Iterator[None]:
    """Sum as the operation says: TF32 or not, FP16 sums or not, slices of k added in FP32."""
    import torch

    switches = torch.backends.cuda.matmul
    wanted: dict[str, Any] = {
        "allow_fp16_reduced_precision_reduction": False,
        "allow_bf16_reduced_precision_reduction": False,
    }
    if operation.core == "fp16-fp16out":
        wanted["allow_fp16_accumulation"] = True  # PyTorch 2.7 on; else an AttributeError says so
    elif hasattr(switches, "allow_fp16_accumulation"):
        wanted["allow_fp16_accumulation"] = False
    if operation.a == "tf32":  # PyTorch 2.9 refuses to read the old switch where the new one was set
        new = hasattr(switches, "fp32_precision")
        wanted |= {"fp32_precision": "tf32"} if new else {"allow_tf32": True}
    before = {name: getattr(switches, name) for name in wanted}
    try:
        for name, value in wanted.items():
            setattr(switches, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(switches, name, value)


def _driver() -> str:
    """Return the version of the driver, which PyTorch does not know."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        shown = subprocess.check_output(query, stderr=subprocess.DEVNULL, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return shown.strip().partition("\n")[0] or "unknown"
