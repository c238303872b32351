"""Turning a configuration into a description: the row of its family, its head, and formats as stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fp8sim._support.text import shown
from fp8sim.formats import get_format
from fp8sim.models.config import Config, PartSpec, read_config
from fp8sim.models.description import ModelDescription, Stack, Stored
from fp8sim.models.families import FAMILIES, Family, family_of
from fp8sim.models.patterns import V4_RATIOS
from fp8sim.quantization import Operand, Scaling

__all__ = ["FAMILIES", "describe", "read_config", "stored_formats"]

_HEADS = {  # end of a class -> rows of its head: None as many as the vocabulary
    "ForCausalLM": "=none",
    "ForConditionalGeneration": "=none",
    "LMHeadModel": "=none",
    "ForSequenceClassification": "num_labels|=2",
    "ForRewardModel": "=0",
    "Model": "=0",
}


def describe(config: Mapping[str, Any], name: str = "model", source: str = "user") -> ModelDescription:
    """Turn a Hugging Face configuration into a description: its shapes, and the formats of its checkpoint.

    `name` is what tables call the model, `source` where its configuration is from. What is missing,
    unknown, or contradicts itself raises a ValueError. `found` of the description says what was read
    from where, and what is left out.

    Examples
    --------
    >>> config = dict(model_type="llama", vocab_size=32000, hidden_size=4096, intermediate_size=11008,
    ...               num_hidden_layers=32, num_attention_heads=32)
    >>> model = describe(config, "llama-2-7b")
    >>> model.attention.heads, model.attention.head_dim, model.stacks[0].layers
    (32, 128, 32)
    >>> model.found[0]
    'GroupedQuery heads from num_attention_heads'
    """
    cfg = Config(config, name, source)
    family = family_of(cfg)
    row = FAMILIES[family]
    for key, allowed, why in row.only:
        value = cfg.get(key)
        if value is not None and value != allowed:
            raise cfg.not_described(f"{key} is {shown(value)}; {why}")
    stacks = _stacks(cfg, row)
    whole = {"hidden": "hidden_size", "vocab": "vocab_size", "head": _head(cfg, row), **row.whole}
    fields = cfg.values(ModelDescription, whole)
    cfg.found += [f"left out: {key}, not counted" for key in row.left_out if cfg.get(key) is not None]
    later = (cfg.listed("compress_ratios", int) or [])[cfg.layers :]
    if fields.get("mtp_layers") and later:  # of the module after the last layer
        kind = _part(cfg, row.attention, V4_RATIOS.get(later[0], str(later[0])), "compress_ratios")
        fields["mtp"] = Stack(1, stacks[-1].feed_forward, kind, stacks[-1].norms)
    stored = stored_formats(cfg)
    try:
        return ModelDescription(
            name=name,
            family=family,
            source=source,
            stacks=tuple(stacks),
            stored=stored,
            found=tuple(cfg.found),
            **fields,
        )
    except (TypeError, ValueError) as error:
        raise cfg.error(str(error)) from None


def _stacks(cfg: Config, row: Family) -> list[Stack]:
    """Return the layers, equal ones together."""
    mixers, ffns, changes = row.attention_layers(cfg), row.feed_forward_layers(cfg), cfg.layer_changes()
    counts: dict[tuple[str, str, tuple[tuple[str, Any], ...]], int] = {}
    for layer, (mixer, ffn) in enumerate(zip(mixers, ffns, strict=True)):
        kind = mixer, ffn, tuple(changes.get(layer, {}).items())
        counts[kind] = counts.get(kind, 0) + 1
    whole, norms, stacks = cfg.data, cfg.value(row.norms), []
    for (mixer, ffn, change), layers in counts.items():
        cfg.data = {**whole, **dict(change)}
        attention = _part(cfg, row.attention, mixer, "layer_types")
        stacks.append(Stack(layers, _part(cfg, row.feed_forward, ffn, "mlp_layer_types"), attention, norms))
    cfg.data = whole
    return stacks


def _part(cfg: Config, kinds: Mapping[str, PartSpec | None], word: str, key: str) -> Any:
    if word not in kinds:
        known = ", ".join(shown(kind) for kind in kinds)
        raise cfg.not_described(f"{key} names {shown(word)}, which is not described; known: {known}")
    spec = kinds[word]
    return None if spec is None else cfg.part(spec)


def _head(cfg: Config, row: Family) -> str:
    """Return where the rows of the output head stand, by the class that the file names."""
    classes = cfg.get("architectures")
    if classes is None:
        return "=none"
    first = classes[0] if isinstance(classes, list) and classes else None
    if not isinstance(first, str):
        raise cfg.error(f"architectures must be a list of names, got {shown(classes)}")
    for end, rows in _HEADS.items():
        if first.endswith(end):
            cfg.found.append(f"output head from architectures, {first}")
            labels = cfg.get("id2label")
            if end == "ForSequenceClassification" and isinstance(labels, Mapping) and labels:
                return f"num_labels|={len(labels)}"
            if end == "ForRewardModel":
                cfg.found.append("left out: the head that scores, not counted")
            return rows
    ends = f"described are classes ending in {', '.join(_HEADS)}"
    raise cfg.not_described(f"architectures is {shown(classes)}; {ends}")


# --- formats as stored ----------------------------------------------------------------------------

_E4M3 = get_format("e4m3")
_MXFP4 = Operand(get_format("e2m1"), Scaling("1x32", "e8m0"))
_NVFP4 = Operand(get_format("e2m1"), Scaling("1x16", "e4m3"))
_FP8 = Operand(_E4M3, Scaling("tensor"))
_MXFP8 = Operand(_E4M3, Scaling("1x32", "e8m0"))
_ALGORITHMS = {"NVFP4": _NVFP4, "FP8": _FP8, "MXFP4": _MXFP4, "MXFP8": _MXFP8}


def stored_formats(cfg: Config) -> Stored | None:
    """Return the formats that quantization_config names; what is not described is said in `found`."""
    told = cfg.get("quantization_config")
    if told is None:
        return None
    if not isinstance(told, Mapping):
        raise cfg.error(f"quantization_config must be an object, got {shown(told)}")
    method, linear = told.get("quant_method"), None
    if method == "fp8":
        linear = _blocks(cfg, told)
    elif method == "mxfp4":
        linear = _MXFP4
    elif method == "modelopt":
        algorithm = told.get("quant_algo")
        linear = _ALGORITHMS.get(algorithm) if isinstance(algorithm, str) else None
    elif method == "compressed-tensors":
        linear = _compressed(told)
    if linear is None:
        cfg.found.append(f"left out: formats as stored, quantization_config of {shown(method)}")
        return None
    kept = told.get("modules_to_not_convert") or told.get("ignore") or []
    if not (isinstance(kept, list) and all(isinstance(one, str) for one in kept)):
        raise cfg.error(f"modules_to_not_convert must be a list of names, got {shown(kept)}")
    experts = _MXFP4 if cfg.get("expert_dtype") == "fp4" else None
    cfg.found.append(f"formats as stored from quantization_config, {method}")
    return Stored(linear, experts, tuple(kept), f"{method}")


def _blocks(cfg: Config, told: Mapping[str, Any]) -> Operand:
    """Return E4M3 with a scale a block, or a tensor where none is named."""
    block = told.get("weight_block_size")
    if block is None:
        return _FP8
    sizes = block if isinstance(block, list) and len(block) == 2 else [0]
    if not all(type(size) is int and 0 < size < 1 << 20 for size in sizes):
        raise cfg.error(f"weight_block_size must be two whole numbers, got {shown(block)}")
    scales = "e8m0" if told.get("scale_fmt") == "ue8m0" else "fp32"
    return Operand(_E4M3, Scaling(f"{sizes[0]}x{sizes[1]}", scales))


def _compressed(told: Mapping[str, Any]) -> Operand | None:
    """Return the format of the first group of compressed-tensors."""
    groups = told.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, Mapping) else None
    weights = first.get("weights") if isinstance(first, Mapping) else None
    if not isinstance(weights, Mapping) or weights.get("type") != "float":
        return None
    bits, group = weights.get("num_bits"), weights.get("group_size")
    if bits == 4:
        return {32: _MXFP4, 16: _NVFP4}.get(group) if type(group) is int else None
    by = next((by for by in ("channel", "tensor") if weights.get("strategy") == by), None)
    return Operand(_E4M3, Scaling("row" if by == "channel" else by)) if bits == 8 and by else None
