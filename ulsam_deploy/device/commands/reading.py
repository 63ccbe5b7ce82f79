"""Reads the words of the command line: what is wrong with one is raised, and says which word was meant.

Whoever mistypes a word wants a line about that word, not every word that there is; ``--help`` has those.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NoReturn

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.spelling import other_number, unknown

__all__ = ["Parser", "in_either_number"]

#: Options, in the singular, that people write in the plural just as well.
_EITHER_NUMBER = frozenset(
    {
        *("allow-global", "class", "cpu", "device", "host", "input", "keep", "limit", "precision", "probe", "round"),
        *("subspace", "target", "thread", "worker"),
    }
)
_NUMBER = re.compile(r"-\.?\d")


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


class Parser(argparse.ArgumentParser):
    """Raises :class:`UsageError` where argparse prints its usage and exits; ``--targets`` is ``--target`` as well."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(exit_on_error=False, **kwargs)

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
            UsageError: For an option that there is none of.
        """
        left = list(words)
        options = [option for action in self._actions for option in action.option_strings]
        for number, word in enumerate(left):
            if word == "--" or (self._has_commands() and not word.startswith("-")):
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
        if self._has_commands():
            todo = "put it behind the command: ulsam-deploy COMMAND"
        raise unknown(f"there is no option '{name}'", name, options, expected="", todo=todo)

    def _has_commands(self) -> bool:
        return any(isinstance(action, argparse._SubParsersAction) for action in self._actions)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            kind = "/".join(action.option_strings) or str(action.metavar or action.dest).lower()
            raise unknown(f"there is no {kind} '{value}'", str(value), map(str, action.choices))

    def _refused(self, error: argparse.ArgumentError) -> UsageError:
        """``error`` as it was raised by whoever read the option's value, or as argparse puts it."""
        refusal = error.__context__.__cause__ if error.__context__ else None
        if isinstance(refusal, UsageError):
            return UsageError(f"{error.argument_name}: {refusal.found}", expected=refusal.expected, todo=refusal.todo)
        return UsageError(str(error), todo=f"{self.prog} --help")
