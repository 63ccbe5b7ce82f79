"""Changes a document as its form allows: bytes that chance flips seldom get past a parser of JSON or TOML.

A form that has a JSON schema (all that :mod:`~ulsam_deploy.device.codec` reads) says what may stand at each place:
values of that type at its limits reach the code behind the reader. hypothesis-jsonschema, which could draw them too,
knows drafts up to 7 and is not kept any more; this needs no package.
"""

from __future__ import annotations

import copy
import json
import random
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EVIL = (
    "x\x1b]0;own\x07\n::error title=pwn::owned\n##[error]y\r##vso[task.setvariable variable=x]y\u202e\u2066\u2028|<b>`"
)
TEXTS = (
    "",
    " ",
    EVIL,
    "n" * 3000,
    "../../x",
    "/etc/passwd",
    "-o",
    "\x00",
    "\ud800",
    "NaN",
    "{}",
    "%s",
    "é\U0001f600",
    "CON",
)
WHOLE = (0, 1, -1, 2, 255, 1 << 31, (1 << 53) + 1, 1 << 63, -(1 << 63), 1 << 64, 10**30)
REAL = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-308, 5e-324, 1e308, -1e308, 1e16)
NOT_JSON = (float("nan"), float("inf"), float("-inf"))
STRANGE: tuple[Any, ...] = (None, True, False, *WHOLE, *REAL, *NOT_JSON, *TEXTS, [], {}, [[]], {"a": {}}, [None])
#: A document does not grow beyond this, or a run would be spent on reading.
MOST = 1 << 18

Place = tuple[tuple[Any, ...], "Mapping[str, Any] | None"]


@dataclass(frozen=True)
class Form:
    """A kind of document. ``schema`` is that of the whole, with its ``$defs``, or empty; ``toml`` or else JSON."""

    schema: Mapping[str, Any] = field(default_factory=dict)
    toml: bool = False

    def changed(self, data: bytes, chance: random.Random) -> bytes | None:
        """``data`` with some places changed; ``None`` if it is no such document."""
        try:
            value = tomllib.loads(data.decode()) if self.toml else json.loads(data)
        except (ValueError, RecursionError):
            return None
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            value = self._step(value, chance)
        try:
            text = _toml(value) if self.toml else json.dumps(value)
        except (ValueError, RecursionError):
            return None
        made = text.encode("utf-8", "surrogatepass")
        return made if len(made) <= MOST else None

    def drawn(self, schema: Mapping[str, Any], chance: random.Random, depth: int = 0) -> Any:
        """A value that ``schema`` allows, often at its limits."""
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return chance.choice(schema["enum"])
        if several := schema.get("anyOf", schema.get("oneOf")):
            return self.drawn(chance.choice(several), chance, depth)
        kind = schema.get("type")
        if kind == "object":
            return self._object(schema, chance, depth)
        if kind == "array":
            fixed = schema.get("prefixItems")
            if fixed:
                return [self.drawn(one, chance, depth + 1) for one in fixed]
            count = max(schema.get("minItems", 0), chance.choice((0, 1, 1, 2)) if depth < 8 else 0)
            return [self.drawn(schema.get("items", {}), chance, depth + 1) for _ in range(count)]
        least = schema.get("minimum", schema.get("exclusiveMinimum"))
        numbers: tuple[float, ...] = WHOLE if kind == "integer" else REAL
        if kind in ("integer", "number"):
            return chance.choice([one for one in numbers if least is None or one >= least] or [least])
        return {"string": chance.choice(TEXTS), "boolean": chance.random() < 0.5, "null": None}.get(kind or "")

    def _object(self, schema: Mapping[str, Any], chance: random.Random, depth: int) -> dict[str, Any]:
        required = set(schema.get("required", ()))
        made = {
            name: self.drawn(one, chance, depth + 1)
            for name, one in schema.get("properties", {}).items()
            if name in required or (depth < 6 and chance.random() < 0.5)
        }
        more = schema.get("additionalProperties")
        if isinstance(more, dict) and depth < 8:
            made |= {chance.choice(TEXTS): self.drawn(more, chance, depth + 1) for _ in range(chance.choice((0, 1, 2)))}
        return made

    def _step(self, value: Any, chance: random.Random) -> Any:
        places = list(self._places(value, self.schema or None))
        if not places:
            return chance.choice(STRANGE)
        route, schema = chance.choice(places)
        how = chance.randrange(10)
        if schema is not None and how < 5:
            return _put(value, route, self.drawn(schema, chance, len(route)))
        if how < 7:
            return _put(value, route, copy.deepcopy(chance.choice(STRANGE)))
        if how == 7:
            return _put(value, route, copy.deepcopy(_at(value, chance.choice(places)[0])))
        return _reshaped(value, route, chance)

    def _places(self, value: Any, schema: Mapping[str, Any] | None, route: tuple[Any, ...] = ()) -> Iterator[Place]:
        """Every place inside ``value``, with what its schema says of it; of a list the first items."""
        fits = self._fitting(schema, value) if schema is not None else None
        if route:
            yield route, schema
        if isinstance(value, dict):
            for key, inner in value.items():
                more = fits.get("additionalProperties") if fits else None
                below = fits.get("properties", {}).get(key, more) if fits else None
                yield from self._places(inner, below if isinstance(below, dict) else None, (*route, key))
        elif isinstance(value, list):
            below = fits.get("items") if fits else None
            for number, inner in enumerate(value[:8]):
                yield from self._places(inner, below if isinstance(below, dict) else None, (*route, number))

    def _fitting(self, schema: Mapping[str, Any], value: Any) -> Mapping[str, Any] | None:
        """Of several alternatives the one that ``value`` seems to be."""
        schema = self._resolved(schema)
        several = schema.get("anyOf", schema.get("oneOf"))
        if not several:
            return schema
        found = [self._resolved(one) for one in several]
        keys = set(value) if isinstance(value, dict) else set()
        kind = "object" if isinstance(value, dict) else "array" if isinstance(value, list) else ""
        return max((one for one in found if one.get("type") == kind), default=None,
                   key=lambda one: len(keys & set(one.get("properties", ()))))  # fmt: skip

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in schema:
            schema = self.schema["$defs"][schema["$ref"].rpartition("/")[2]]
        return schema


def _at(value: Any, route: tuple[Any, ...]) -> Any:
    for step in route:
        value = value[step]
    return value


def _put(value: Any, route: tuple[Any, ...], new: Any) -> Any:
    _at(value, route[:-1])[route[-1]] = new
    return value


def _reshaped(value: Any, route: tuple[Any, ...], chance: random.Random) -> Any:
    """``value`` with the place removed, doubled, many times there, or under another name."""
    holder, last = _at(value, route[:-1]), route[-1]
    if isinstance(holder, list):
        if chance.random() < 0.4:
            del holder[last]
        else:
            holder[last:last] = [copy.deepcopy(holder[last]) for _ in range(chance.choice((1, 3, 100)))]
    elif chance.random() < 0.5:
        del holder[last]
    else:
        holder[chance.choice((*TEXTS, *holder))] = copy.deepcopy(holder[last])
    return value


def _toml(value: Any) -> str:
    """``value`` as TOML, whose tables are written inline."""
    if not isinstance(value, dict):
        raise ValueError("a TOML document is a table")
    return "".join(f"{_text(key)} = {_inline(inner)}\n" for key, inner in value.items() if inner is not None)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(key)} = {_inline(one)}" for key, one in value.items() if one is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(one) for one in value if one is not None) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return _text(value) if isinstance(value, str) else repr(value)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
