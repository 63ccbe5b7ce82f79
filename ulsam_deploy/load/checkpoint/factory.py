"""The user's own network, built by the user's own code: ``--model PKG.MODULE:FACTORY``."""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ulsam_deploy.device.errors import UlsamError, UsageError
from ulsam_deploy.device.spelling import unknown
from ulsam_deploy.load.checkpoint.fitting import fitted
from ulsam_deploy.load.checkpoint.memory import unwrapped
from ulsam_deploy.load.checkpoint.networks import fill, fits
from ulsam_deploy.load.checkpoint.reading import Checkpoint

if TYPE_CHECKING:
    from torch import nn

#: What torch says when code wants a GPU that is not there.
_NO_GPU = re.compile(r"NVIDIA driver|CUDA|cuda", re.ASCII)
_FORM = "PKG.MODULE:FACTORY, for example mynets.tiny:build"


def from_factory(spec: str, checkpoint: Checkpoint | None = None) -> tuple[nn.Module, tuple[str, ...]]:
    """Call the factory named by ``spec`` without arguments, and load ``checkpoint`` into the network that it returns.

    A wrapper around the network (``DataParallel``, ``torch.compile``) is taken off. Modules in the working directory
    can be imported while the factory is found and called. Any error in the user's code is raised as a one-sentence
    :class:`UsageError`, with the original error as its cause.

    Returns:
        The network in ``eval`` mode, and what was done to the weights so that they fit, in sentences.
    """
    module_name, separator, attribute = spec.partition(":")
    if not (separator and module_name and attribute):
        raise UsageError(f"'{spec}' does not name a factory", expected=_FORM)
    with _importable(Path.cwd()):
        module = _import(module_name, spec)
        factory = _find(module, attribute, spec)
        model = unwrapped(_call(factory, spec))
    if checkpoint is None:
        return model.eval(), ()
    fitting = fitted(checkpoint, lambda tensors: fits(model, tensors), partly=True)
    fill(model, fitting.tensors, f"'{checkpoint.name}' does not fit what {spec} returns")
    return model.eval(), fitting.notes


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Put ``folder`` first on the import path within the context, as ``python -m`` does."""
    entry = str(folder)
    sys.path.insert(0, entry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)


def _import(name: str, spec: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise UsageError(
                f"there is no Python module '{error.name}' (from --model {spec})",
                expected=_FORM,
                todo="run in the folder that holds it, or install it in this environment",
            ) from error
        raise _failed(spec, f"importing '{name}'", error) from error
    except (Exception, SystemExit) as error:
        raise _failed(spec, f"importing '{name}'", error) from error


def _find(module: object, attribute: str, spec: str) -> Any:
    found = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = [name for name in dir(found) if not name.startswith("_")]
            found_not = f"'{spec}': there is no '{part}'"
            raise unknown(found_not, part, names, expected=", ".join(names[:8]) or _FORM)
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(f"'{spec}' is a {type(found).__name__}", expected="a callable without arguments")
    return found


def _call(factory: Any, spec: str) -> nn.Module:
    from torch import nn

    if isinstance(factory, nn.Module):
        raise UsageError(f"'{spec}' is a network already", expected="a function or class that makes one")
    try:
        made = factory()
    except UlsamError:
        raise
    except (Exception, SystemExit) as error:
        raise _failed(spec, "calling it without arguments", error) from error
    if not isinstance(made, nn.Module):
        raise UsageError(f"'{spec}' returned a {type(made).__name__}", expected="a torch.nn.Module")
    return made


def _failed(spec: str, doing: str, error: BaseException) -> UsageError:
    said = str(error).splitlines()[0][:300] if str(error) else "no message"
    line = _line_of(error)
    todo = "call it in a Python session to see its traceback"
    if _NO_GPU.search(str(error)):
        place = line or "where it asks for the GPU"
        todo = f"{place}: write .to('cuda' if torch.cuda.is_available() else 'cpu') in place of .cuda() or 'cuda'"
    return UsageError(
        f"--model {spec}: {doing} failed{f' at {line}' if line else ''}: {type(error).__name__}: {said}", todo=todo
    )


def _line_of(error: BaseException) -> str:
    """``FILE:LINE`` of the innermost line that is neither torch's nor ours; empty if there is none."""
    import torch

    passing = ("<frozen", *(str(Path(file).parent) for file in (torch.__file__, importlib.__file__, __file__)))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(passing)]
    if not frames:
        return ""
    path = Path(frames[-1].filename)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{frames[-1].lineno}"
