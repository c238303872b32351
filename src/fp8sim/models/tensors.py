"""Models that no row describes, as the tensors that they are made of: grouped, and read by their names."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from fp8sim.models.attention import Part
from fp8sim.models.matrices import Component, Gemm, Vector

__all__ = ["Given", "Tensors", "component_of", "gemms", "grouped", "tower_of", "vectors"]


class Given(NamedTuple):
    """A tensor as a file or a library names it; without bytes where it is stored nowhere."""

    name: str
    shape: tuple[int, ...]
    elements: int = 0  #: bytes
    scales: int = 0  #: bytes
    parameter: bool = True  #: False for tables of whole numbers, and for codes that are not read


@dataclass(frozen=True)
class Tensors(Part):
    """Tensors of one shape whose names differ in numbers alone, which are stars here.

    Examples
    --------
    >>> names = [f"layers.{layer}.mlp.experts.{e}.w1.weight" for layer in range(2) for e in range(4)]
    >>> (row,) = grouped([Given(name, (64, 32)) for name in names])
    >>> row.name, row.component, row.count, row.layers, row.experts
    ('layers.*.mlp.experts.*.w1.weight', 'routed experts', 8, 2, 4)
    """

    NONE = frozenset({"elements", "scales", "shape"})

    name: str
    shape: tuple[int, ...]
    component: Component
    count: int
    layers: int  #: that have such a tensor
    experts: int = 1  #: sets of weights in a layer
    per_token: int = 1  #: of them, those that see a token
    elements: int = 0  #: bytes of all of them, and of their scales
    scales: int = 0
    parameter: bool = True

    @property
    def parameters(self) -> int:
        """Elements of all of them."""
        return self.count * math.prod(self.shape) * self.parameter

    @property
    def matrix(self) -> tuple[int, int] | None:
        """Rows and columns of a linear layer's weight, that of an expert where several are in one tensor."""
        stacked = len(self.shape) == 3 and self.component == "routed experts"
        if self.component in ("embedding", "norms", "pooler", "other parts") or not self.parameter:
            return None
        plain = len(self.shape) == 2 and 1 not in self.shape[1:]
        if not (stacked or plain) or _VECTOR.search(self.name):
            return None
        rows, columns = self.shape[-2:]
        return rows, columns


_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")
#: Parts of names that are of no language model: towers, and modules that predict further tokens.
_TOWERS = re.compile(
    r"(^|\.)(visual|vision\w*|vit|image\w*|audio\w*|speech\w*|multi_modal\w*|mm_\w+|talker|token2wav|"
    r"code2wav)(\.|$)"
)
_MODULES = re.compile(r"(^|\.)mtp\w*(\.|$)")
# What publishers call modules -> the component, the first that is found; the rest is a feed-forward layer.
_COMPONENTS: tuple[tuple[str, Component], ...] = (
    (r"pooler", "pooler"),
    (r"indexer|\bindex_", "index"),
    (r"(^|[._])hc_|_hc\.|hyper_conn", "residual streams"),
    (r"per_layer_(?!\w*norm)", "embedding"),
    (r"[nN]orm|(^|\.)ln_\w+\.", "norms"),
    (
        r"embed_tokens|wte|wpe|embeddings?(\.|$)|embed_(in|positions)|^(model\.)?embed\.|^shared\.",
        "embedding",
    ),
    (r"lm_head|embed_out|(^|\.)(output|head|score|classifier)\.(weight|bias)$", "output head"),
    (r"shared_experts?_gate|router|e_score|tid2eid|(^|\.)(wg|gate)\.\w+$", "router"),
    (r"shared_(experts?|mlp)|shared_head", "shared experts"),
    (r"experts", "routed experts"),
    (r"mixer\.(up|down|gate)_proj", "dense FFN"),
    (r"attn|attention|mixer|mamba|ssm|conv|time_mix|temporal|rec\b|recurrent", "attention"),
)
_VECTOR = re.compile(r"bias$|conv|norm|A_log|a_log|\bD$|tid2eid|sinks?$|lambda|scalar")
#: Ends of the names of layers that read what another made in their part, not what came into it.
_LATER = re.compile(r"(^|[._])(o|out|down|c|dense)_proj|(wo|w2|fc2|fc_out|dense|dense_4h_to_h)(\.|$)")


def component_of(name: str) -> Component:
    """Return the component that a tensor's name speaks of.

    Examples
    --------
    >>> [component_of(f"model.layers.0.{end}") for end in ("self_attn.q_proj.weight", "mlp.gate.weight")]
    ['attention', 'router']
    """
    return next((part for words, part in _COMPONENTS if re.search(words, name)), "dense FFN")


def tower_of(name: str) -> str:
    """Return how the name of a tower's tensor begins; "" for tensors of no tower.

    Examples
    --------
    >>> tower_of("model.vision_tower.encoder.0.weight"), tower_of("model.layers.0.mlp.up_proj.weight")
    ('model.vision_tower', '')
    """
    found = _TOWERS.search(name)
    return name[: found.end(2)] if found else ""


def grouped(
    tensors: Iterable[Given], layers: int | None = None, *, modules: bool = False
) -> tuple[Tensors, ...]:
    """Group tensors that differ in the numbers of their names alone.

    Towers are other parts, and so are modules that predict further tokens, by their names or as layers
    beyond `layers`, unless `modules` are asked for. Where nothing is left, as of a model of vision alone,
    all is counted.
    """
    groups: dict[tuple[str, tuple[int, ...], bool, bool], list[Given]] = {}
    for one in tensors:
        number = _NUMBER.search(one.name)
        beyond = layers is not None and number is not None and int(number[0]) >= layers
        apart = bool(tower_of(one.name)) or (not modules and bool(beyond or _MODULES.search(one.name)))
        key = _NUMBER.sub("*", one.name), one.shape, one.parameter, apart
        groups.setdefault(key, []).append(one)
    whole = all(apart for *_, apart in groups)
    return tuple(
        _row(name, shape, parameter, apart and not whole, of)
        for (name, shape, parameter, apart), of in groups.items()
    )


def _row(name: str, shape: tuple[int, ...], parameter: bool, apart: bool, of: list[Given]) -> Tensors:
    component = "other parts" if apart else component_of(name)
    experts = 1
    if component == "routed experts":
        within = len({_NUMBER.findall(one.name)[0] for one in of}) if name.count("*") > 1 else len(of)
        experts = max(1, len(of) // within) * (shape[0] if len(shape) == 3 else 1)
    return Tensors(
        of[0].name if len(of) == 1 else name,
        shape,
        component,
        len(of),
        len(of) if experts == 1 else max(1, len(of) * (shape[0] if len(shape) == 3 else 1) // experts),
        experts,
        experts,
        sum(one.elements for one in of),
        sum(one.scales for one in of),
        parameter,
    )


def gemms(rows: Iterable[Tensors]) -> Iterator[Gemm]:
    """Yield the linear layers among tensors; head, router and what mixes streams keep their precision."""
    for row in rows:
        if row.matrix is None:
            continue
        n, k = row.matrix
        parent = row.name.removesuffix(".weight").rpartition(".")[0]
        later = _LATER.search(row.name.removeprefix(parent))
        yield Gemm(
            *(row.name, row.component, n, k, row.name if later else f"input of {parent}"),
            layers=row.layers,
            experts=row.experts,
            per_token=row.per_token,
            quantized=row.component not in ("output head", "router", "residual streams"),
            dispatched=bool(later) and row.component == "routed experts",
        )


def vectors(rows: Iterable[Tensors]) -> Iterator[Vector]:
    """Yield the parameters that no linear layer multiplies, but for those of parts that are not counted."""
    for row in rows:
        if row.matrix is None and row.component != "other parts" and row.parameters:
            yield Vector(row.name, row.component, row.parameters, fp32="e_score" in row.name)
