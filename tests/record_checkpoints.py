"""Record small checkpoints as public tools write them, with the values that float64 gives.

``pip install torch==2.13.0 compressed-tensors transformers comfy-kitchen optimum-quanto``, then
``python tests/record_checkpoints.py``. The codes and scales are the tools' own; a value is the code, decoded by
the tool or by PyTorch, times its scale in float64. Each tool's own way back must agree to its own precision.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

FOLDER = Path(__file__).parent / "data" / "checkpoints"
E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=torch.float64)


def expanded(scales: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Repeat scales over their groups, in float64."""
    scales = scales.double().reshape(scales.shape + (1,) * (len(shape) - scales.ndim))
    for axis, length in enumerate(shape):
        scales = scales.repeat_interleave(-(-length // scales.shape[axis]), axis).narrow(axis, 0, length)
    return scales


def e8m0(codes: torch.Tensor) -> torch.Tensor:
    """Return powers of two."""
    return torch.exp2(codes.view(torch.uint8).double() - 127)


def close(ours: torch.Tensor, theirs: torch.Tensor, digits: float = 2**-7) -> None:
    """Hold that a tool's own way back gives the same, to its precision."""
    assert torch.allclose(ours, theirs.double(), rtol=digits, atol=1e-12), (
        (ours - theirs.double()).abs().max()
    )


Recorded = dict[str, tuple[dict[str, torch.Tensor], torch.Tensor, dict[str, Any]]]


def compressed_tensors() -> Recorded:
    """One layer under each scheme of compressed-tensors."""
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.compressors.mxfp6.helpers import unpack_fp6_from_uint8
    from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
    from compressed_tensors.quantization import QuantizationConfig, preset_name_to_scheme
    from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

    schemes = {
        "FP8": "float-quantized", "FP8_DYNAMIC": "float-quantized", "FP8_BLOCK": "float-quantized",
        "NVFP4A16": "nvfp4-pack-quantized", "MXFP4A16": "mxfp4-pack-quantized", "MXFP6A16": "mxfp6-pack-quantized",
        "MXFP8A16": "mxfp8-quantized", "W8A8": "int-quantized", "W4A16": "pack-quantized", "W8A16": "pack-quantized",
    }  # fmt: skip
    recorded: Recorded = {}
    for name, form in schemes.items():
        scheme = preset_name_to_scheme(name, ["Linear"])
        scheme.format = form
        args = scheme.weights
        shape = (160, 256) if name == "FP8_BLOCK" else (8, 256)
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        size = args.group_size or 0
        above = None
        if name.startswith("NVFP4"):
            above = generate_gparam(weight.amin(), weight.amax()).reshape(1)
        if name == "FP8_BLOCK":
            rows, columns = args.block_structure
            tiles = [[x.abs().amax() for x in row.split(columns, 1)] for row in weight.split(rows, 0)]
            top = torch.tensor(tiles)
        elif args.strategy == "tensor":
            top = weight.abs().amax().reshape(1)
        elif args.strategy == "channel":
            top = weight.abs().amax(1, keepdim=True)
        else:
            top = weight.reshape(shape[0], -1, size).abs().amax(-1)
        scale, zero = calculate_qparams(-top, top, args, global_scale=above)
        state = {"weight": weight, "weight_scale": scale, "weight_zero_point": zero}
        if above is not None:
            state["weight_global_scale"] = above
        compressor = BaseCompressor.get_value_from_registry(form)
        files = compressor.compress(state, scheme)
        files.pop("weight_zero_point", None)
        packed = files.get("weight_packed")
        scales = files["weight_scale"]
        if "nvfp4" in form:
            codes = unpack_fp4_from_uint8(packed, shape[0], shape[1]).double()
            factor = scales.double() / above.double()
        elif "mxfp4" in form or "mxfp6" in form:
            unpack = unpack_fp4_from_uint8 if "mxfp4" in form else unpack_fp6_from_uint8
            codes, factor = unpack(packed, shape[0], shape[1]).double(), e8m0(scales)
        elif form == "mxfp8-quantized":
            codes, factor = files["weight"].double(), e8m0(scales)
        elif form == "pack-quantized":
            width = args.num_bits
            word = packed.to(torch.int64) & 0xFFFFFFFF
            fields = torch.stack([word >> (width * i) & (2**width - 1) for i in range(32 // width)], -1)
            codes, factor = fields.reshape(shape).double() - 2 ** (width - 1), scales.double()
        else:
            codes, factor = files["weight"].double(), scales.double()
        wanted = (
            codes * expanded(factor, shape) if name != "FP8_BLOCK" else codes * blocks(factor, shape, 128)
        )
        close(wanted, compressor.decompress(dict(files), scheme)["weight"])
        config = QuantizationConfig(config_groups={"group_0": scheme}, format=form)
        whole = json.loads(
            json.dumps(
                config.to_dict() if hasattr(config, "to_dict") else config.model_dump(mode="json"),
                default=str,
            )
        )
        tensors = {f"layers.0.q_proj.{key}": value.detach().contiguous() for key, value in files.items()}
        recorded[f"compressed-tensors-{name}"] = tensors, wanted, {"quantization_config": whole}
    return recorded


def blocks(scales: torch.Tensor, shape: tuple[int, ...], size: int) -> torch.Tensor:
    """Repeat scales over square blocks, of which the last may be ragged."""
    return scales.repeat_interleave(size, 0).repeat_interleave(size, 1)[: shape[0], : shape[1]]


def comfy_kitchen() -> Recorded:
    """ComfyUI's NVFP4 and MXFP8."""
    import comfy_kitchen as ck

    weight = torch.randn((144, 96), generator=torch.Generator().manual_seed(2)).bfloat16()
    above = weight.abs().amax().float() / (448 * 6)
    packed, scales = ck.quantize_nvfp4(weight, above)
    remark = torch.frombuffer(bytearray(b'{"format": "nvfp4"}'), dtype=torch.uint8)
    back = ck.dequantize_nvfp4(packed, above, scales, torch.float32)
    # Its own way back, of codes with the scales set to one, gives the codes; of ones with scales, the scales.
    one = torch.ones_like(above)
    codes = ck.dequantize_nvfp4(packed, one, torch.ones_like(scales.float()).to(scales.dtype), torch.float32)
    ones = torch.full_like(packed, 0x22)  # E2M1 has 1 as 0b0010
    inside = ck.dequantize_nvfp4(ones, one, scales, torch.float32)
    wanted = codes.double() * inside.double() * above.double()
    close(wanted, back, 2**-20)
    nv = {
        "block.q.weight": packed,
        "block.q.weight_scale": scales,
        "block.q.weight_scale_2": above,
        "block.q.comfy_quant": remark,
    }
    recorded: Recorded = {"comfy-nvfp4": (nv, wanted, {})}

    weight = torch.randn((144, 96), generator=torch.Generator().manual_seed(3)).bfloat16()
    data, scales = ck.quantize_mxfp8(weight)
    back = ck.dequantize_mxfp8(data, scales, torch.float32)
    inside = ck.dequantize_mxfp8(torch.ones_like(data.float()).to(data.dtype), scales, torch.float32)
    wanted = data.double() * inside.double()
    close(wanted, back, 2**-20)
    remark = torch.frombuffer(bytearray(b'{"format": "mxfp8"}'), dtype=torch.uint8)
    mx = {"block.q.weight": data, "block.q.weight_scale": scales, "block.q.comfy_quant": remark}
    recorded["comfy-mxfp8"] = mx, wanted, {}
    return recorded


def quanto() -> Recorded:
    """optimum-quanto's FP8 and INT8."""
    from optimum.quanto import freeze, qfloat8_e4m3fn, qint8, quantize

    recorded: Recorded = {}
    for name, kind in (("qfloat8", qfloat8_e4m3fn), ("qint8", qint8)):
        torch.manual_seed(4)
        model = torch.nn.Sequential(torch.nn.Linear(32, 8))
        quantize(model, weights=kind)
        freeze(model)
        state = {
            key: value.contiguous() for key, value in model.state_dict().items() if hasattr(value, "shape")
        }
        wanted = state["0.weight._data"].double() * state["0.weight._scale"].double()
        close(wanted, model[0].weight.dequantize(), 2**-20)
        recorded[f"quanto-{name}"] = state, wanted, {}
    return recorded


def transformers() -> Recorded:
    """DeepSeek's layout as transformers writes it, and gpt-oss's blocks as it reads them."""
    from types import SimpleNamespace

    from transformers.integrations.finegrained_fp8 import Fp8Quantize
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    recorded: Recorded = {}
    for name, scale_fmt in (("float", "float"), ("ue8m0", "ue8m0")):
        config = {"quant_method": "fp8", "weight_block_size": [128, 128], "scale_fmt": scale_fmt}
        weight = torch.randn((128, 384), generator=torch.Generator().manual_seed(5))
        quantizer = SimpleNamespace(quantization_config=SimpleNamespace(**config))
        done = Fp8Quantize(quantizer).convert({"mlp.up_proj.weight": weight})
        done = {key: value[0] if isinstance(value, list) else value for key, value in done.items()}
        scales = done["mlp.up_proj.weight_scale_inv"]
        factor = scales.double() if scales.dtype == torch.float32 else e8m0(scales)
        wanted = done["mlp.up_proj.weight"].double() * blocks(factor, (128, 384), 128)
        assert ((wanted - weight).abs() <= weight.abs() / 8 + 0.01).all()  # what rounding to E4M3 leaves
        recorded[f"transformers-fp8-{name}"] = done, wanted, {"quantization_config": config}
    rng = torch.Generator().manual_seed(6)
    packed = torch.randint(0, 256, (2, 6, 3, 16), generator=rng).to(torch.uint8)
    scales = torch.randint(118, 130, (2, 6, 3), generator=rng).to(torch.uint8)
    back = convert_moe_packed_tensors(packed.clone(), scales.clone(), dtype=torch.float32).transpose(1, 2)
    values = E2M1[torch.stack([packed & 15, packed >> 4], -1).long()].reshape(2, 6, 96)
    wanted = values * e8m0(scales).repeat_interleave(32, -1)
    close(wanted, back, 0)
    name = "model.layers.0.mlp.experts.down_proj"
    recorded["gpt-oss"] = (
        {f"{name}_blocks": packed, f"{name}_scales": scales},
        wanted,
        {"quantization_config": {"quant_method": "mxfp4"}},
    )
    return recorded


def main() -> None:
    """Write everything."""
    chosen = sys.argv[1:] or ["compressed_tensors", "comfy_kitchen", "quanto", "transformers"]
    wanted, configs = {}, {}
    for tool in chosen:
        for name, (tensors, values, config) in globals()[tool]().items():
            save_file({key: value.clone() for key, value in tensors.items()}, FOLDER / f"{name}.safetensors")
            wanted[name], configs[name] = values.numpy().astype(np.float32), config
    np.savez_compressed(FOLDER / "values.npz", **wanted)
    packages = ("torch", "compressed-tensors", "transformers", "comfy-kitchen", "optimum-quanto")
    about = {
        "what": "weights drawn from a seed, in the codes and scales of public tools; made by tests/record_checkpoints.py",
        "licence": "the numbers are ours; the tools are Apache-2.0 (torch: BSD-3-Clause)",
        "versions": {name: version(name) for name in packages},
        "configs": configs,
    }
    (FOLDER / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
