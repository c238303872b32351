"""How quantised weights are spelt in checkpoints: one row of a table a spelling.

A weight is stored as codes, with companions beside it whose names follow from its own: ``q.weight`` has its
scales in ``q.weight_scale_inv`` (DeepSeek), ``q.weight_scale`` (compressed-tensors, ModelOpt), ``q.scale``
(DeepSeek-V4) or ``q.scale_weight`` (diffusion tools).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["FLOATS", "LAYOUTS", "Block", "Layout"]

Block: TypeAlias = "tuple[int, int]"  # rows and columns that share a scale
Words: TypeAlias = "tuple[str, ...]"

FP8: Words = ("F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ")
OCP: Words = FP8[:2]
BYTES: Words = ("U8", "I8", "F4")
FLOATS: Words = ("F32", "BF16", "F16")  #: types of scales that are numbers
POWERS: Words = ("F8_E8M0", "U8")  # E8M0, also where a file calls it bytes

#: Blocks that are looked for where no configuration names them.
SQUARES: tuple[Block, ...] = ((128, 128), (64, 64), (32, 32))
GROUPS: tuple[Block, ...] = tuple((1, 2**power) for power in range(4, 11))


@dataclass(frozen=True)
class Layout:
    """One spelling of a quantised weight.

    Names are given by how they end: the name of the codes is a stem and `codes`, and those of companions are
    the same stem and theirs. Where a companion has several spellings, the first that is there is taken.
    """

    name: str
    source: str  #: where it is described
    codes: str  #: how the name of the codes ends
    stored: Words  #: types that codes are stored in
    scale: Words  #: how the names of scales end
    scale_stored: Words  #: types of scales
    blocks: tuple[Block, ...] = ()  #: that may share a scale, beside whole tensors, rows and columns
    fixed: bool = False  #: whether `blocks` hold whatever a configuration says
    element: str = ""  #: format of the elements where the stored type does not say it: ``e2m1``, ``int4``
    second: Words = ()  #: how the name of a scale above the scales ends, which must be there
    divides: bool = False  #: whether that one divides
    zero: Words = ()  #: how the name of a zero point ends, if there is one
    other: Words = ()  #: how names of companions end that are not multiplied
    marked: bool = False  #: whether ComfyUI's remark, ``comfy_quant``, must be there
    high_first: bool = False  #: whether the first of two elements is in the upper half of a byte
    swizzled: bool = False  #: whether scales lie as cuBLAS reads them, in tiles of 128x4
    joined: bool = False  #: whether the last two axes are one, cut into groups


_V4 = "deepseek-ai/DeepSeek-V4, inference/convert.py"
_QUANTO = "huggingface/optimum-quanto, state dictionaries"
_CT = "compressed-tensors, compressors/"
_OF_WEIGHT: Words = ("_scale", "_weight_scale")  # the second where the codes are not called weight
_16: tuple[Block, ...] = ((1, 16),)
_32: tuple[Block, ...] = ((1, 32),)
_ACTIVATION: Words = ("input_scale",)

#: In the order in which they are tried; those that no names or types fit are passed over.
LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "comfy-nvfp4", "comfy-kitchen, tensor/nvfp4.py", "weight", ("U8",), ("weight_scale",), ("F8_E4M3",),
        _16, True, "e2m1", ("weight_scale_2",), other=_ACTIVATION, marked=True, high_first=True,
        swizzled=True,
    ),
    Layout(
        "comfy-mxfp8", "comfy-kitchen, tensor/mxfp8.py", "weight", OCP, ("weight_scale",), POWERS,
        _32, True, other=_ACTIVATION, marked=True, swizzled=True,
    ),
    Layout(
        "deepseek", "deepseek-ai/DeepSeek-V3, README_WEIGHTS.md; V3.1 with E8M0", "", FP8, ("_scale_inv",),
        (*FLOATS, *POWERS), (*SQUARES, *_32),
    ),
    Layout("deepseek-v4", _V4, "weight", FP8, ("scale",), (*FLOATS, *POWERS), (*SQUARES, *GROUPS)),
    Layout("deepseek-v4-fp4", _V4, "weight", BYTES, ("scale",), POWERS, _32, True, "e2m1"),
    Layout(
        "nvfp4-pack-quantized", _CT + "nvfp4", "_packed", ("U8",), ("_scale",), ("F8_E4M3",),
        _16, True, "e2m1", ("_global_scale",), divides=True,
    ),
    Layout("mxfp6-pack-quantized", _CT + "mxfp6", "_packed", ("U8",), ("_scale",), POWERS, _32, True, "e2m3"),
    Layout("mxfp4-pack-quantized", _CT + "mxfp4", "_packed", ("U8",), ("_scale",), POWERS, _32, True, "e2m1"),
    Layout(
        "pack-quantized", _CT + "pack_quantized", "_packed", ("I32",), ("_scale",), FLOATS,
        GROUPS, False, "int4", zero=("_zero_point",), other=("_shape", "_g_idx"),
    ),
    Layout(
        "nvfp4", "NVIDIA ModelOpt, export of NVFP4", "", ("U8", "F4"), _OF_WEIGHT, ("F8_E4M3",),
        _16, True, "e2m1", ("_scale_2", "_weight_scale_2"),
    ),
    Layout(
        "mxfp4", "NVIDIA ModelOpt and AMD Quark, export of MXFP4", "", ("U8", "F4"), _OF_WEIGHT, POWERS,
        _32, True, "e2m1",
    ),
    Layout(
        "gpt-oss", "openai/gpt-oss, gpt_oss/torch/weights.py", "_blocks", ("U8",), ("_scales",), POWERS,
        _32, True, "e2m1", joined=True,
    ),
    Layout("mxfp8", _CT + "mxfp8; NVIDIA ModelOpt, export of MXFP8", "", OCP, _OF_WEIGHT, POWERS, _32, True),
    Layout(
        "float-quantized", _CT + "naive_quantized; FP8 of NVIDIA ModelOpt, FBGEMM and ComfyUI", "", FP8,
        _OF_WEIGHT, FLOATS, (*SQUARES, *GROUPS),
    ),
    Layout(
        "int-quantized", _CT + "naive_quantized", "", ("I8",), _OF_WEIGHT, FLOATS,
        (*SQUARES, *GROUPS), False, "int8", zero=("_zero_point",),
    ),
    Layout(
        "scaled-fp8", "ComfyUI, single files with the key scaled_fp8", "weight", FP8, ("scale_weight",),
        FLOATS, other=("scale_input",),
    ),
    Layout("quanto", _QUANTO, "._data", FP8, ("._scale",), FLOATS, GROUPS),
    Layout("quanto", _QUANTO, "._data", ("I8",), ("._scale",), FLOATS, GROUPS, False, "int8"),
)  # fmt: skip
