"""Analyses a pickle without running it: its globals, and how deeply it is nested.

Standard library only. The pickle machine is simulated without values; only strings are kept, so that a global whose
name is assembled on the stack (``STACK_GLOBAL``) is found as well.
"""

from __future__ import annotations

import _compat_pickle
import io
import pickletools
import warnings
from dataclasses import dataclass
from typing import Any

#: A state_dict nests about 6 deep. Hashing a tuple nested some 100,000 deep overflows the C stack of CPython.
MAX_DEPTH = 200
#: A tensor takes about 60 instructions (its numbers are stored outside the pickle); an optimizer triples that.
MAX_INSTRUCTIONS = 1_000_000

#: The id of a storage is a tuple of five or six parts; longer ones are not kept.
_PARTS = 8

_TEXTS = ([pickletools.pyunicode], [pickletools.pybytes_or_str])
_MARK = object()
_FILLS = frozenset({"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"})


@dataclass
class _Value:
    """One item on the pickle machine's stack: its nesting depth and, for a literal, its value."""

    depth: int = 0
    literal: Any = None


def _modern(module: str, name: str) -> str:
    """``module.name`` with Python 2's names translated, as every unpickler does for protocols below 3."""
    module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
    return f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}"


class _Machine:
    """The pickle machine without its values."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, _Value] = {}
        self.globals: set[str] = set()
        self.persistent: list[tuple[Any, ...]] = []
        self.strings: list[str] = []
        self.result: Any = None

    def step(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        name = opcode.name
        if name == "MARK":
            self.stack.append(_MARK)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "DUP":
            self.stack.append(self.stack[-1])
        else:
            self._apply(opcode, argument)

    def _apply(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        used = self._take(opcode)
        if opcode.name in ("GLOBAL", "INST"):
            self.globals.add(_modern(*argument.split(" ", 1)))
        elif opcode.name == "STACK_GLOBAL":
            self.globals.add(_modern(*(str(value.literal) for value in used)))
        elif opcode.name in ("EXT1", "EXT2", "EXT4"):
            self.globals.add(f"copyreg extension {argument}")
        elif opcode.name == "BINPERSID":
            self.persistent.append(used[0].literal if isinstance(used[0].literal, tuple) else ())
        if opcode.stack_after in _TEXTS and isinstance(argument, str):
            self.strings.append(argument)
        if opcode.name.startswith("TUPLE"):
            argument = tuple(value.literal for value in used) if len(used) <= _PARTS else ()
        fills = opcode.name in _FILLS  # a container filled piece by piece does not get deeper with each piece
        depth = max([used[0].depth if fills else 0, *(1 + value.depth for value in used[fills:])])
        if depth > MAX_DEPTH:
            raise ValueError(f"its pickle nests more than {MAX_DEPTH} deep")
        self.stack.extend(_Value(depth, argument) for _ in opcode.stack_after)
        if opcode.name == "STOP":
            self.result = used[0].literal

    def _take(self, opcode: pickletools.OpcodeInfo) -> list[_Value]:
        """Pop what ``opcode`` consumes; back to the last mark if it consumes a marked slice."""
        used: list[_Value] = []
        wanted = list(opcode.stack_before)
        if pickletools.markobject in wanted:
            while (value := self.stack.pop()) is not _MARK:
                used.append(value)
            wanted = wanted[: wanted.index(pickletools.markobject)]
        for _ in wanted:
            value = self.stack.pop()
            if value is not _MARK:
                used.append(value)
        return used[::-1]


@dataclass(frozen=True)
class Scan:
    """What one pickle would import (``module.name``), and its value if that is a plain number or string.

    ``persistent`` are the ids of what is stored outside the pickle, ``strings`` all texts in it.
    """

    globals: frozenset[str]
    value: Any
    persistent: tuple[tuple[Any, ...], ...] = ()
    strings: tuple[str, ...] = ()


def scan(stream: io.BytesIO) -> Scan:
    """Simulate the pickle at the position of ``stream`` up to its end, without running anything.

    Raises :class:`ValueError`, with the reason, if it is not a complete, well-formed pickle, has more than
    :data:`MAX_INSTRUCTIONS`, or is nested more deeply than :data:`MAX_DEPTH`.
    """
    machine = _Machine()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # Python's warning about a name with an unknown escape
            for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
                if count > MAX_INSTRUCTIONS:
                    raise ValueError(f"its pickle has more than {MAX_INSTRUCTIONS} instructions")
                machine.step(opcode, argument)
    except DeprecationWarning as error:
        raise ValueError(f"a name in its pickle cannot be read: {error}") from error
    except (IndexError, KeyError, AttributeError, TypeError) as error:
        # a pop from an empty stack, an unknown memo entry, a mark where STACK_GLOBAL takes a name
        raise ValueError("its instructions do not fit together") from error
    return Scan(frozenset(machine.globals), machine.result, tuple(machine.persistent), tuple(machine.strings))
