"""A Hugging Face config.json: reading the file, opening wrappers, looking up what rows of families name."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from fp8sim._support import checks
from fp8sim._support.files import read_bytes
from fp8sim._support.text import shown
from fp8sim.models.attention import GroupedQuery, Latent, Part
from fp8sim.models.description import Mixture

__all__ = ["Config", "NotDescribed", "PartSpec", "Spec", "read_config"]

#: Where a field stands: the first of these alternatives, parted by ``|``, that the file has. ``key`` or
#: ``section.key``; ``key/key`` and ``key*key``, their quotient and product; ``key?a:b``, a if the key is
#: true, else b; ``=value``, a constant. Or a part of its own.
Spec: TypeAlias = "str | PartSpec"

#: A part and where its fields stand.
PartSpec: TypeAlias = "tuple[type[Part], Mapping[str, Spec]]"

_WRAPPERS = ("text_config", "llm_config", "language_config", "thinker_config")
_CONSTANTS = {"none": None, "true": True, "false": False}
_MOST_LAYERS = 10_000  # each is looked at on its own


class NotDescribed(ValueError):
    """A configuration that may well be right, of what no row describes."""


class Config:
    """A configuration under a name: looks up keys, checks what they hold, and words the errors."""

    def __init__(self, data: Mapping[str, Any], name: str, source: str) -> None:
        self.name, self.source = name, source
        self.found: list[str] = []
        self.keys: dict[str, str] = {}  #: field -> the key that gave it
        self.outer = data
        self.data = self._opened(data)

    def _opened(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the configuration of the language model, with what its wrappers say of the whole."""
        for _ in _WRAPPERS:
            key = next((key for key in _WRAPPERS if isinstance(data.get(key), Mapping)), None)
            if key is None:
                return data
            self.found.append(f"opened {key}")
            outside = ("architectures", "quantization_config", "tie_word_embeddings")
            inherited = {name: data[name] for name in outside if data.get(name) is not None}
            sections = {name for name in data if str(name).endswith("_config")} - {key, outside[1]}
            left = sorted(name for name in sections if isinstance(data[name], Mapping))
            self.found += [f"left out: {name}, not counted" for name in left]
            data = {"model_type": data.get("model_type"), **data[key], **inherited}
        return data

    def error(self, what: str) -> ValueError:
        """Return an error that names the configuration."""
        return ValueError(f"config of {self.name}: {what}")

    def not_described(self, what: str) -> NotDescribed:
        """Return an error that names a configuration for which no row has words."""
        return NotDescribed(*self.error(what).args)

    def get(self, key: str) -> Any:
        """Return what stands under a key, or under one of a section; None where nothing does."""
        value: Any = self.data
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def size(self, key: str, *, least: int = 1, most: int = checks.LARGEST) -> int:
        """Return a whole number of at least `least`."""
        value = self.get(key)
        if value is None:
            raise self.error(f"{key} is missing")
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(f"{key} must be a whole number, got {shown(value)}")
        if not least <= value <= most:
            bound = f"at least {least}" if value < least else f"at most {most}"
            raise self.error(f"{key} must be {bound}, got {shown(value)}")
        return value

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self.get(key)
        if not isinstance(value, bool):
            raise self.error(f"{key} must be true or false, got {shown(value)}")
        return value

    def listed(self, key: str, kind: type = str) -> list[Any] | None:
        """Return a list of one kind of entries, or None where the key is absent or null."""
        value = self.get(key)
        if value is None:
            return None
        whole = isinstance(value, list) and all(type(entry) is kind for entry in value)
        if not whole:
            words = {str: "names", int: "whole numbers"}[kind]
            raise self.error(f"{key} must be a list of {words}, got {shown(value)}")
        return list(value)

    @property
    def layers(self) -> int:
        """Number of layers."""
        if self.get("num_hidden_layers") is None:
            if (words := self.listed("layers_block_type")) is not None:
                return len(words)
            if self.get("n_layer") is not None:
                return self.size("n_layer", most=_MOST_LAYERS)
        return self.size("num_hidden_layers", most=_MOST_LAYERS)

    def each_layer(self, key: str, kind: type = str) -> list[Any] | None:
        """Return a list with an entry a layer; what stands beyond the last layer is of other modules."""
        value, layers = self.listed(key, kind), self.layers
        if value is not None and len(value) < layers:
            raise self.error(f"{key} has {len(value)} entries for {layers} layers")
        return value and value[:layers]

    def value(self, spec: str, *, flag: bool = False, least: int = 1) -> Any:
        """Return what stands in the first place of a `Spec` that the configuration has."""
        for option in spec.split("|"):
            if option.startswith("="):
                word = option[1:]
                return int(word) if word.isdigit() else _CONSTANTS.get(word, word)
            if "?" in option:
                key, _, branches = option.partition("?")
                if self.get(key) is not None:
                    yes, _, no = branches.partition(":")
                    branch = yes if self.flag(key) else no
                    if branch.startswith("=") or self.get(branch) is not None:
                        return self.value(branch, flag=flag, least=least)
            elif "/" in option:
                return self._quotient(*option.split("/"))
            elif "*" in option:
                left, right = option.split("*")
                return self.value(left) * self.value(right)
            elif self.get(option) is not None:
                self._key = option
                return self.flag(option) if flag else self.size(option, least=least)
        raise self.error(f"{spec.partition('|')[0].partition('?')[0]} is missing")

    def _quotient(self, large: str, small: str) -> int:
        whole, part = self.size(large), self.size(small)
        if whole % part:
            raise self.error(f"{large} ({whole}) is not a multiple of {small} ({part})")
        return whole // part

    def values(self, kind: type[Any], fields: Mapping[str, Spec]) -> dict[str, Any]:
        """Return the fields of a part; of each is noted which key gave it."""
        types, none = {field.name: field.type for field in dataclasses.fields(kind)}, kind.NONE
        values: dict[str, Any] = {}
        for field, spec in fields.items():
            if not isinstance(spec, str):
                values[field] = self.part(spec)
                continue
            self._key = ""
            least = int(field not in none or field == "vocab")  # a module may be without, a file not
            values[field] = self.value(spec, flag=types[field] == "bool", least=least)
            if self._key:
                self.keys[field] = self._key
                line = f"{kind.__name__} {field} from {self._key}"
                if line not in self.found:
                    self.found.append(line)
        return values

    def layer_changes(self) -> dict[int, Mapping[str, Any]]:
        """Return what ``per_layer_config`` changes: layer -> keys and values (transformers 5)."""
        changes = self.get("per_layer_config")
        if changes is None:
            return {}
        whole = isinstance(changes, Mapping) and all(
            str(layer).isdecimal() and isinstance(change, Mapping) for layer, change in changes.items()
        )
        if not (
            whole and all(type(v) in (int, bool) for change in changes.values() for v in change.values())
        ):
            raise self.error(f"per_layer_config must hold sizes by layer, got {shown(changes)}")
        return {int(layer): change for layer, change in changes.items()}

    def part(self, spec: PartSpec) -> Any:
        """Return a part of the model."""
        kind, fields = spec
        values = self.values(kind, fields)
        if kind is GroupedQuery:
            self._multiple("heads", "kv_heads", values)
        elif kind is Latent and self.get("num_key_value_heads") not in (None, values["heads"]):
            raise self.error(
                "num_key_value_heads differs from num_attention_heads, which latent attention excludes"
            )
        elif kind is Mixture:
            if values["per_token"] > values["experts"]:
                few, many = (f"{self.keys[one]} ({values[one]})" for one in ("per_token", "experts"))
                raise self.error(f"{few} is larger than {many}")
            if self.get("n_group") is not None:
                values["groups"], self.keys["groups"] = self.size("n_group"), "n_group"
                self._multiple("experts", "groups", values)
                del values["groups"]
        try:
            return kind(**values)
        except (TypeError, ValueError) as error:
            raise self.error(str(error)) from None

    def _multiple(self, large: str, small: str, values: Mapping[str, int]) -> None:
        if values[large] % values[small]:
            whole, part = (f"{self.keys[one]} ({values[one]})" for one in (large, small))
            raise self.error(f"{whole} is not a multiple of {part}")


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a config.json, or that of a folder; what is none is refused with a ValueError.

    Examples
    --------
    >>> read_config("no-such-folder/config.json")
    Traceback (most recent call last):
    ValueError: cannot read no-such-folder/config.json: No such file or directory
    """
    file = Path(path)
    if file.is_dir():
        file = file / "config.json"
    try:
        data = json.loads(read_bytes(file).decode("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"cannot read {file}: No such file or directory") from None
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not text; pass a model's config.json") from None
    except json.JSONDecodeError as error:
        cut = "it ends too early" if error.pos >= len(error.doc.rstrip()) else error.msg
        raise ValueError(f"{file} is not JSON: {cut} (line {error.lineno})") from None
    except RecursionError:
        raise ValueError(f"{file} is not a config.json: it is nested too deeply") from None
    if not isinstance(data, dict):
        raise ValueError(f"{file} holds a JSON {type(data).__name__}; a config.json holds an object")
    return data
