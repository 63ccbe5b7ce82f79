"""``--config FILE.toml``: the words of a command from a file, and ``--save-config``: the same file written out.

A table a command (``[export]``), a key a word as the help shows it, without its dashes: ``batch = "dynamic"``. What is
positional goes by its name in capitals: ``MODEL = "model.pt"``. The command line wins over the file. Paths are relative
to the file's folder. An unknown key, or table, is an error.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ulsam_deploy.device import toml
from ulsam_deploy.device.bundle.kinds import CONFIG
from ulsam_deploy.device.bundle.output import Output
from ulsam_deploy.device.commands.parser import NAMES
from ulsam_deploy.device.commands.reading import Parser, in_either_number
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.spelling import unknown

#: Words about the file itself, which can't stand in it.
_OWN = frozenset({"help", "config", "save_config", "force"})


def merged(parser: Parser, argv: Sequence[str]) -> list[str]:
    """``argv``, and behind it what the file named by its ``--config`` adds.

    Raises :class:`UsageError` on a file that is missing, no TOML, or says something that the command does not know.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", type=Path)
    path, (name, *words) = finder.parse_known_args(argv)[0].config, argv or ["", ""]
    command = _commands(parser).get(name)
    if path is None or command is None:
        return list(argv)
    words = command.spelled(words)
    actions = _actions(command)
    table = {_known(key, actions, f"{path}: [{name}]"): value for key, value in _table(path, name).items()}
    placed = _positionals_given(command, words)
    given = {key for key, action in actions.items() if action.dest in placed or _is_given(action, words)}
    new = {id(actions[key]): (key, actions[key], value) for key, value in table.items() if key not in given}
    options, positionals = list[str](), list[str]()
    for key, action, value in new.values():
        into = options if action.option_strings else positionals
        into.extend(_words(action, value, f"{path}: [{name}] {key}", path.parent))
    return [name, *words, *options, *(["--", *positionals] if positionals else [])]


def _known(key: str, actions: Mapping[str, argparse.Action], where: str) -> str:
    """``key`` as ``actions`` have it; raises :class:`UsageError`."""
    found = in_either_number(key, actions)
    if not found:
        raise unknown(f"{where} has an unknown key '{key}'", key, sorted(actions), todo="see the command's --help")
    return found


def save(parser: Parser, argv: Sequence[str], path: Path, *, force: bool = False) -> None:
    """Write the words of ``argv`` to ``path``, so that ``--config`` reads them. ``parser`` is used up.

    Raises :class:`UsageError` where the file can't be written, or other words lie there and ``force`` isn't given.
    """
    actions = _actions(_commands(parser)[argv[0]])
    paths = {key for key, action in actions.items() if action.type is Path}
    for action in actions.values():
        action.type = None  # keep the words as they were typed
    arguments = parser.parse_args(argv)
    lines = [f"[{argv[0]}]"]
    for key, action in actions.items():
        value = getattr(arguments, action.dest)
        if value != action.default and key == _key(action).split("|")[0]:
            kept = os.path.relpath(value, path.parent) if key in paths else value
            lines.append(f"{key} = {json.dumps(kept, ensure_ascii=False)}")  # TOML writes these values as JSON does
    Output(path, CONFIG, force).write(("\n".join(lines) + "\n").encode())


def _commands(parser: Parser) -> Mapping[str, Parser]:
    chosen = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return chosen.choices or {}


def _actions(command: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Every key that a table may have. ``BUNDLE|ARTIFACT`` in the help is two keys for one thing."""
    found = dict[str, argparse.Action]()
    for action in command._actions:
        if action.dest not in _OWN:
            found |= dict.fromkeys(_key(action).split("|"), action)
    return found


def _key(action: argparse.Action) -> str:
    if action.option_strings:
        return max(action.option_strings, key=len).lstrip("-")
    return str(action.metavar or action.dest)


def _table(path: Path, name: str) -> Mapping[str, Any]:
    content = toml.read(path, f"'{path}'", expected=f"a TOML file with a table [{name}] for --config")
    for other in content:
        if other not in NAMES:
            todo = "put every word into the table of its command"
            raise unknown(f"{path}: [{other}] is no command", other, NAMES, todo=todo)
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise UsageError(f"{path}: '{name}' is not a table", expected=f"[{name}]")
    return table


def _is_given(action: argparse.Action, words: Sequence[str]) -> bool:
    """Whether the command line has this option; argparse reads no value that looks like an option."""
    for word in words:
        for option in action.option_strings:
            short = not option.startswith("--")
            if word == option or word.startswith(f"{option}=") or (short and word.startswith(option)):
                return True
    return False


def _positionals_given(command: argparse.ArgumentParser, words: Sequence[str]) -> set[str]:
    """Which positional arguments the command line has; from here on they may be missing for a first reading."""
    positionals = [action for action in command._actions if not action.option_strings]
    kept = [(action, action.nargs, action.required, action.default) for action in positionals]
    for action in positionals:
        action.nargs, action.required, action.default = "?" if action.nargs is None else action.nargs, False, None
    try:
        known, _ = command.parse_known_args(list(words))
    finally:
        for action, nargs, required, default in kept:
            action.nargs, action.required, action.default = nargs, required, default
    return {action.dest for action in positionals if getattr(known, action.dest) not in (None, [])}


def _words(action: argparse.Action, value: Any, where: str, folder: Path) -> list[str]:
    """``value`` as it would be typed. Raises :class:`UsageError` where it is of the wrong kind."""
    option = max(action.option_strings, key=len, default="")
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise UsageError(f"{where} is {value!r}", expected="true or false")
        return [option] if value else []
    many = isinstance(action, argparse._AppendAction) or action.nargs in ("*", "+")
    values = value if isinstance(value, list) and many else [value]
    words = []
    for one in values:
        if isinstance(one, bool) or not isinstance(one, (str, int, float)):
            raise UsageError(f"{where} is {value!r}", expected="text or a number" + (", or a list of them" * many))
        if one == "":
            raise UsageError(f"{where} is empty", expected="a value, or no such key")
        text = os.path.normpath(folder / str(one)) if action.type is Path else str(one)
        words += [f"{option}={text}"] if option else [text]
    return words
