"""The exact ``trtexec`` line that builds a kit's engine, for each generation of TensorRT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ulsam_deploy.device.shapes import shape_text

#: For each generation, the name of its tool and its options for float16. Strong typing is optional from 10.12 on and
#: always on from 11 and in RTX; before 10.12 the vendor calls it incomplete, so an option permits the file's types.
GENERATIONS = {
    "8.6": ("trtexec", "weak"),
    "10.0-10.11": ("trtexec", "weak"),
    "10.12-10.16": ("trtexec", "--stronglyTyped"),
    "11": ("trtexec", ""),
    "rtx": ("tensorrt_rtx", ""),
}


def lines(recipe: object, generations: tuple[str, ...]) -> dict[str, str]:
    """Command lines by generation for ``recipe`` (a ``Recipe`` of the TensorRT runtime's builder)."""
    return {name: _line(recipe, *GENERATIONS[name]) for name in generations}


def _line(recipe: Any, tool: str, typing: str) -> str:
    words = [tool, f"--onnx={recipe.onnx}", f"--saveEngine={recipe.engine}"]
    if typing == "weak":
        words += [f"--{recipe.precision}"] if recipe.precision != "fp32" else []
    elif typing:
        words.append(typing)
    if recipe.dla:
        words += ["--useDLACore=0", "--allowGPUFallback"]
    for option, which in (("minShapes", "min"), ("optShapes", "opt"), ("maxShapes", "max")):
        if recipe.profiles:
            words.append(f"--{option}={_shapes(recipe.profiles, which)}")
    words += [f"--memPoolSize=workspace:{recipe.workspace_mib}", "--profilingVerbosity=detailed"]
    if not recipe.tf32:
        words.append("--noTF32")
    if tool == "trtexec":  # RTX compiles on the end user's machine and does no timing while building
        words.append(f"--timingCacheFile={recipe.timing_cache}")
    return " ".join([*words, "--skipInference"])


def _shapes(profiles: Mapping[str, object], which: str) -> str:
    return ",".join(f"{name}:{shape_text(getattr(profile, which))}" for name, profile in profiles.items())
