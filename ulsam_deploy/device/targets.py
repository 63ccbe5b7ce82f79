"""The names of a target: its own name in any case, its engine's name, and the engine's aliases.

Standard library only; device-safe: a board has the runtimes, and each states which target it runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable

from ulsam_deploy.device import plugins
from ulsam_deploy.device.errors import UlsamError
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.spelling import folded, unknown

__all__ = ["ALL", "canonical", "check_targets", "parse_targets"]

#: Every target that is installed.
ALL = "all"


def canonical(word: str) -> str:
    """The name of the target that ``word`` means: ``trt`` for ``TensorRT``.

    Args:
        word: The typed name.

    Returns:
        The target's name, or ``word`` itself if it means none: a bundle may contain targets that no engine here runs.
    """
    known = plugins.registered(plugins.EXPORTERS)
    return word if word in known or word == ALL else _spellings().get(folded(word), word)


def parse_targets(texts: Iterable[str]) -> tuple[str, ...]:
    """The targets that ``texts`` name, in their order, each once.

    Args:
        texts: The typed texts; each may contain several names, separated by commas.

    Returns:
        Names as returned by :func:`canonical`.
    """
    words = (word.strip() for text in texts for word in text.split(","))
    return tuple(dict.fromkeys(canonical(word) for word in words if word))


def check_targets(names: Iterable[str], known: Collection[str]) -> None:
    """Refuse unknown targets.

    Args:
        names: The requested targets, as returned by :func:`canonical`.
        known: The known targets.

    Raises:
        UsageError: For the first one of ``names`` that isn't in ``known``.
    """
    for name in names:
        if name not in known:
            near = dict.fromkeys([*known, *(word for word, target in _spellings().items() if target in known)])
            raise unknown(f"no target is called '{name}'", name, near, expected=", ".join(known))


def _spellings() -> dict[str, str]:
    """Every spelling, folded, and its target; if two targets share one, a target's own name wins over an alias."""
    names = {folded(name): name for name in (*plugins.registered(plugins.EXPORTERS), ALL)}
    aliases = dict[str, str]()
    for name in plugins.registered(plugins.RUNTIMES):
        with contextlib.suppress(UlsamError):  # its package isn't installed, so its aliases are not known here
            engine: type[Runtime] = plugins.load(plugins.RUNTIMES, name)
            names.setdefault(folded(engine.target), engine.target)
            for word in (name, *engine.aliases):
                aliases.setdefault(folded(word), engine.target)
    return {**aliases, **names}
