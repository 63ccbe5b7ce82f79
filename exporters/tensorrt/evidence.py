"""What TensorRT for RTX makes of a kit without a GPU: the vendor's own parse, and engines with their layers listed.

Its compiler has no Jetson GPU among its targets, so a plan shows that the network compiles for neighbours of one.
"""

from __future__ import annotations

import re
from collections import Counter
from types import ModuleType
from typing import Any

from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.findings import CompiledEngine, TensorRTFacts
from ulsam_deploy.device.third_party import installed, quiet, words_of
from ulsam_deploy.device.types import EvidenceLevel

PARSER = "tensorrt_rtx"
#: Turing, two Amperes, Ada, Blackwell. SM86 (GA10x) is the nearest to Orin (SM87) that can be built for.
CAPABILITIES = ("SM86", "SM75", "SM80", "SM89", "SM120")
TITLE = "TensorRT for RTX"


def parser() -> ModuleType | None:
    """TensorRT for RTX, or ``None`` where it isn't installed; raises :class:`ExportError` when it cannot be loaded."""
    if not installed(PARSER, extra="trt").usable:
        return None
    with words_of(TITLE, "be loaded"), quiet():
        import tensorrt_rtx
    module: ModuleType = tensorrt_rtx
    return module


def evidence(
    trt: ModuleType, builder: Any, content: bytes, recipe: Any, jetson: bool
) -> tuple[EvidenceLevel, TensorRTFacts]:
    """The level that the model reaches, and the facts: layers as parsed, and an engine for each compute capability.

    ``COMPILED`` when an engine could be built, unless a Jetson was asked for, which RTX doesn't build for.
    Raises :class:`ExportError` with the parser's words when it refuses the model.
    """
    parsed = builder.parse(trt, content)
    engines = {name: _engine(trt, builder, content, recipe, name) for name in CAPABILITIES}
    compiled = not all(engine.refused for engine in engines.values())
    title = f"{TITLE} {trt.__version__}"
    facts = TensorRTFacts(engine=title, network_layers=dict(parsed.layers), engines=engines)
    return (EvidenceLevel.COMPILED if compiled and not jetson else EvidenceLevel.PARSED), facts


def _engine(trt: ModuleType, builder: Any, content: bytes, recipe: Any, capability: str) -> CompiledEngine:
    """The inventory of the engine for ``capability``, or ``refused``: why there is none."""
    try:
        built = builder.build(trt, content, recipe, capability=capability)
    except ExportError as error:
        return CompiledEngine(refused=error.found or "without a word")
    return inventory(built.listing)


def inventory(listing: str) -> CompiledEngine:
    """Layers by type, fusions, and element types of what layers give, out of the detailed layer listing of a build.

    ``fusions`` are the groups of two or more ONNX nodes that became one layer, in order.
    """
    lines = [line for line in listing.splitlines() if "LayerType: " in line]
    kinds = Counter(line.split("LayerType: ")[1].split(",")[0] for line in lines)
    types = Counter(kind for line in lines for kind in re.findall(r"Datatype: (\w+)", _outputs(line)))
    groups = [re.findall(r"\[ONNX Layer: ([^\]]+)\]", line) for line in lines]
    fusions = [" + ".join(group) for group in groups if len(group) > 1]
    return CompiledEngine(dict(sorted(kinds.items())), dict(sorted(types.items())), tuple(fusions))


def _outputs(line: str) -> str:
    return line.partition("Outputs: [")[2].partition("TacticName:")[0]


def words(facts: TensorRTFacts) -> str:
    """One sentence about the engines."""
    refused = [name for name, engine in facts.engines.items() if engine.refused]
    made = [name for name in facts.engines if name not in refused]
    tail = f"; it refused {', '.join(refused)}" if refused else ""
    return f"{facts.engine} built engines for {', '.join(made) or 'no compute capability'}{tail}."
