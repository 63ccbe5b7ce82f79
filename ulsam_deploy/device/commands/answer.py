"""The answer of a command: one typed document, the same as text for people, and an exit code.

A command returns it; only :mod:`ulsam_deploy.device.commands.console` prints it. Standard library only; device-safe.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ulsam_deploy.device.elsewhere.failure import Failure
from ulsam_deploy.device.errors import Exit

__all__ = ["Answer", "Aside", "Document", "ErrorDocument", "Part", "Table", "path_text", "schema_field"]


class Document(Protocol):
    """A frozen dataclass that ``--json`` prints; ``schema`` identifies it, as ``ulsam-deploy.NAME/VERSION``."""

    @property
    def schema(self) -> str:
        """The id of its schema."""


def schema_field(name: str, version: int) -> str:
    """The last field of a document, which contains its id and accepts no other.

    Args:
        name: The name of the document.
        version: Increased whenever the form of the document changes, or that of anything it contains.

    Returns:
        The value of ``schema: str =`` in the class.
    """
    identifier = f"ulsam-deploy.{name}/{version}"
    return field(default=identifier, metadata={"pattern": re.escape(identifier), "words": identifier})


@dataclass(frozen=True)
class ErrorDocument(Failure):
    """The error of any command: what was found, what was expected instead, and what to do; the latter may be empty."""

    schema: str = schema_field("error", 2)


@dataclass(frozen=True)
class Table:
    """Headings, and rows with one cell for each."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Aside:
    """A message for stderr, in every mode: the lines of ``text`` with the prefix ``about``."""

    text: str
    about: str = ""


Part = str | Table | Aside


@dataclass(frozen=True)
class Answer:
    """The result of a command.

    Attributes:
        document: Printed by ``--json``.
        text: Printed otherwise, one line or one table each; a line break in a name is escaped.
        code: The exit code.
    """

    document: Document
    text: Sequence[Part]
    code: Exit = Exit.OK


def path_text(path: object) -> str:
    """A path as text for a document: bytes that are not UTF-8 are escaped."""
    return str(path).encode(errors="backslashreplace").decode()
