"""What keys and values are cached in: formats and DeepSeek's records, one a row, and their bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from fp8sim._support import checks
from fp8sim._support.registry import Registry
from fp8sim.costs import traffic
from fp8sim.formats import get_format
from fp8sim.models.description import Attention, Compressed, GroupedQuery, Latent, ModelDescription, Recurrent
from fp8sim.models.matrices import AttentionCore
from fp8sim.quantization import Operand, Scaling

__all__ = ["KV_CACHES", "CacheFormat", "Stream", "cache_bytes", "get_cache", "key_bytes", "streams"]


@dataclass(frozen=True)
class CacheFormat:
    """How a cache stores keys and values, frozen, so that ``dataclasses.replace`` makes a what-if of it.

    Parameters
    ----------
    name : str
        What tables call it.
    operand : Operand
        Formats of elements and scales; groups run along a token's keys, and along its values. A scale of
        a whole tensor, static or not, takes no bytes a token.
    record : {"none", "rotary", "whole"}
        Of latents alone: ``rotary``, the rotary part stays in BF16 and the scales of a token are padded
        to 8 bytes; ``whole``, both parts in the format.
    summary : str
        Who stores so.

    Examples
    --------
    >>> from fp8sim.models import get_model
    >>> [key_bytes(KV_CACHES[name], get_model("llama-3.1-8b").attention) for name in ("bf16", "fp8", "fp4")]
    [4096, 2048, 1088]
    """

    name: str
    operand: Operand
    record: Literal["none", "rotary", "whole"] = "none"
    summary: str = ""

    def __post_init__(self) -> None:
        """Check the fields."""
        checks.fields(self)

    def __str__(self) -> str:
        """Return the name."""
        return self.name


_VLLM, _SGLANG = "vLLM issue #56893", "SGLang"
_BF16, _E2M1, _E4M3 = Operand(get_format("bf16")), get_format("e2m1"), get_format("e4m3")
_MXFP4, _NVFP4 = Operand(_E2M1, Scaling("1x32", "e8m0")), Operand(_E2M1, Scaling("1x16", "e4m3"))

_ROWS = (
    CacheFormat("bf16", _BF16, summary="as attention computes it"),
    CacheFormat("fp8", Operand(_E4M3, Scaling("tensor")), summary="one scale a tensor, found as it is used"),
    CacheFormat("fp8-static", Operand(_E4M3, Scaling("tensor")), summary="one scale a tensor, calibrated"),
    CacheFormat("fp8-token", Operand(_E4M3, Scaling("row")), summary="an FP32 scale a token, of K and of V"),
    CacheFormat("fp4", _MXFP4, summary="MXFP4: an E8M0 scale each 32"),
    CacheFormat("nvfp4", _NVFP4, summary="an E4M3 scale each 16"),
    CacheFormat("deepseek-v3.2", Operand(_E4M3, Scaling("1x128")), "rotary", f"656 bytes a key ({_VLLM})"),
    CacheFormat("deepseek-v4", Operand(_E4M3, Scaling("1x64", "e8m0")), "rotary", f"584 bytes ({_VLLM})"),
    CacheFormat("deepseek-v4.1", Operand(_E4M3, Scaling("1x32", "e8m0")), "whole", f"528 bytes ({_VLLM})"),
    CacheFormat("mxfp4-latent", _MXFP4, "rotary", f"368 bytes ({_SGLANG} #37138)"),
    CacheFormat("nvfp4-latent", _NVFP4, "rotary", f"384 bytes ({_SGLANG} #38646)"),
)

#: Name -> how a cache is stored. Add your own with ``KV_CACHES["mine"] = CacheFormat(...)``.
KV_CACHES: Registry[CacheFormat] = Registry(
    "cache format",
    CacheFormat,
    _ROWS,
    {"stored as": lambda row: row.operand, "of": lambda row: row.record, "": lambda row: row.summary},
    ("The keys of an index stay in their own: 132 bytes in FP8, 68 in FP4.",),
)

#: Find a cache format by name, the nearest suggested; a `CacheFormat` is returned as it is.
get_cache = KV_CACHES.find


def key_bytes(cache: CacheFormat, attention: Attention) -> int:
    """Return the bytes of one cached key, its value with it, in one layer.

    Examples
    --------
    >>> from fp8sim.models import get_model
    >>> key_bytes(KV_CACHES["deepseek-v3.2"], get_model("deepseek-v3.2").attention)
    656
    >>> records = [row for row in KV_CACHES.values() if row.record != "none"]
    >>> [key_bytes(row, get_model("deepseek-v4-flash").attention) for row in records]
    [592, 584, 528, 368, 384]
    """
    if isinstance(attention, Recurrent):
        return 0
    if isinstance(attention, GroupedQuery):
        if cache.record != "none":
            raise ValueError(f"the cache {cache} is a record of latents, and {attention.summary} has none")
        widths = attention.kv_heads * attention.head_dim, attention.kv_heads * attention.v_dim
        return sum(sum(_a_token(cache.operand, width)) for width in widths)
    plain = attention.kv_rank if isinstance(attention, Latent) else attention.head_dim - attention.rope_dim
    if cache.record != "rotary":
        return sum(_a_token(cache.operand, plain + attention.rope_dim))
    elements, scales = _a_token(cache.operand, plain)
    return elements + -(-scales // 8) * 8 + 2 * attention.rope_dim


@lru_cache(maxsize=1024)
def _a_token(operand: Operand, width: int) -> tuple[int, int]:
    """Return the bytes of elements and of scales that one token more takes."""
    one, two = (traffic(operand, (tokens, width)) for tokens in (1, 2))
    return two.elements - one.elements, two.scales - one.scales


class Stream(NamedTuple):
    """One kind of cached keys: who reads them, in how many layers, and their bytes."""

    core: AttentionCore
    layers: int
    held: int  #: bytes of a key that a layer keeps; of a borrowed one none
    read: float  #: bytes of a key that a token reads
    shards: int  #: devices that keys can be cut across: heads of keys and values


def streams(model: ModelDescription, cache: CacheFormat, *, absorbed: bool = True) -> Iterator[Stream]:
    """Yield what a model caches and reads; a recurrent state is read and held elsewhere.

    Examples
    --------
    >>> from fp8sim.models import get_model
    >>> for one in streams(get_model("deepseek-v3.2"), KV_CACHES["deepseek-v3.2"]):
    ...     print(one.core.name, one.layers, one.held)
    attention core 61 656
    index 61 132
    """
    for attention, layers in model.attentions.items():
        each = key_bytes(cache, attention)
        index = attention.index if isinstance(attention, (Latent, Compressed)) else None
        for core in attention.cores(absorbed=absorbed):
            if isinstance(attention, Recurrent):
                yield Stream(core, layers, 0, 2 * core.kv_width, attention.heads)
                continue
            bytes_ = index.record if index and core.name == "index" else each
            shards = attention.kv_heads if isinstance(attention, GroupedQuery) else 1
            yield Stream(core, layers, bytes_ if core.cache_width else 0, bytes_, shards)


def cache_bytes(model: ModelDescription, cache: CacheFormat, tokens: int) -> int:
    """Return the bytes that a sequence of so many tokens caches over all layers.

    Examples
    --------
    >>> from fp8sim.models import get_model
    >>> cache_bytes(get_model("llama-3.1-8b"), KV_CACHES["fp8"], 8192) / 8192
    65536.0
    """
    return sum(one.layers * one.held * one.core.kept(tokens) for one in streams(model, cache))
