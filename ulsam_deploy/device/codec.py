"""Strict JSON for frozen dataclasses: what a class doesn't declare is refused, and every error names the JSON path.

Standard library only; device-safe. One small encoder and decoder serve all documents, so that none needs its own code.
Every key is required (a default would let a truncated document pass) and unknown keys are errors. A field may restrict
its values with ``field(metadata=...)``: text by ``pattern`` (a regular expression), numbers by ``minimum`` and
``maximum``, and the number of items of a list or an object by ``longest``. In a union (``int | str | None``), the
member that matches the value's JSON type is used. A path is stored as the bytes of its name, one character each, so
that any name survives. A class enforces further conditions by raising :class:`ValueError` from its constructor.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import os
import re
import types
import typing
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path, PurePath
from typing import Any, TypeVar

from ulsam_deploy.device.errors import ExportError, RefusedError, UlsamError
from ulsam_deploy.device.spelling import nearest

__all__ = ["decode", "dumps", "encode", "loads", "schema"]

T = TypeVar("T")

#: Nesting that no valid document reaches; a deeper one would only exhaust the reader's stack.
MAX_DEPTH = 64
#: More members than any valid list or object has; more would only cost the reader time.
MAX_ITEMS = 10_000
#: 64-bit seeds and byte counts fit; longer integers would only cost the reader time.
MAX_INTEGER = 2**64

#: Type hints by class, cached because evaluating annotations takes most of the time of decoding.
_HINTS: dict[type[Any], dict[str, Any]] = {}

_SCALARS = {str: "text", Path: "a path", int: "a whole number", float: "a number", bool: "true or false"}
_SCHEMA_TYPES = {str: "string", Path: "string", int: "integer", float: "number", bool: "boolean"}


def loads(data: bytes, document: str, error: type[UlsamError] = RefusedError) -> Any:
    """Parse UTF-8 JSON, refusing what JSON readers disagree about: repeated keys, NaN, infinities, lone surrogates.

    Raises ``error`` with a message that starts with ``document``, the name of what is being read.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        seen = dict(items)
        if len(seen) != len(items):
            repeated = next(key for key, _ in items if sum(key == other for other, _ in items) > 1)
            raise ValueError(f"the key {repeated!r} appears twice in one object")
        return seen

    def constant(word: str) -> Any:
        raise ValueError(f"{word} isn't JSON")

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except RecursionError as problem:
        raise error(f"{document} is nested too deeply", expected=f"at most {MAX_DEPTH} levels") from problem
    except ValueError as problem:  # JSONDecodeError and UnicodeDecodeError are both ValueErrors
        raise error(f"{document} isn't valid JSON: {problem}", todo="fetch or make the file again") from problem
    _plain(value, "$", document, error)
    return value


def dumps(value: Any) -> str:
    """Deterministic JSON text of an encoded ``value``: sorted keys, two-space indent, ASCII, final newline."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"


def encode(value: Any, document: str) -> Any:
    """The JSON form of a dataclass instance: enums by label, tuples as lists.

    Raises :class:`ExportError` with the JSON path of a value that JSON can't represent, so that a stray numpy scalar
    from a plug-in is detected when the document is written, not when it is read.
    """
    plain = _to_plain(value)
    _plain(plain, "$", document, ExportError)
    return plain


def decode(cls: type[T], value: Any, document: str, error: type[UlsamError] = RefusedError) -> T:
    """Decode the parsed JSON ``value`` into a ``cls``; raises ``error`` with the first JSON path that doesn't fit."""
    result = _Decoder(document, error).read(cls, value, "$", {})
    return typing.cast("T", result)


def schema(cls: type[Any], identifier: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what :func:`decode` accepts for ``cls``."""
    definitions: dict[str, Any] = {}
    reference = _schema_of(cls, {}, definitions)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": identifier}
    return {**head, **reference, "$defs": definitions}


def _hints(cls: type[Any]) -> dict[str, Any]:
    if cls not in _HINTS:
        _HINTS[cls] = typing.get_type_hints(cls)
    return _HINTS[cls]


class _Decoder:
    """Walks a type and a JSON value side by side."""

    def __init__(self, document: str, error: type[UlsamError]) -> None:
        self.document, self.error = document, error

    def fail(self, where: str, found: str, expected: str = "", todo: str = "") -> typing.NoReturn:
        raise self.error(f"{self.document}: at {where}: {found}", expected=expected, todo=todo)

    def read(self, kind: Any, value: Any, where: str, rules: Mapping[str, Any]) -> Any:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if kind is Any:
            return value
        if origin in (typing.Union, types.UnionType):
            return self.one_of(arguments, value, where, rules)
        if origin is tuple:
            items = self.expect(list, "a list", value, where)
            inner = self.within(items, where, rules)
            return tuple(self.read(arguments[0], item, f"{where}[{i}]", inner) for i, item in enumerate(items))
        if origin in (Mapping, dict):
            members = self.expect(dict, "an object", value, where)
            inner = self.within(members, where, rules)
            return {key: self.read(arguments[1], item, _join(where, key), inner) for key, item in members.items()}
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return self.member(kind, value, where)
        if dataclasses.is_dataclass(kind):
            return self.instance(typing.cast("type[Any]", kind), value, where)
        return self.scalar(kind, value, where, rules)

    def one_of(self, kinds: Sequence[Any], value: Any, where: str, rules: Mapping[str, Any]) -> Any:
        if value is None and type(None) in kinds:
            return None
        others = [kind for kind in kinds if kind is not type(None)]
        fitting = [kind for kind in others if _takes(kind, value)]
        if not fitting and len(others) > 1:
            self.fail(where, f"{_show(value)} has the wrong type", " or ".join(map(_words, others)))
        return self.read((fitting or others)[0], value, where, rules)

    def within(self, items: Sized, where: str, rules: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check the number of ``items``; returns the rules for each of them."""
        if len(items) > rules.get("longest", len(items)):
            self.fail(where, f"{len(items)} items are too many", f"at most {rules['longest']}")
        return {name: rule for name, rule in rules.items() if name != "longest"}

    def expect(self, kind: type[T], words: str, value: Any, where: str) -> T:
        if not isinstance(value, kind):
            self.fail(where, f"{_show(value)} has the wrong type", expected=words)
        return value

    def instance(self, cls: type[Any], value: Any, where: str) -> Any:
        given = self.expect(dict, f"an object ({cls.__name__})", value, where)
        hints = _hints(cls)
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for key in given:
            if key not in fields:
                near = nearest(key, fields, cutoff=0.0)
                self.fail(where, f"unknown key {_show(key)}", f"{', '.join(fields)} (nearest: '{near}')")
        missing = [name for name in fields if name not in given]
        if missing:
            self.fail(where, f"the key '{missing[0]}' is missing", ", ".join(fields))
        values = {
            name: self.read(hints[name], given[name], _join(where, name), field.metadata)
            for name, field in fields.items()
        }
        try:
            return cls(**values)
        except ValueError as problem:
            self.fail(where, str(problem))

    def member(self, kind: type[enum.Enum], value: Any, where: str) -> enum.Enum:
        for member in kind:
            if _label(member) == value:
                return member
        return self.fail(where, f"{_show(value)} isn't a known word", ", ".join(_label(m) for m in kind))

    def scalar(self, kind: type[Any], value: Any, where: str, rules: Mapping[str, Any]) -> Any:
        # bool is a subclass of int and must not pass as one; 1 must pass as a float, because JSON may write 1.0 as 1.
        if type(value) not in _accepted(kind):
            self.fail(where, f"{_show(value)} has the wrong type", _SCALARS[kind])
        if kind is Path:
            return self.path(value, where)
        if "pattern" in rules and not re.fullmatch(rules["pattern"], value):
            self.fail(where, f"{_show(value)} isn't allowed here", rules.get("words", rules["pattern"]))
        if kind is float and not math.isfinite(value):  # TOML has these, JSON has not
            self.fail(where, f"{value} isn't a finite number", "a number")
        if "minimum" in rules and value < rules["minimum"]:
            self.fail(where, f"{value} is too small", f"at least {rules['minimum']}")
        if "maximum" in rules and value > rules["maximum"]:
            self.fail(where, f"{value} is too large", f"at most {rules['maximum']}")
        return kind(value)

    def path(self, value: str, where: str) -> Path:
        try:
            return Path(os.fsdecode(value.encode("latin-1")))
        except ValueError:
            return self.fail(where, f"{_show(value)} isn't a path", "a character for each byte of its name")


def _accepted(kind: Any) -> tuple[Any, ...]:
    """The Python types that parsed JSON values of ``kind`` may have."""
    return (int, float) if kind is float else (str,) if kind is Path else (kind,)


def _takes(kind: Any, value: Any) -> bool:
    """Whether ``kind``, a member of a union, matches the JSON type of ``value``."""
    origin = typing.get_origin(kind)
    if origin is tuple:
        return isinstance(value, list)
    if origin in (Mapping, dict) or dataclasses.is_dataclass(kind):
        return isinstance(value, dict)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return any(_label(member) == value for member in kind)
    return type(value) in _accepted(kind)


def _words(kind: Any) -> str:
    """The name of a union's member in an error message."""
    origin = typing.get_origin(kind)
    if origin is tuple:
        return "a list"
    return _SCALARS.get(kind, "an object")


def _plain(value: Any, where: str, document: str, error: type[UlsamError], depth: int = 0) -> None:
    """Refuse what isn't portable JSON, and more nesting or items than a valid document has.

    Not portable are other types, non-finite numbers, huge integers and lone surrogates.
    """
    problem = f"more than {MAX_DEPTH} levels deep" if depth > MAX_DEPTH else _scalar_problem(value)
    if type(value) in (dict, list) and len(value) > MAX_ITEMS:
        problem = f"{len(value)} items are more than {MAX_ITEMS}"
    if problem:
        raise error(f"{document}: at {where}: {problem}")
    if type(value) is dict:
        for key, item in value.items():
            if type(key) is not str or _scalar_problem(key):
                raise error(f"{document}: at {where}: the key {_show(key)} isn't text")
            _plain(item, _join(where, key), document, error, depth + 1)
    elif type(value) is list:
        for index, item in enumerate(value):
            _plain(item, f"{where}[{index}]", document, error, depth + 1)


def _scalar_problem(value: Any) -> str:
    """Why a value that is not a container can't be in the document; empty if it can."""
    kind = type(value)
    if kind is float and not math.isfinite(value):
        return f"{value} isn't a finite number, which is all that JSON can hold"
    if kind is int and abs(value) >= MAX_INTEGER:
        return "a whole number of more than 64 bits"
    if kind is str and any("\ud800" <= letter <= "\udfff" for letter in value):
        return f"{_show(value)} isn't valid Unicode"
    if value is not None and kind not in (dict, list, str, int, float, bool):
        return f"{_show(value)} is a {kind.__name__}, which JSON can't hold"
    return ""


def _to_plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return _label(value)
    if isinstance(value, PurePath):
        return os.fsencode(value).decode("latin-1")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_plain(item) for item in value]
    return value


def _schema_of(kind: Any, rules: Mapping[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return {}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema_of(argument, rules, definitions) for argument in arguments]}
    if kind is type(None):
        return {"type": "null"}
    longest, inner = rules.get("longest"), {name: rule for name, rule in rules.items() if name != "longest"}
    if origin is tuple:
        bound = {} if longest is None else {"maxItems": longest}
        return {"type": "array", "items": _schema_of(arguments[0], inner, definitions), **bound}
    if origin in (Mapping, dict):
        bound = {} if longest is None else {"maxProperties": longest}
        return {"type": "object", "additionalProperties": _schema_of(arguments[1], inner, definitions), **bound}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [_label(member) for member in kind]}
    if dataclasses.is_dataclass(kind):
        return _schema_reference(typing.cast("type[Any]", kind), definitions)
    narrowed = {name: rules[name] for name in ("minimum", "maximum") if name in rules}
    if "pattern" in rules:
        narrowed = {"pattern": f"^(?:{rules['pattern']})$"}
    return {"type": _SCHEMA_TYPES[kind], **narrowed}


def _schema_reference(cls: type[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    if cls.__name__ not in definitions:
        definitions[cls.__name__] = {}  # a class may hold others of its kind
        hints = _hints(cls)
        properties = {f.name: _schema_of(hints[f.name], f.metadata, definitions) for f in dataclasses.fields(cls)}
        definitions[cls.__name__] = {
            "type": "object",
            "description": (cls.__doc__ or "").strip().split("\n")[0],
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{cls.__name__}"}


def _label(member: enum.Enum) -> str:
    return str(getattr(member, "label", member.value))


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if key.isidentifier() else f"{where}[{_show(key)}]"


def _show(value: Any) -> str:
    """``value`` as short printable text: a hostile document must not control the reader's terminal."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
