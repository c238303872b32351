"""The two ways out for models that no row describes: headers of a checkpoint, and `transformers`."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from fp8sim._support.quantities import bytes_text, count_text
from fp8sim._support.text import printable, shown
from fp8sim.checkpoints import Checkpoint, Tensor, open_checkpoint
from fp8sim.checkpoints.headers import load_json
from fp8sim.checkpoints.places import locate
from fp8sim.formats import FORMATS
from fp8sim.models.attention import GroupedQuery, Latent
from fp8sim.models.config import Config, NotDescribed, PartSpec, Spec
from fp8sim.models.description import Mixture, ModelDescription, Stack
from fp8sim.models.families import EXPERTS, MLA
from fp8sim.models.parsing import describe, stored_formats
from fp8sim.models.tensors import Given, Tensors, grouped

__all__ = ["by_headers", "described", "from_headers", "from_transformers", "has_headers", "tensors_of"]

_MOST_LAYERS = 1000  # a library makes an object of each
_INTEGERS = re.compile(r"u?int(16|32|64)|bool")


def by_headers(source: str | Path) -> ModelDescription:
    """Describe a checkpoint by its headers, and what the configuration beside it says."""
    folder, file = locate(source)
    beside = folder.holds("config.json")
    text = folder.read("config.json", 0, folder.size("config.json")).tobytes() if beside else b"{}"
    config = load_json(text, folder.label("config.json"))
    return from_headers(source, config, printable(file or str(folder.label()).rpartition("/")[2]))


def described(
    config: Mapping[str, Any], name: str = "model", source: str = "user", folder: Path | None = None
) -> ModelDescription:
    """Describe a configuration by its row, else by the headers beside it, else by what a library builds."""
    try:
        return describe(config, name, source)
    except NotDescribed as error:
        told = str(error)
    headers = folder is not None and has_headers(folder)
    if not headers and not isinstance(config.get("model_type"), str):
        raise ValueError(told)
    try:
        if folder is not None and headers:
            model = from_headers(folder, config, name)
        else:
            model = from_transformers(config, name, source)
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"{told}; {error}") from None
    return replace(model, found=(told.partition("; known")[0], *model.found))


def tensors_of(checkpoint: Checkpoint) -> list[Given]:
    """Return the weights of a checkpoint with their bytes; what is no number of a weight is no parameter."""
    stored = [
        Given(
            one.name,
            one.shape,
            one.nbytes,
            one.scale_nbytes,
            _has_elements(one),
        )
        for one in checkpoint
    ]
    left = checkpoint.nbytes - sum(one.elements + one.scales for one in stored)
    # Scales of activations and remarks belong to no weight.
    return [*stored, *([Given("scales of activations and remarks", (), left, 0, False)] if left else [])]


def _has_elements(tensor: Tensor) -> bool:
    """Whether the shape of a tensor says how many parameters it has, read or not: not of packed codes."""
    if tensor.refused:
        return tensor.format in FORMATS and FORMATS[tensor.format].bits == 8
    return not (_INTEGERS.fullmatch(tensor.format) and tensor.layout == "plain")


def has_headers(folder: Path) -> bool:
    """Whether safetensors files lie in a folder."""
    return any(folder.glob("*.safetensors"))


def from_headers(source: str | os.PathLike[str], config: Mapping[str, Any], name: str) -> ModelDescription:
    """Describe a model by the headers of its checkpoint: bytes by format, parameters, matrices by shape.

    What a token meets of attention and of experts is taken from `config`, where it says so.
    """
    checkpoint = open_checkpoint(source)
    sizes: Counter[str] = Counter()
    for one in checkpoint:
        sizes[one.format] += one.nbytes
        sizes["scales"] += one.scale_nbytes
    told = ", ".join(f"{bytes_text(size)} {fmt}" for fmt, size in sizes.most_common() if size)
    found = [f"described from the headers of {checkpoint.source}: {bytes_text(checkpoint.nbytes)}, {told}"]
    bare = [one.name for one in checkpoint if one.refused and _has_elements(one)]
    if bare:
        found.append(f"scales of {len(bare)} tensors were not found, {bare[0]} first; bytes are without them")
    refused = [one.name for one in checkpoint if one.refused and not _has_elements(one)]
    if refused:
        found.append(f"left out: parameters of {len(refused)} tensors that are not read, {refused[0]} first")
    return _described(tensors_of(checkpoint), Config(config, name, checkpoint.source), found)


def from_transformers(config: Mapping[str, Any], name: str, source: str) -> ModelDescription:
    """Describe a model by what `transformers` builds of its configuration on PyTorch's meta device.

    Raises
    ------
    ValueError
        If the two are not installed, or do not build it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built, made = _built(config)
    tensors = [Given(path, tuple(one.shape)) for path, one in built.named_parameters()]
    tensors += [Given(path, tuple(one.shape)) for path, one in built.named_buffers() if "e_score" in path]
    head = built.get_output_embeddings()
    tied = head is not None and built.get_input_embeddings().weight is head.weight
    found = [f"described by what {_version()} builds, {type(built).__name__}"]
    cfg = Config({**made, **config}, name, source)
    model = _described(tensors, cfg, found, tied=tied)
    stored = stored_formats(cfg)
    return replace(model, stored=stored, found=(*model.found, *cfg.found))


def _version() -> str:
    import transformers

    return f"transformers {transformers.__version__}"


def _built(config: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return a model without memory, and its configuration with what the library takes by default."""
    try:
        import torch
        import transformers
    except ImportError:
        raise ValueError(
            "nor are transformers and torch installed, which may know it (pip install 'fp8sim[transformers]')"
        ) from None
    plain = {key: value for key, value in config.items() if key not in ("quantization_config", "auto_map")}
    kind, level = plain.pop("model_type", None), transformers.logging.get_verbosity()
    try:
        transformers.logging.set_verbosity_error()
        _check_layers(plain)
        made = transformers.AutoConfig.for_model(kind, **plain)
        with torch.device("meta"):  # shapes, no memory
            built = _class(transformers, made)(made)
        built.tie_weights()
        return built, made.to_dict()
    except Exception as error:  # of as many kinds as there are models
        words = " ".join(str(error).split()).partition(". ")[0][:120] or type(error).__name__
        raise ValueError(printable(f"nor does {_version()} build it: {words}")) from None
    finally:
        transformers.logging.set_verbosity(level)


def _check_layers(config: Mapping[str, Any]) -> None:
    for value in (config, *(one for one in config.values() if isinstance(one, Mapping))):
        for key in ("num_hidden_layers", "n_layer", "n_layers", "num_layers"):
            layers = value.get(key)
            if isinstance(layers, int) and layers > _MOST_LAYERS:
                raise ValueError(f"{key} is {layers}, more than {_MOST_LAYERS}")


def _class(transformers: Any, made: Any) -> Any:
    """Return the class that a configuration names, or the one for language models, or the plain one."""
    classes = made.architectures or []
    if not isinstance(classes, list):
        raise ValueError(f"architectures is {shown(classes)}, no list of names")
    if classes:
        named = getattr(transformers, str(classes[0]), None)
        if named is None:
            raise ValueError(f"it has no {shown(classes[0])}")
        return named._from_config
    auto = transformers.AutoModelForCausalLM
    known = type(made) in auto._model_mapping
    return auto.from_config if known else transformers.AutoModel.from_config


# --- from tensors to a description ----------------------------------------------------------------


def _described(
    tensors: Iterable[Given], cfg: Config, found: list[str], *, tied: bool | None = None
) -> ModelDescription:
    tensors = list(tensors)
    layers = _layers(cfg)
    rows = grouped(tensors, layers)
    parameters = count_text(sum(row.parameters for row in rows))
    shapes = len({row.matrix for row in rows if row.matrix})
    found = [*found, f"{len(tensors)} tensors, {parameters} parameters, matrices of {shapes} shapes"]
    apart = sum(row.parameters for row in rows if row.component == "other parts")
    if apart:
        first = next(row.name for row in rows if row.component == "other parts" and row.parameters)
        found.append(f"left out: {count_text(apart)} parameters of towers and modules, {first} first")
    experts, rows = _experts(cfg, rows, found)
    most = layers or max(row.layers for row in rows)
    attention = _attention(cfg, rows, most, found)
    found.append("left out: what the backward pass keeps of a token")
    tables = [row.shape for row in rows if row.component == "embedding" and len(row.shape) == 2]
    embedding = max(tables, default=None)  # of tokens: there are fewer positions
    head = next((r for r in rows if r.component == "output head" and r.matrix), None)
    if embedding is None:
        widths = Counter({r.matrix[1]: r.count for r in rows if r.matrix})
        embedding = (head.shape[0] if head else 0, widths.most_common(1)[0][0]) if widths else None
    if embedding is None:
        raise ValueError(f"config of {cfg.name}: its {len(tensors)} tensors hold no matrix")
    if tied is None:
        tied = head is None and cfg.get("tie_word_embeddings") is True
    return ModelDescription(
        name=cfg.name,
        family=shown(cfg.get("model_type")).strip("'") if cfg.get("model_type") else "unknown",
        hidden=embedding[1],
        vocab=embedding[0],
        stacks=tuple(_stacks(attention, experts, rows)),
        tied=tied,
        decoder=bool(head) or tied,
        source=cfg.source,
        found=tuple(found),
        tensors=rows,
    )


def _layers(cfg: Config) -> int | None:
    for key in ("num_hidden_layers", "n_layer", "n_layers", "num_layers"):
        value = cfg.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _stacks(attention: list[_Layers], experts: Mixture | None, rows: tuple[Tensors, ...]) -> Iterator[Stack]:
    """Yield the layers, as many with experts as have them, wherever they are."""
    left = max((row.layers for row in rows if row.component == "routed experts"), default=0) if experts else 0
    for count, kind in attention:
        some = min(count, left)
        left -= some
        if some:
            yield Stack(some, experts, kind)
        if count > some:
            yield Stack(count - some, None, kind)


def _experts(
    cfg: Config, rows: tuple[Tensors, ...], found: list[str]
) -> tuple[Mixture | None, tuple[Tensors, ...]]:
    """Return the mixture, and the rows with the experts that see a token, where the configuration says."""
    of = [row for row in rows if row.component == "routed experts" and row.experts > 1]
    if not of:
        return None, rows
    try:
        mixture: Mixture | None = cfg.part((Mixture, _MIXTURE))
    except ValueError:
        mixture = None
    if mixture is None or any(row.experts != mixture.experts for row in of):
        found.append("left out: how many experts see a token, which is not said; all are counted")
        return None, rows
    found.append(f"{mixture.per_token} of {mixture.experts} experts see a token, from the configuration")
    few = {row.name: replace(row, per_token=mixture.per_token) for row in of}
    return mixture, tuple(few.get(row.name, row) for row in rows)


def _attention(cfg: Config, rows: tuple[Tensors, ...], layers: int, found: list[str]) -> list[_Layers]:
    """Return the kinds of attention and their layers, where configuration and shapes agree on them."""
    try:
        stacks = _known_attention(cfg, rows, found)
    except (ValueError, TypeError):
        found.append("left out: flops and cache of attention, whose kind is not known; not counted")
        return [(layers, None)]
    others = layers - sum(count for count, _ in stacks)
    if others > 0:
        found.append(f"left out: flops, cache and state of what mixes tokens in {others} layers; not counted")
        stacks.append((others, None))
    return stacks


def _known_attention(cfg: Config, rows: tuple[Tensors, ...], found: list[str]) -> list[_Layers]:
    words, window = cfg.get("layer_types"), cfg.get("sliding_window")
    if cfg.get("use_sliding_window") is False:
        window = None
    indexed = any(row.component == "index" for row in rows)
    if indexed or (window and not words) or cfg.get("is_encoder_decoder") is True:
        raise ValueError
    every = [row for row in rows if row.matrix and row.component == "attention"]
    leaves = next((leaves for leaves in _KNOWN if any(leaves.search(row.name) for row in every)), _FUSED)
    of = [row for row in every if leaves.search(row.name)]
    kind = cfg.part(_KNOWN[leaves])
    n = kind.cache_width if isinstance(kind, Latent) else kind.kv_heads * kind.head_dim
    if leaves is _FUSED:
        n = (kind.heads + 2 * kind.kv_heads) * kind.head_dim
    # GPT-2 and its kin store a matrix the other way round.
    if any(row.matrix is None or n != row.matrix["c_attn" in row.name] for row in of):
        raise ValueError
    held = sum(row.layers for row in of)
    counts = Counter(words if isinstance(words, list) else ["full_attention"] * held)
    near = replace(kind, window=window) if isinstance(kind, GroupedQuery) and window else kind
    stacks = [
        (counts[word], one)
        for word, one in (("full_attention", kind), ("sliding_attention", near))
        if counts[word]
    ]
    if not of or sum(count for count, _ in stacks) != held:
        raise ValueError
    found.append(f"attention from the configuration and the shape of {of[0].name}")
    return stacks


_Layers: TypeAlias = "tuple[int, GroupedQuery | Latent | None]"
_MIXTURE: dict[str, Spec] = {**EXPERTS, "width": "moe_intermediate_size|intermediate_size|=1"}
_HEADS: dict[str, Spec] = {
    "heads": "num_attention_heads|n_head|n_heads",
    "kv_heads": "num_key_value_heads|num_kv_heads|num_attention_heads|n_head|n_heads",
    "head_dim": "head_dim|hidden_size/num_attention_heads|n_embd/n_head|d_model/n_heads",
}
_FUSED = re.compile(r"(qkv_proj|query_key_value|c_attn|[wW]qkv)\.weight$")
#: Names of the layers that make keys -> the kind of attention.
_KNOWN: dict[re.Pattern[str], PartSpec] = {
    re.compile(r"kv_a_proj_with_mqa\.weight$"): (Latent, MLA),
    _FUSED: (GroupedQuery, _HEADS),
    re.compile(r"(k_proj|\bkey|\bwk|k_lin)\.weight$"): (GroupedQuery, _HEADS),
}
