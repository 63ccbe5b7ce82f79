"""Evidence from TensorRT for RTX without a GPU: the vendor's own parser, and engines with a list of their layers.

Its compiler cannot build for a Jetson's GPU, so an engine shows only that the network compiles for similar GPUs.
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
#: Turing, two Amperes, Ada, Blackwell. SM86 (GA10x) is the nearest to Orin (SM87) that RTX can build for.
CAPABILITIES = ("SM86", "SM75", "SM80", "SM89", "SM120")
TITLE = "TensorRT for RTX"


def parser() -> ModuleType | None:
    """TensorRT for RTX, or ``None`` if it is not installed; raises :class:`ExportError` if it cannot be loaded."""
    if not installed(PARSER, extra="trt").usable:
        return None
    with words_of(TITLE, "be loaded"), quiet():
        import tensorrt_rtx
    module: ModuleType = tensorrt_rtx
    return module


def evidence(
    trt: ModuleType, builder: Any, content: bytes, recipe: Any, jetson: bool
) -> tuple[EvidenceLevel, TensorRTFacts]:
    """The evidence level that the model reaches, and facts: the parsed layers, and an engine for each capability.

    ``COMPILED`` if an engine could be built, unless a Jetson was requested, which RTX cannot build for.

    Raises:
        ExportError: The parser refuses the model; contains its message.
    """
    parsed = builder.parse(trt, content)
    engines = {name: _engine(trt, builder, content, recipe, name) for name in CAPABILITIES}
    compiled = not all(engine.refused for engine in engines.values())
    title = f"{TITLE} {trt.__version__}"
    facts = TensorRTFacts(engine=title, network_layers=dict(parsed.layers), engines=engines)
    return (EvidenceLevel.COMPILED if compiled and not jetson else EvidenceLevel.PARSED), facts


def _engine(trt: ModuleType, builder: Any, content: bytes, recipe: Any, capability: str) -> CompiledEngine:
    """The inventory of the engine for ``capability``, or in ``refused`` why there is none."""
    try:
        built = builder.build(trt, content, recipe, capability=capability)
    except ExportError as error:
        return CompiledEngine(refused=error.found or "no reason given")
    return inventory(built.listing)


def inventory(listing: str) -> CompiledEngine:
    """Read from a build's detailed layer listing: layers by type, fusions, and element types of the layers' results.

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
