"""Whatever a file does to its engine, the caller gets words: crashes, endless loops, endless memory, lies."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ulsam_deploy.against import Guarded, Limits
from ulsam_deploy.device import external_data, plugins
from ulsam_deploy.device.errors import Exit, ExportError, RefusedError, UlsamError
from ulsam_deploy.device.external_data import stored_locations
from ulsam_deploy.device.runtime import Runtime

IMAGE = np.zeros((1, 3, 4, 4), np.float32)

#: A third party's engine, found by its entry point in the worker's process as in ours. The file says what to do.
PLUGIN = """
import os, pathlib, signal, time
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.types import Availability

class Unruly(Runtime):
    name, target, opens = "unruly", "unruly", (".bad",)
    @classmethod
    def available(cls):
        return Availability(True, "unruly")
    def _load(self):
        exec(self.files[0].read_text())
    def _run(self, inputs):
        return {}
    def _close(self):
        pass
    def facts(self):
        return EngineFacts('unruly', '1')
"""


@pytest.fixture
def unruly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Runtime]:
    (tmp_path / "unruly.py").write_text(PLUGIN)
    info = tmp_path / "unruly-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: unruly\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{plugins.RUNTIMES}]\nunruly = unruly:Unruly\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(tmp_path)
    import unruly  # type: ignore[import-not-found]

    yield unruly.Unruly
    del sys.modules["unruly"]


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed (signal SIGSEGV)"),
        ("os._exit(7)", "crashed (exit status 7)"),
        ("os._exit(0)", "crashed"),
        ("bytearray(3 << 30)", "more memory than the 1 GiB allowed"),
        ("raise KeyError('oops')", "KeyError: 'oops'"),
        ("pathlib.Path('answer.npz').write_text('[]'); os._exit(0)", "crashed"),
        ("pathlib.Path('answer.npz').write_bytes(bytes([255])); os._exit(0)", "crashed"),
    ],
)
def test_a_misbehaving_engine_is_an_error_in_words(
    unruly: type[Runtime], tmp_path: Path, does: str, words: str
) -> None:
    path = tmp_path / "x.bad"
    path.write_text(does)
    with pytest.raises(ExportError) as failed:
        Guarded(unruly, path, Limits(60, 1 << 30)).open()
    assert words in str(failed.value)
    assert failed.value.exit_code == Exit.EXPORT_FAILED


def test_an_endless_engine_is_stopped_with_its_children(unruly: type[Runtime], tmp_path: Path) -> None:
    path, mark = tmp_path / "x.bad", tmp_path / "pid"
    path.write_text(f"pathlib.Path({str(mark)!r}).write_text(str(os.fork() or os.getpid())); time.sleep(600)")
    started = time.perf_counter()
    with pytest.raises(ExportError, match="took longer than 5 seconds") as failed:
        Guarded(unruly, path, Limits(5, jail="off")).open()
    assert time.perf_counter() - started < 30
    assert "--time-limit" in failed.value.todo
    time.sleep(0.2)
    status = Path(f"/proc/{mark.read_text()}/stat")
    assert not status.exists() or status.read_text().split()[2] == "Z"


def model(nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto]) -> onnx.ModelProto:
    x, y = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        for name, shape in (("x", (1, 3, 4, 4)), ("y", None))
    )
    graph = helper.make_graph(nodes, "graph", x, y, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(path: Path, limits: Limits) -> None:
    guarded = Guarded(plugins.load(plugins.RUNTIMES, "onnxruntime"), path, limits)
    stated = guarded.open()
    guarded.run(stated.inputs, stated.outputs, {"x": IMAGE})


def test_an_onnx_file_that_wants_400_gigabytes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    path = tmp_path / "large.onnx"
    onnx.save(model(nodes, [helper.make_tensor("shape", TensorProto.INT64, [2], [10**6, 10**5])]), path)
    with pytest.raises(ExportError, match="more memory than the 4 GiB allowed"):
        run(path, Limits(60, 4 << 30))


def test_an_onnx_file_that_never_ends(tmp_path: Path) -> None:
    def value(name: str, kind: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, [] if kind != TensorProto.FLOAT else None)

    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["a"], ["b"])],
        "body",
        [value("i", TensorProto.INT64), value("go", TensorProto.BOOL), value("a", TensorProto.FLOAT)],
        [value("on", TensorProto.BOOL), value("b", TensorProto.FLOAT)],
    )
    turns = helper.make_tensor("turns", TensorProto.INT64, [], [10**15])
    go = helper.make_tensor("first", TensorProto.BOOL, [], [True])
    path = tmp_path / "endless.onnx"
    onnx.save(model([helper.make_node("Loop", ["turns", "first", "x"], ["y"], body=body)], [turns, go]), path)
    with pytest.raises(ExportError, match="took longer than 8 seconds"):
        run(path, Limits(8))


@pytest.mark.parametrize("keep", [0, 7, 0.3, 0.9])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_truncated_files(good_onnx: Path, tmp_path: Path, engine: str, keep: float) -> None:
    content = good_onnx.read_bytes()
    path = tmp_path / ("cut.onnx" if engine == "onnxruntime" else "cut.xml")
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    with pytest.raises(ExportError):
        Guarded(plugins.load(plugins.RUNTIMES, engine), path, Limits(60)).open()


def external(tmp_path: Path, location: str) -> Path:
    """A model whose one weight lies at ``location``."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    entry = weight.external_data.add()
    entry.key, entry.value = "location", location
    path = tmp_path / "here" / "model.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model([helper.make_node("Add", ["x", "w"], ["y"])], [weight]).SerializeToString())
    return path


def open_onnx(path: Path) -> tuple[Path, ...]:
    return Guarded(plugins.load(plugins.RUNTIMES, "onnxruntime"), path, Limits(60)).open().files


@pytest.mark.parametrize(
    "trap", ["absolute", "parent", "windows", "inner parent", "symlink", "folder link", "hard link"]
)
def test_external_data_outside_is_refused(tmp_path: Path, trap: str) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(16))
    here = tmp_path / "here"
    here.mkdir()
    location = {
        "absolute": str(secret), "parent": "../secret.bin", "windows": "C:\\secret.bin",
        "inner parent": "a/../../secret.bin", "folder link": "link/secret.bin",
    }.get(trap, "w.bin")  # fmt: skip
    if trap == "symlink":
        (here / "w.bin").symlink_to(secret)
    elif trap == "folder link":
        (here / "link").symlink_to(tmp_path, target_is_directory=True)
    elif trap == "hard link":
        os.link(secret, here / "w.bin")
    with pytest.raises(RefusedError, match="keeps weights in") as refused:
        open_onnx(external(tmp_path, location))
    assert refused.value.exit_code == Exit.REFUSED


def test_external_data_in_a_subgraph_is_found(tmp_path: Path) -> None:
    path = external(tmp_path, "w.bin")
    (path.parent / "w.bin").write_bytes(bytes(16))
    assert open_onnx(path) == (path, path.parent / "w.bin")
    inner = onnx.load(path, load_external_data=False)
    inner.graph.initializer[0].external_data[0].value = "../w.bin"
    branch = helper.make_node("If", ["c"], ["y"], then_branch=inner.graph, else_branch=inner.graph)
    path.write_bytes(model([branch], [helper.make_tensor("c", TensorProto.BOOL, [], [True])]).SerializeToString())
    with pytest.raises(RefusedError):
        open_onnx(path)


def test_missing_external_data_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UlsamError, match=r"w\.bin") as failed:
        open_onnx(external(tmp_path, "w.bin"))
    assert failed.value.exit_code == Exit.EXPORT_FAILED


@pytest.mark.parametrize("where", ["graph", "subgraph", "function", "sparse", "training"])
def test_the_bytes_tell_what_the_package_tells(where: str) -> None:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("offset", "0"), ("location", f"{where}.bin"), ("length", "16")):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    node = helper.make_node("Constant", [], ["c"], value=weight)
    whole = model([helper.make_node("Add", ["x", "x"], ["y"])], [])
    if where == "graph":
        whole.graph.initializer.append(weight)
    elif where == "subgraph":
        branch = helper.make_graph([node], "branch", [], [])
        whole.graph.node.append(helper.make_node("If", ["q"], ["z"], then_branch=branch, else_branch=branch))
    elif where == "function":
        whole.functions.add(name="f", domain="d").node.append(node)
    elif where == "sparse":
        whole.graph.sparse_initializer.add().indices.CopyFrom(weight)
    else:
        whole.training_info.add().algorithm.initializer.append(weight)
    assert external_data.locations(whole) == [f"{where}.bin"]
    assert stored_locations(whole.SerializeToString()) == {f"{where}.bin"}
