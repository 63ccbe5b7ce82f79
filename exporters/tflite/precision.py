"""Converts a LiteRT model to float16 or int8 with ai-edge-quantizer; attention and requested modules stay in float.

Except on small maps, attention adds to its input less than half an int8 step of that input. If only the block stayed in
float, it would read its input from int8, and its result would be rounded to the same steps again. So the operator in
front of a block gives float as well: a product computes in int8 and gives float32, as in dynamic-range quantization;
any other operator is not quantized.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.findings import ArtifactFacts, Quantized
from ulsam_deploy.device.runtime import to_artifact
from ulsam_deploy.device.third_party import quiet, words_of
from ulsam_deploy.device.types import TensorSpec
from ulsam_deploy.graph.interfaces import ExportRequest
from ulsam_deploy.graph.ownership import Operator, kept, owners
from ulsam_deploy.graph.program import Program

from ..last_results import last_results
from . import model as tflite_model

#: Operators with weights, and their names in facts.
PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
#: The interpreter prints this whenever ranges are measured, because every tensor has to be kept for that.
_DEBUGGING = "Warning: Enabling `experimental_preserve_all_tensors`"
_SIGNATURE = "serving_default"


def to_precision(
    content: bytes, program: Program, request: ExportRequest, inputs: tuple[TensorSpec, ...]
) -> tuple[bytes, ArtifactFacts]:
    """Convert ``content`` to ``request.precision``: ``fp16``, ``int8`` or ``int8-dynamic``.

    ``fp16`` stores weights in float16 and computes in float32. ``int8`` has symmetric weights with one scale for each
    channel, and one range for each tensor. ``int8-dynamic``
    has such weights, with one scale for a whole FULLY_CONNECTED, and ranges found while it runs. Inputs and outputs
    stay float32.

    Args:
        content: The float32 model.
        program: The lowered program that it was converted from.
        request: What is requested.
        inputs: The artifact's inputs.

    Returns:
        The converted model, and facts: for int8, counts of what stays in float and what is quantized.

    Raises:
        ExportError: The quantizer failed; contains its message.
    """
    with words_of("ai-edge-quantizer", "quantize the model"), quiet(_DEBUGGING):
        if request.precision == "fp16":
            return _quantized(content, _half(), None), ArtifactFacts(attention="float")
        plan = _Plan.of(content, program, request, inputs)
        recipe = _static(plan) if request.precision == "int8" else _dynamic(plan)
        ranges = _ranges(content, recipe, program, request, inputs) if request.precision == "int8" else None
        return _quantized(content, recipe, ranges), plan.facts()


class _Plan:
    """Which operators, by the names of the tensors they make, stay in float, and which only give float."""

    def __init__(self, kinds: dict[str, str], left: tuple[str, ...], feeding: tuple[str, ...]) -> None:
        self._kinds, self._left = kinds, left
        self.giving = tuple(name for name in feeding if kinds[name] in PRODUCTS)
        self.left = (*left, *(name for name in feeding if kinds[name] not in PRODUCTS))

    @classmethod
    def of(cls, content: bytes, program: Program, request: ExportRequest, inputs: tuple[TensorSpec, ...]) -> _Plan:
        """Make the plan by running the float model once."""
        model = tflite_model.read(content)
        operators = tflite_model.operators(model)
        kinds = {
            operator.name: tflite_model.kind_of(model, made)
            for operator, made in zip(operators, model.subgraphs[0].operators)
        }
        if len(kinds) != len(operators):
            raise ExportError("two operators of the converted model make tensors of one name", expected="own names")
        feed = next(_feeds(program, request))
        owned = owners(program, operators, tflite_model.values(content, _in_layout(feed, inputs)), feed)
        attention = kept(owned, (block.path for block in program.blocks))
        asked = kept(owned, request.keep)
        return cls(kinds, tuple(dict.fromkeys((*attention, *asked))), _feeding(operators, attention))

    def facts(self) -> ArtifactFacts:
        products = [name for name, kind in self._kinds.items() if kind in PRODUCTS]
        chosen = [name for name in products if name not in self.left]
        return ArtifactFacts(attention="float", quantized=Quantized(len(self.left), len(products), len(chosen)))


def _feeding(operators: Iterable[Operator], attention: tuple[str, ...]) -> tuple[str, ...]:
    """The operators that make the inputs of attention."""
    made = {operator.name for operator in operators}
    inner = set(attention)
    read = dict.fromkeys(name for operator in operators if operator.name in inner for name in operator.inputs)
    return tuple(name for name in read if name in made - inner)


def _feeds(program: Program, request: ExportRequest) -> Any:
    """Real inputs in whole batches; without any, noise, which distinguishes operators just as well."""
    if request.calibration is not None:
        yield from request.calibration.batches(program.batch or 1)
        return
    random = np.random.default_rng(0)
    yield {spec.name: random.standard_normal([s or 1 for s in spec.shape], np.float32) for spec in program.inputs}


def _in_layout(feed: dict[str, Array], inputs: tuple[TensorSpec, ...]) -> dict[str, Array]:
    return {spec.name: to_artifact(spec, feed[spec.name]) for spec in inputs}


def _manager() -> Any:
    from ai_edge_quantizer.recipe_manager import RecipeManager

    return RecipeManager()


def _names(names: Iterable[str]) -> str:
    """The regular expression for operators that make one of the tensors ``names``; the tool calls them ``NAME;``."""
    return "^(?:" + "|".join(map(re.escape, names)) + ");"


def _half() -> Any:
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    manager = _manager()
    for product in PRODUCTS:
        manager.add_weight_only_config(".*", product, 16, algorithm_key=AlgorithmName.FLOAT_CASTING)
    return manager


def _dynamic(plan: _Plan) -> Any:
    manager = _manager()
    _add_dynamic(manager, ".*")
    return _leave(manager, plan)


def _add_dynamic(manager: Any, names: str) -> None:
    """Have the products that match ``names`` compute in int8 with ranges found while they run.

    tflite-runtime 2.14 knows no scales of channels in such a FULLY_CONNECTED and takes them for zero, without an error.
    """
    from ai_edge_quantizer.qtyping import QuantGranularity

    for product in PRODUCTS:
        whole = product == "FULLY_CONNECTED"
        manager.add_dynamic_config(
            names, product, 8, granularity=QuantGranularity.TENSORWISE if whole else QuantGranularity.CHANNELWISE
        )


def _static(plan: _Plan) -> Any:
    from ai_edge_quantizer.qtyping import TFLOperationName

    manager = _manager()
    manager.add_static_config(".*", TFLOperationName.ALL_SUPPORTED, 8, 8)
    if plan.giving:
        _add_dynamic(manager, _names(plan.giving))
    return _leave(manager, plan)


def _leave(manager: Any, plan: _Plan) -> Any:
    """Exclude from quantization what stays in float, and the network's inputs and outputs."""
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName

    none = AlgorithmName.NO_QUANTIZE
    if plan.left:
        manager.add_quantization_config(_names(plan.left), TFLOperationName.ALL_SUPPORTED, algorithm_key=none)
    for port in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
        manager.add_quantization_config(".", port, algorithm_key=none)
    return manager


def _ranges(
    content: bytes, recipe: object, program: Program, request: ExportRequest, inputs: tuple[TensorSpec, ...]
) -> Any:
    from ai_edge_quantizer.calibrator import Calibrator

    calibrator = Calibrator(content, num_threads=1, qsv_update_func=_mean)
    samples = [_in_layout(feed, inputs) for feed in _feeds(program, request)]
    calibrator.calibrate({_SIGNATURE: samples}, recipe)
    model = tflite_model.read(content)
    operators, graph = tflite_model.operators(model), model.subgraphs[0]
    kinds = [tflite_model.kind_of(model, made) for made in graph.operators]
    products = {operator.name for operator, kind in zip(operators, kinds) if kind in PRODUCTS}
    last = last_results(operators, [tflite_model.name_of(graph, index) for index in graph.outputs], products)
    return {name: _range(of, bool(program.blocks) or name in last) for name, of in calibrator.get_model_qsvs().items()}


#: Beside the ends of a range: how many samples it is the mean of, and the smallest and largest value of all.
_SEEN, _LEAST, _MOST = "samples_seen", "least", "most"


def _mean(known: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The mean of the samples' ranges, and their extremes, which are used where attention would suffer from clipping.

    The quantizer's own default is a moving average, which depends on the order of the samples.
    """
    ends = {end: value for end, value in new.items() if end not in (_SEEN, _LEAST, _MOST)}
    if not known:
        return ends | {_SEEN: 1, _LEAST: new["min"], _MOST: new["max"]}
    count = known.get(_SEEN, 1)
    mean = {end: (known[end] * count + value) / (count + 1) for end, value in ends.items()}
    least, most = (
        np.minimum(known.get(_LEAST, known["min"]), new["min"]),
        np.maximum(known.get(_MOST, known["max"]), new["max"]),
    )
    return mean | {_SEEN: count + 1, _LEAST: least, _MOST: most}


def _range(found: dict[str, Any], whole: bool) -> dict[str, Any]:
    ends = {"min": found[_LEAST], "max": found[_MOST]} if whole and _LEAST in found else found
    return {end: value for end, value in ends.items() if end not in (_SEEN, _LEAST, _MOST)}


def _quantized(content: bytes, recipe: Any, ranges: Any) -> bytes:
    from ai_edge_quantizer.quantizer import Quantizer

    quantizer = Quantizer(bytearray(content), recipe.get_quantization_recipe())
    result = quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    # The quantizer stores large weights behind the flatbuffer. LiteRT follows their offsets; TFLite Micro and the
    # interpreters of older phones read such a buffer as empty and report no error. Written again, all is inside.
    return tflite_model.write(tflite_model.read(bytes(result.quantized_model)))
