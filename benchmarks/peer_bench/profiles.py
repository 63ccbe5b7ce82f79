"""Where an engine spends its time, by kind of operator: what attention adds to its backbone, itemized.

ONNX Runtime's and OpenVINO's own profilers; they slow small operators down, so that only shares mean something.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

__all__ = ["PROFILERS", "table"]

RUNS = 30


def onnxruntime(path: Path, feed: np.ndarray) -> Counter[str]:
    """Milliseconds a run by operator type, one thread."""
    import onnxruntime as engine

    with tempfile.TemporaryDirectory() as folder:
        options = engine.SessionOptions()
        options.enable_profiling, options.profile_file_prefix = True, f"{folder}/profile"
        options.intra_op_num_threads = 1
        session = engine.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for _ in range(RUNS):
            session.run(None, {session.get_inputs()[0].name: feed})
        events = json.loads(Path(session.end_profiling()).read_text())
    found: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            found[event["args"]["op_name"]] += event["dur"] / 1e3 / RUNS
    return found


def openvino(path: Path, feed: np.ndarray) -> Counter[str]:
    """Milliseconds a run by node type, one thread."""
    from ulsam_deploy.third_party import load_openvino

    engine = load_openvino()
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "PERF_COUNT": True}
    request = engine.Core().compile_model(str(path), "CPU", config).create_infer_request()
    found: Counter[str] = Counter()
    for _ in range(RUNS):
        request.infer([feed])
        for node in request.profiling_info:
            if node.real_time:
                found[node.node_type] += node.real_time.total_seconds() * 1e3 / RUNS
    return found


PROFILERS = {"ONNX Runtime": onnxruntime, "OpenVINO": openvino}


def table(backbone: Mapping[str, float], whole: Mapping[str, float]) -> list[str]:
    """A row a kind of operator that takes a hundredth of the time or more."""
    rows = ["| operator | backbone, ms | with ULSAM, ms | added, ms |", "|---|---|---|---|"]
    total = sum(whole.values())
    for kind in sorted({*backbone, *whole}, key=lambda kind: backbone.get(kind, 0.0) - whole.get(kind, 0.0)):
        before, after = backbone.get(kind, 0.0), whole.get(kind, 0.0)
        if abs(after - before) > total / 100:
            rows.append(f"| {kind} | {before:.2f} | {after:.2f} | {after - before:+.2f} |")
    return [*rows, f"| all | {sum(backbone.values()):.2f} | {total:.2f} | {total - sum(backbone.values()):+.2f} |"]
