"""What the configuration beside a checkpoint says of its quantisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fp8sim._support.text import shown
from fp8sim.checkpoints.headers import load_json
from fp8sim.checkpoints.places import Folder

__all__ = ["Config", "read_config"]

_LONGEST = 16_000_000  # bytes of a configuration: none comes near
#: Methods whose codes are spelt in ways that are not read.
_UNREAD = [
    "gptq",
    "awq",
    "bitsandbytes",
    "hqq",
    "aqlm",
    "quip",
    "quip_sharp",
    "eetq",
    "vptq",
    "higgs",
    "spqr",
    "gguf",
    "torchao",
    "auto-round",
    "auto_round",
    "bitnet",
    "fp_quant",
    "sinq",
    "exl2",
    "exl3",
]


@dataclass(frozen=True)
class Config:
    """The part of ``quantization_config`` that decides how codes are read.

    Examples
    --------
    >>> Config("fp8", ((128, 128),)).contradiction("e4m3")
    ''
    """

    method: str = ""  #: ``quant_method``
    blocks: tuple[tuple[int, int], ...] = ()  #: rows and columns that share a scale, where it names some
    kinds: frozenset[tuple[str, int]] = frozenset()  #: kind and bits of weights, as in ("float", 8)
    marked: bool = False  #: whether ComfyUI's ``_quantization_metadata`` stands in a header

    @property
    def unread(self) -> bool:
        """Whether the method is one whose codes are not read."""
        return self.method in _UNREAD

    @property
    def bits(self) -> int:
        """Bits of packed integers; 0 if it names none, or several."""
        found = {bits for kind, bits in self.kinds if kind == "int"}
        return found.pop() if len(found) == 1 else 0

    def contradiction(self, element: str) -> str:
        """Say why elements of this format cannot be what the configuration describes; "" if they can."""
        kind = (
            ("int", int(element[3:]))
            if element.startswith("int")
            else ("float", {"e2m1": 4, "e2m3": 6}.get(element, 8))
        )
        if not self.kinds or kind in self.kinds:
            return ""
        described = " and ".join(f"{bits}-bit {kind}" for kind, bits in sorted(self.kinds))
        return f"it is stored as {element}, and its configuration says {described}"


def read_config(folder: Folder) -> Config:
    """Read ``config.json`` and ModelOpt's ``hf_quant_config.json`` in a folder, where they are.

    Raises
    ------
    ValueError
        If one is damaged; the message names it.

    Examples
    --------
    >>> from pathlib import Path
    >>> read_config(Folder(Path(__file__).parent))
    Config(method='', blocks=(), kinds=frozenset(), marked=False)
    """
    for name in ("config.json", "hf_quant_config.json"):
        if folder.holds(name):
            what = folder.label(name)
            found = _block(load_json(_whole(folder, name), what), what)
            if found:
                return _parsed(found, what)
    return Config()


def _whole(folder: Folder, name: str) -> bytes:
    size = folder.size(name)
    if size > _LONGEST:
        raise ValueError(
            f"{folder.label(name)} has {size} bytes, more than any configuration; is it another file?"
        )
    return folder.read(name, 0, size).tobytes()


def _block(config: dict[str, Any], what: str) -> dict[str, Any]:
    """Return the part about quantisation, wherever publishers put it."""
    inner = config.get("text_config")
    for place in (config, inner if isinstance(inner, dict) else {}):
        for key in ("quantization_config", "compression_config", "quantization"):
            found = place.get(key)
            if found is not None and not isinstance(found, dict):
                raise ValueError(f"{what}: {key} must be an object, got {shown(found)}")
            if found:
                return found
    return {}


def _parsed(found: dict[str, Any], what: str) -> Config:
    method = found.get("quant_method") or ("modelopt" if "quant_algo" in found else "")
    if not isinstance(method, str):
        raise ValueError(f"{what}: quant_method must be text, got {shown(method)}")
    groups = found.get("config_groups") or {}
    groups = list(groups.values()) if isinstance(groups, dict) else groups
    if not isinstance(groups, list):
        raise ValueError(f"{what}: config_groups must be groups of layers, got {shown(groups)}")
    blocks, kinds = set(), set()
    if found.get("weight_block_size") is not None:
        blocks.add(_pair(found["weight_block_size"], f"{what}: weight_block_size"))
    for group in groups if method == "compressed-tensors" else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        if not isinstance(weights, dict):
            continue
        kind, bits, size = weights.get("type", "int"), weights.get("num_bits", 8), weights.get("group_size")
        if not isinstance(kind, str) or type(bits) is not int or not 1 <= bits <= 16:
            raise ValueError(f"{what}: weights of config_groups are {shown(bits)} bits of {shown(kind)}")
        kinds.add((kind, bits))
        if weights.get("block_structure") is not None:
            blocks.add(_pair(weights["block_structure"], f"{what}: block_structure"))
        elif type(size) is int and size > 0:
            blocks.add((1, size))
    return Config(method, tuple(sorted(blocks)), frozenset(kinds))


def _pair(value: Any, what: str) -> tuple[int, int]:
    if isinstance(value, str):  # "128x128", as older files of compressed-tensors have it
        value = [int(part) if part.isdecimal() and len(part) < 10 else part for part in value.split("x")]
    if not (
        isinstance(value, list) and len(value) == 2 and all(type(one) is int and one > 0 for one in value)
    ):
        raise ValueError(f"{what} must be two positive whole numbers, got {shown(value)}")
    return value[0], value[1]
