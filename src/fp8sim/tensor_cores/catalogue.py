"""The tensor cores: how each generation sums products, one row each, with its source."""

from __future__ import annotations

from dataclasses import replace

from fp8sim._support.registry import Registry
from fp8sim._support.text import shown
from fp8sim.tensor_cores.core import Law, TensorCore

__all__ = ["TENSOR_CORES", "get_tensor_core", "split_interval"]

_MMA_SIM = "MMA-Sim (arXiv 2511.10909v2), tables 4 and 5"
_KM = "; agrees bit for bit with GPU outputs published with arXiv 2512.07004 ({})"
_TCGEN05 = "; agrees bit for bit with words of a B200 in sf-tensor/tcgen05 (tests/data/b200.json)"
_CDNA = "MMA-Sim (arXiv 2511.10909v2), tables 6 to 10; agrees bit for bit with mmasim 2.1.1"
_RECORDED = ", and with 25 million dot products per instruction recorded on an H100 (tests/hardware)"


def _cores() -> list[TensorCore]:
    """One core per generation and input format, in the order of the generations."""
    fp8, small = ("e4m3", "e5m2"), ("e4m3", "e5m2", "e2m3", "e3m2", "e2m1")
    # generation, products per step of 16-bit formats (TF32: half), fraction bits, floor of FP32 and of FP16
    # sums, recorded on. All floors are those of MMA-Sim's program (mmasim 2.1.1): where one decides a bit and
    # there is silicon, an H100 writes what it says (BF16, TF32 and FP16 sums, tests/test_silicon.py); and the
    # last place of MXFP4, 2^(-139 - 35), is the 2^-174 that MODEL.md of sf-tensor/tcgen05 has from a B200.
    # MODEL.md names no floor of the other kinds, and none of the 45 words tells. The FP32 floors of Volta and
    # Turing, of FP8 without scales and of NVFP4 decide nothing: no product of theirs is that small.
    generations = [
        ("volta", 4, 23, -131, -19, "V100"),
        ("turing", 8, 24, -132, -20, ""),
        ("ampere", 8, 24, -132, -20, "A100, A2"),
        ("ada", 8, 24, -132, -20, "Ada, L40S"),
        ("hopper", 16, 25, -133, -21, "H100, H200"),
        ("blackwell", 16, 25, -133, -21, "B200"),
    ]
    fp16_floors = {name: floor for name, _, _, _, floor, _ in generations}
    cores = []
    for name, step, bits, floor, _, recorded in generations:
        source = _MMA_SIM + (_KM.format(recorded) if recorded else "")
        source += _RECORDED * (name == "hopper") + _TCGEN05 * (name == "blackwell")
        formats = ["fp16"] if step == 4 or name == "turing" else ["fp16", "bf16", "tf32"]
        for fmt in formats:
            length = step // 2 if fmt == "tf32" else step
            core = TensorCore(f"{name}-{fmt}", (fmt,), length, bits, "fp32-rz", floor, source=source)
            cores.append(core)
        if name == "ada":
            cores.append(TensorCore("ada-fp8", fp8, 16, 13, "e8m13-rz", -132, source=source))
        if name == "hopper":
            cores.append(TensorCore("hopper-fp8", fp8, 32, 13, "e8m13-rz", -133, source=source))
    source = _MMA_SIM + _TCGEN05
    cores.append(TensorCore("blackwell-fp8", small, 32, 25, source=source))
    cores.append(
        TensorCore("blackwell-mxfp8", small, 32, 25, scale_format="e8m0", scale_block=32, source=source)
    )
    # Groups are by MODEL.md, which agrees with MMA-Sim on MXFP4. On NVFP4 they part, by bits that are
    # cut off where scales span 2^24 and more; MODEL.md is followed there, which its authors have from a B200.
    for name, scale_format, block in (("mxfp4", "e8m0", 32), ("nvfp4", "e4m3", 16)):
        cores.append(
            TensorCore(
                f"blackwell-{name}",
                ("e2m1",),
                step=64,
                fraction_bits=35,
                exponent_floor=-139,
                group=16,
                subgroup=4 if name == "nvfp4" else 0,
                scale_format=scale_format,
                scale_block=block,
                source=source,
            )
        )
    for core in [c for c in cores if c.inputs[0] in ("fp16", "e4m3") and c.scale_format is None]:
        floor = fp16_floors[core.name.partition("-")[0]]
        half = replace(core, name=f"{core.name}-fp16out", output="fp16-rne", exponent_floor=floor)
        cores.append(replace(half, source=core.source.replace(_TCGEN05, "")))  # no word of theirs is FP16
    return cores + _matrix_cores()


def _matrix_cores() -> list[TensorCore]:
    """AMD's: MI100 (CDNA1), MI210 and MI250X (CDNA2), MI300A and MI300X (CDNA3)."""
    # name, inputs, products per step, fraction bits, law. A c of zero counts as the least exponent of FP32,
    # which so is the least alignment exponent. CDNA2 multiplies BF16 in instructions of its own (_1k) and in
    # those of CDNA1; CDNA3 sums 4 where an instruction has k = 4, and up to 8. In an instruction of a longer
    # k, CDNA2 does not turn an accumulator of -0 into +0: step=16, group=4 is one with k = 16. NaN has the
    # pattern that mmasim writes for CDNA3; for the others it names none. Beside FP8 products of 2^25 and more
    # mmasim drops a c of NaN or infinity, since torch.frexp gives it the exponent 0; here it stays.
    fp8 = ("e4m3fnuz", "e5m2fnuz")
    rows: list[tuple[str, tuple[str, ...], int, int, Law]] = [
        ("cdna1-fp16", ("fp16",), 4, 0, "exact"),
        ("cdna1-bf16", ("bf16",), 2, 0, "exact"),
        ("cdna2-fp16", ("fp16",), 4, 0, "pairwise"),
        ("cdna2-bf16", ("bf16",), 4, 0, "pairwise"),
        ("cdna2-bf16-k2", ("bf16",), 2, 0, "pairwise"),
        ("cdna3-fp16", ("fp16",), 8, 24, "rounded-down"),
        ("cdna3-bf16", ("bf16",), 8, 24, "rounded-down"),
        ("cdna3-tf32", ("tf32",), 4, 24, "rounded-down"),
        ("cdna3-fp16-k4", ("fp16",), 4, 24, "rounded-down"),
        ("cdna3-bf16-k4", ("bf16",), 4, 24, "rounded-down"),
        ("cdna3-fp8", fp8, 16, 24, "rounded-down"),
    ]
    return [
        TensorCore(
            name,
            inputs,
            step,
            bits,
            "fp32-rne",
            exponent_floor=-126,
            group=8 if inputs == fp8 else 0,
            law=law,
            sum_bits=31 if bits else 0,
            source=_CDNA,
        )
        for name, inputs, step, bits, law in rows
    ]


#: Name -> tensor core. ``-fp16out`` sums in FP16 rather than FP32. ``hopper-fp8`` is the unit that wgmma has,
#: and with it cuBLAS and DeepGEMM. Hopper's mma.sync has none for FP8: it unpacks to FP16 and sums 32 of k in
#: two steps of ``hopper-fp16`` (``-fp16out``), from zero, k % 4 < 2 first; c is added last, with a rounding.
#: ``cdna`` are AMD's matrix cores. No description to the bit of CDNA4's is public, nor of the units of TPU,
#: Gaudi and Trainium: there are no cores of them.
TENSOR_CORES: Registry[TensorCore] = Registry(
    "tensor core",
    TensorCore,
    _cores(),
    {
        "inputs": lambda core: " ".join(map(str, core.inputs)),
        "step>": lambda core: core.step,
        "bits kept>": lambda core: core.fraction_bits or core.law,
        "output": lambda core: core.output,
        "block scales": lambda core: f"{core.scale_format} {core.scale_block}" if core.scale_format else "-",
    },
    ("step: products summed at once; bits kept: below the largest exponent, when they are aligned",),
)


get_tensor_core = TENSOR_CORES.find


def split_interval(core: str | TensorCore, promote_every: int | None = None) -> tuple[TensorCore, int | None]:
    """Return the core, and the promotion interval: the one after a slash in its name, or `promote_every`.

    Examples
    --------
    >>> core, every = split_interval("hopper-fp8/128")
    >>> core.name, every
    ('hopper-fp8', 128)
    """
    name, slash, interval = core.partition("/") if isinstance(core, str) else (core, "", "")
    if not slash:
        return get_tensor_core(name), promote_every
    if promote_every is not None:
        raise ValueError(
            f"{shown(core)} names a promotion interval, and promote_every={shown(promote_every)}: pass one"
        )
    if not interval.isdecimal() or len(interval) > 9:
        raise ValueError(f"accumulator {shown(core)}: write the interval as in 'hopper-fp8/128'")
    return get_tensor_core(name), int(interval)
