"""Reads the words of the command line: what is wrong with one is fused, and says which word was meant.

Whoever mistypes a word wants a line about that word, not every word that there is; ``--help`` has those. A parser keeps
a list of its words as they are declared: ``--config``, and checks of combinations go by that list.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn, TypedDict

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.spelling import other_number, unknown

if TYPE_CHECKING:
    from typing import Unpack

__all__ = ["EXIT_CODES", "DeclaredOption", "Group", "Parser", "Typed", "in_either_number"]

EXIT_CODES = """exit codes: 0 every check held, 1 a check failed, 2 wrong usage, 3 export failed,
4 backend, device or evidence level not available here, 5 inconclusive, 6 refused (integrity or trust),
70 a defect of this program"""
#: Options, in the singular, that people write in the plural just as well.
_EITHER_NUMBER = frozenset(
    {
        *("allow-global", "class", "cpu", "device", "host", "input", "keep", "limit", "precision", "probe", "round"),
        *("subspace", "target", "thread", "worker"),
    }
)
_NUMBER = re.compile(r"-\.?\d")

#: What was typed for one word: its text, its texts where it takes several, ``True`` for an option without a value.
Typed = str | list[str] | Literal[True]


class Spec(TypedDict, total=False):
    """What a word is declared with, as argparse takes it."""

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
    """One thing that can be typed behind a command, as its parser has it; ``several``: it takes more than one value."""

    action: argparse.Action
    several: bool

    @property
    def dest(self) -> str:
        """Its name among what was read."""
        return self.action.dest

    @property
    def option(self) -> str:
        """The longest of an option's names; ``""`` for what goes by its place."""
        return max(self.action.option_strings, key=len, default="")

    @property
    def shown(self) -> str:
        """What the help calls it."""
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
    """Where words are declared: a parser, a heading of its help, or words of which one can be typed."""

    def __init__(self, add: Callable[..., argparse.Action], words: list[DeclaredOption]) -> None:
        self._add, self._declared = add, words

    def add(self, *names: str, **spec: Unpack[Spec]) -> None:
        """Declare one word.

        Args:
            names: Of an option, with their dashes; or the one of what goes by its place.
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
        declared: Every word, in the order of its declaration.
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
        """A heading of the help, to declare words below."""
        return Group(self.add_argument_group(title).add_argument, self.declared)

    def one_of(self, *, required: bool = False) -> Group:
        """Words of which one can be typed; ``required``: and has to be."""
        return Group(self.add_mutually_exclusive_group(required=required).add_argument, self.declared)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse does, but nothing is left over.

        Args:
            args: The words, without the program's name.
            namespace: Where to put what they say.

        Returns:
            What they say, and an empty list.

        Raises:
            UsageError: For the first word that is wrong, an unknown option before all others.
        """
        try:
            found, surplus = super().parse_known_args(self.spelled(args or ()), namespace)
        except argparse.ArgumentError as error:
            raise self._refused(error) from error
        if surplus:
            self.error(f"'{surplus[0]}' is one word too many")
        return found, surplus

    def typed(self, words: Sequence[str]) -> dict[str, Typed]:
        """What was typed for each word, by its ``dest``; nothing of what was not typed, and nothing is converted.

        Args:
            words: What was typed behind the command.

        Returns:
            The texts, in the order of declaration.

        Raises:
            UsageError: For an option that there is none of, or that lacks its value.
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
        """Raise ``message``, with where to read more."""
        raise UsageError(message, todo=f"{self.prog} --help")

    def spelled(self, words: Iterable[str]) -> list[str]:
        """The words with every option as its parser knows it.

        Args:
            words: What was typed after the parser's name.

        Returns:
            As many words.

        Raises:
            UsageError: For an option, or a command, that there is none of.
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
            todo = "put it behind the command: ulsam-deploy COMMAND"
        raise unknown(f"there is no option '{name}'", name, options, expected="", todo=todo)

    def _refused(self, error: argparse.ArgumentError) -> UsageError:
        """``error`` as it was raised by whoever read the option's value, or as argparse puts it."""
        refusal = error.__context__.__cause__ if error.__context__ else None
        if isinstance(refusal, UsageError):
            return UsageError(f"{error.argument_name}: {refusal.found}", expected=refusal.expected, todo=refusal.todo)
        return UsageError(str(error), todo=f"{self.prog} --help")


def in_either_number(name: str, known: Collection[str]) -> str:
    """The option that ``name`` is.

    Args:
        name: An option without its dashes, in the singular or the plural.
        known: The options there are, without their dashes.

    Returns:
        One of ``known``; ``""`` where it is none of them.
    """
    other = other_number(name, known)
    return name if name in known else other if not _EITHER_NUMBER.isdisjoint({name, other}) else ""
