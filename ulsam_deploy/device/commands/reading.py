"""Parses the command line: a mistake is raised as an error that names the option that was probably meant.

After a typing mistake, a user needs a line about it, not a list of all options; ``--help`` has that. A parser keeps a
list of its declared options, which ``--config`` and the checks of combinations use.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn, TypedDict

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.spelling import other_number, unknown

if TYPE_CHECKING:
    from typing import IO, Unpack

__all__ = ["EXIT_CODES", "DeclaredOption", "Group", "Parser", "Typed", "in_either_number"]

EXIT_CODES = """exit codes: 0 every check held, 1 a check failed, 2 wrong usage, 3 export failed,
4 backend, device or evidence level not available here, 5 inconclusive, 6 refused (integrity or trust),
70 a defect of this program"""
#: Options, in the singular, that are also accepted in the plural.
_EITHER_NUMBER = frozenset(
    {
        *("allow-global", "class", "cpu", "device", "host", "input", "keep", "limit", "precision", "probe", "round"),
        *("subspace", "target", "thread", "worker"),
    }
)
_NUMBER = re.compile(r"-\.?\d")

#: The typed value of an option: its text, a list of texts if it takes several, ``True`` if it takes no value.
Typed = str | list[str] | Literal[True]


class Spec(TypedDict, total=False):
    """The keyword arguments of a declaration, as in argparse."""

    action: Literal["store_true", "append", "version"]
    nargs: Literal["?", "+"]
    type: Callable[[str], object]
    default: object
    choices: Sequence[str]
    metavar: str
    help: str
    dest: str
    version: str


@dataclass(frozen=True)
class DeclaredOption:
    """One option or positional argument of a command; ``several``: it takes more than one value."""

    action: argparse.Action
    several: bool

    @property
    def dest(self) -> str:
        """Its name in the parsed arguments."""
        return self.action.dest

    @property
    def option(self) -> str:
        """The longest of an option's names; ``""`` for a positional argument."""
        return max(self.action.option_strings, key=len, default="")

    @property
    def shown(self) -> str:
        """Its name in the help."""
        return self.option or str(self.action.metavar or self.dest)

    @property
    def is_flag(self) -> bool:
        """Whether it is an option without a value."""
        return self.action.nargs == 0

    @property
    def is_path(self) -> bool:
        """Whether it names a file or a folder."""
        return self.action.type is Path


class Group:
    """A place to declare options: a parser, a section of its help, or a set of mutually exclusive options."""

    def __init__(self, add: Callable[..., argparse.Action], words: list[DeclaredOption]) -> None:
        self._add, self._declared = add, words

    def add(self, *names: str, **spec: Unpack[Spec]) -> None:
        """Declare one option or positional argument.

        Args:
            names: The names of an option, with their dashes; or the one name of a positional argument.
            spec: As of :meth:`argparse.ArgumentParser.add_argument`.
        """
        if "choices" in spec:
            spec["type"] = _one_of(spec["choices"], "/".join(names) if names[0].startswith("-") else names[0])
        several = spec.get("action") == "append" or spec.get("nargs") == "+"
        self._declared.append(DeclaredOption(self._add(*names, **spec), several))


def _one_of(choices: Sequence[str], kind: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise unknown(f"there is no {kind} '{text}'", text, choices)
        return text

    return read


class Parser(argparse.ArgumentParser):
    """Raises :class:`UsageError` where argparse prints its usage and exits; ``--targets`` is ``--target`` as well.

    Attributes:
        declared: Every option and positional argument, in the order of declaration.
        commands: The parser of each command, by its name.
    """

    def __init__(self, prog: str, description: str) -> None:
        self.declared = list[DeclaredOption]()
        self.commands = dict[str, Parser]()
        super().__init__(
            prog=prog,
            description=description,
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            exit_on_error=False,
            add_help=False,
        )
        self.words = Group(self.add_argument, self.declared)
        self.declared.append(
            DeclaredOption(
                self.add_argument("-h", "--help", action="help", help="show this help message and exit"), False
            )
        )

    def group(self, title: str) -> Group:
        """A section of the help, to declare options in."""
        return Group(self.add_argument_group(title).add_argument, self.declared)

    def one_of(self, *, required: bool = False) -> Group:
        """Mutually exclusive options; ``required``: one of them must be given."""
        return Group(self.add_mutually_exclusive_group(required=required).add_argument, self.declared)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As in argparse, but without unparsed arguments.

        Args:
            args: The arguments, without the program's name.
            namespace: The object to store the values in.

        Returns:
            The parsed arguments, and an empty list.

        Raises:
            UsageError: For the first mistake; an unknown option is reported before all others, but for bytes that are
                no text: neither a manifest nor a report can hold them, and so no file can be called so.
        """
        for word in args or ():
            if any("\ud800" <= one <= "\udfff" for one in word):  # how Python passes them on
                raise UsageError(
                    f"'{word}' is no text in UTF-8", expected="UTF-8, also in names of files", todo="rename the file"
                )
        try:
            found, surplus = super().parse_known_args(self.spelled(args or ()), namespace)
        except argparse.ArgumentError as error:
            raise self._refused(error) from error
        if surplus:
            self.error(f"'{surplus[0]}' is one argument too many")
        return found, surplus

    def typed(self, words: Sequence[str]) -> dict[str, Typed]:
        """The typed text of each option, by its ``dest``; without defaults, and without conversion.

        Args:
            words: The arguments after the command.

        Returns:
            The texts, in the order of declaration.

        Raises:
            UsageError: For an unknown option, or one without its value.
        """
        bare = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
        for word in self.declared:
            if word.is_flag:
                bare.add_argument(*word.action.option_strings, dest=word.dest, action="store_true", default=None)
            elif word.option:
                how = "append" if word.several else "store"
                bare.add_argument(*word.action.option_strings, dest=word.dest, action=how)
        try:
            found, places = bare.parse_known_args(self.spelled(words))
        except argparse.ArgumentError as error:
            raise self._refused(error) from error
        if "--" in places:
            places.remove("--")
        given = vars(found)
        for word in self.declared:
            if not word.option and places:
                given[word.dest], places = (places, []) if word.several else (places[0], places[1:])
        return {word.dest: given[word.dest] for word in self.declared if given.get(word.dest) is not None}

    def error(self, message: str) -> NoReturn:
        """Raise ``message`` as an error, with a pointer to the help."""
        raise UsageError(message, todo=f"{self.prog} --help")

    def spelled(self, words: Iterable[str]) -> list[str]:
        """The arguments with every option in the spelling that its parser knows.

        Args:
            words: The arguments after the parser's name.

        Returns:
            As many arguments.

        Raises:
            UsageError: For an unknown option or command.
        """
        left = list(words)
        options = [option for word in self.declared for option in word.action.option_strings]
        for number, word in enumerate(left):
            if self.commands and not word.startswith("-"):
                if word not in self.commands:
                    raise unknown(f"there is no command '{word}'", word, self.commands)
                break
            if word == "--":
                break
            if word.startswith("-") and word != "-" and " " not in word and not _NUMBER.match(word):
                left[number] = self._option(word, options)
        return left

    def _option(self, word: str, options: Sequence[str]) -> str:
        name, equals, value = word.partition("=")
        if name in options or (not word.startswith("--") and word[:2] in options):
            return word
        other = in_either_number(name.removeprefix("--"), [option.removeprefix("--") for option in options])
        if other and name.startswith("--"):
            return f"--{other}{equals}{value}"
        todo = f"{self.prog} --help"
        if self.commands:
            todo = "put it after the command: ulsam-deploy COMMAND"
        raise unknown(f"there is no option '{name}'", name, options, expected="", todo=todo)

    def _print_message(self, message: str, file: IO[str] | None = None) -> None:  # type: ignore[override]
        """Print the help or the version; argparse itself would hide that it could not be written."""
        (file or sys.stdout).write(message)

    def _refused(self, error: argparse.ArgumentError) -> UsageError:
        """The original error of the function that parsed the option's value, or else argparse's message."""
        refusal = error.__context__.__cause__ if error.__context__ else None
        if isinstance(refusal, UsageError):
            return UsageError(f"{error.argument_name}: {refusal.found}", expected=refusal.expected, todo=refusal.todo)
        return UsageError(str(error), todo=f"{self.prog} --help")


def in_either_number(name: str, known: Collection[str]) -> str:
    """The option that ``name`` means.

    Args:
        name: An option without its dashes, in the singular or the plural.
        known: The known options, without their dashes.

    Returns:
        One of ``known``; ``""`` if it is none of them.
    """
    other = other_number(name, known)
    return name if name in known else other if not _EITHER_NUMBER.isdisjoint({name, other}) else ""
