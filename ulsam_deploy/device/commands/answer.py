"""What a command answers: one typed document, the same for people, and an exit code.

A command returns it; :mod:`ulsam_deploy.device.commands.console` alone puts it on stdout. Standard library only;
device-safe.
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
    """A frozen dataclass that ``--json`` prints; ``schema`` says which, as ``ulsam-deploy.NAME/VERSION``."""

    @property
    def schema(self) -> str:
        """Its id."""


def schema_field(name: str, version: int) -> str:
    """The last field of a document, which holds its id and takes no other.

    Args:
        name: Of the document.
        version: One more whenever its form changes, or that of anything it holds.

    Returns:
        What stands behind ``schema: str =`` in the class.
    """
    identifier = f"ulsam-deploy.{name}/{version}"
    return field(default=identifier, metadata={"pattern": re.escape(identifier), "words": identifier})


@dataclass(frozen=True)
class ErrorDocument(Failure):
    """Any command that stopped: what was found, what was expected instead, and what to do; both may be empty."""

    schema: str = schema_field("error", 2)


@dataclass(frozen=True)
class Table:
    """Rows under headings, as many cells in each."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Aside:
    """What stderr is told, whatever stdout gets: the lines of ``text``, and what they are ``about`` in front."""

    text: str
    about: str = ""


Part = str | Table | Aside


@dataclass(frozen=True)
class Answer:
    """What a command ended with.

    Attributes:
        document: What ``--json`` prints.
        text: What people read instead, one line or one table each; a line end in a name ends no line.
        code: The exit code.
    """

    document: Document
    text: Sequence[Part]
    code: Exit = Exit.OK


def path_text(path: object) -> str:
    """A path as a document can hold it: bytes that are no UTF-8 are escaped."""
    return str(path).encode(errors="backslashreplace").decode()
