"""``--config FILE.toml`` reads the options of a command from a file, and ``--save-config`` writes such a file.

There is one table for each command (``[export]``), and one key for each option as in the help, without its dashes:
``batch = "dynamic"``. A positional argument has its name in capitals: ``MODEL = "model.pt"``. The command line takes
precedence over the file. Paths are relative to the file's folder. An unknown key, or table, is an error.

A file may come with a checkpoint from somebody else. What gives trust, names code or another machine, or writes to a
place that is not a new file beside the configuration is therefore accepted only on the command line, unless the command
line says ``--trust-config`` as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ulsam_deploy.device import toml
from ulsam_deploy.device.bundle.kinds import CONFIG
from ulsam_deploy.device.bundle.output import Output
from ulsam_deploy.device.commands.parser import NAMES
from ulsam_deploy.device.commands.reading import DeclaredOption, Parser, Typed, in_either_number
from ulsam_deploy.device.errors import RefusedError, UsageError
from ulsam_deploy.device.spelling import unknown

__all__ = ["keys", "merged", "save"]

#: Options about the file itself, which can't be in it.
_OWN = frozenset({"help", "config", "trust_config", "save_config", "force"})
#: Options that give trust, or name code, a signer or a machine on which something runs.
_TRUST = frozenset(
    {"trust_pickle", "trust_native", "allow_global", "factory", "key", "identity", "issuer", "online", "clear"}
    | {"host", "host_python", "ssh_config", "scheduler"}
)
#: Options that name a file or a folder to be written.
_WRITTEN = frozenset({"output", "junit", "sarif", "markdown", "beside_output", "reproduce"})


def merged(parser: Parser, argv: Sequence[str]) -> list[str]:
    """``argv`` followed by the options of the file that its ``--config`` names, parsed like typed ones afterwards.

    Raises :class:`UsageError` for a file that is missing, not TOML, or has a key that the command does not know, and
    :class:`RefusedError` for a key that only a trusted file may have.
    """
    name, *words = argv or [""]
    command = parser.commands.get(name)
    typed = command.typed(words) if command else {}
    if command is None or "config" not in typed:
        return list(argv)
    path = Path(str(typed["config"]))
    where, known = f"{path}: [{name}]", keys(command)
    trusted = "trust_config" in typed
    said = dict[str, str]()
    options, positionals = list[str](), list[str]()
    for key, value in _table(path, name).items():
        word = known[_known(key, known, where)]
        if word.dest in said:
            raise UsageError(f"{where} has '{said[word.dest]}' and '{key}', which are the same", expected="one of them")
        said[word.dest] = key
        if word.dest not in typed:
            if not trusted and value is not False:
                _check_harmless(word, value, f"{where} {key}", path)
            into = options if word.option else positionals
            into.extend(_words(word, value, f"{where} {key}", path.parent))
    return [name, *command.spelled(words), *options, *(["--", *positionals] if positionals else [])]


def save(parser: Parser, argv: Sequence[str], path: Path, *, force: bool = False) -> None:
    """Write the options in ``argv`` to ``path``, so that ``--config`` reads them.

    Raises :class:`UsageError` if the file can't be written, or a different one is there and ``force`` isn't given.
    """
    name, *words = argv
    command = parser.commands[name]
    typed = command.typed(words)
    lines = [f"[{name}]"]
    for word in command.declared:
        if word.dest in typed and word.dest not in _OWN:
            value = _kept(typed[word.dest], path.parent) if word.is_path else typed[word.dest]
            # These values have the same syntax in TOML and JSON.
            lines.append(f"{_names(word)[0]} = {json.dumps(value, ensure_ascii=False)}")
    Output(path, CONFIG, force).write(("\n".join(lines) + "\n").encode())


def keys(command: Parser) -> dict[str, DeclaredOption]:
    """Every key that a table may have. ``BUNDLE|ARTIFACT`` in the help gives two keys for one argument."""
    return {name: word for word in command.declared if word.dest not in _OWN for name in _names(word)}


def _names(word: DeclaredOption) -> list[str]:
    return [word.option.lstrip("-")] if word.option else word.shown.split("|")


def _kept(value: Typed, folder: Path) -> Typed:
    """Paths are converted to be relative to ``folder``; other values are unchanged."""
    if isinstance(value, list):
        return [os.path.relpath(one, folder) for one in value]
    return os.path.relpath(str(value), folder)


def _check_harmless(word: DeclaredOption, value: object, where: str, path: Path) -> None:
    """Raise :class:`RefusedError` for what a file that is not trusted may not say."""
    todo = f"give {word.option} on the command line, or, only if you trust whoever made '{path}', add --trust-config"
    if word.dest in _TRUST:
        raise RefusedError(f"{where} decides what is trusted, or what runs where", expected="no such key", todo=todo)
    if word.dest in _WRITTEN:
        place = path.parent.resolve() / str(value)
        inside = place.parent.resolve().is_relative_to(path.parent.resolve())
        if "://" in str(value) or os.path.lexists(place) or not inside:
            raise RefusedError(
                f"{where} would write to '{value}'", expected=f"a new file or folder inside '{path.parent}'", todo=todo
            )


def _known(key: str, known: Mapping[str, DeclaredOption], where: str) -> str:
    """``key`` in the spelling of ``known``; raises :class:`UsageError` if it is unknown."""
    found = in_either_number(key, known)
    if not found:
        raise unknown(f"{where} has an unknown key '{key}'", key, sorted(known), todo="see the command's --help")
    return found


def _table(path: Path, name: str) -> Mapping[str, object]:
    content = toml.read(path, f"'{path}'", expected=f"a TOML file with a table [{name}] for --config")
    for other in content:
        if other not in NAMES:
            todo = "put every option into the table of its command"
            raise unknown(f"{path}: [{other}] is not a command", other, NAMES, todo=todo)
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise UsageError(f"{path}: '{name}' is not a table", expected=f"[{name}]")
    return table


def _words(word: DeclaredOption, value: object, where: str, folder: Path) -> list[str]:
    """``value`` as it would be typed; raises :class:`UsageError` if its type is wrong."""
    if word.is_flag:
        if not isinstance(value, bool):
            raise UsageError(f"{where} is {value!r}", expected="true or false")
        return [word.option] if value else []
    words = []
    for one in value if isinstance(value, list) and word.several else [value]:
        if isinstance(one, bool) or not isinstance(one, (str, int, float)):
            kinds = "text or a number" + (", or a list of them" * word.several)
            raise UsageError(f"{where} is {value!r}", expected=kinds)
        if one == "":
            raise UsageError(f"{where} is empty", expected="a value, or no such key")
        text = os.path.normpath(folder / str(one)) if word.is_path else str(one)
        words += [f"{word.option}={text}"] if word.option else [text]
    return words
