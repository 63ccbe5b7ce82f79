"""The steps of ``run.py``: ``python steps.py STEP PLACE`` appends one line of JSON for each row to PLACE/STEP.jsonl.

Each uses the commands and modules of the installed package, as a user of a board does. What this machine lacks is a
row ``not run`` with the reason.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from run import NOT_RUN, ROOT, STEPS

STEP, PLACE = sys.argv[1], Path(sys.argv[2])
BUNDLE = PLACE / "bundle"
SAID = set[str]()


def say(what: str, result: str, detail: str) -> None:
    """One row."""
    SAID.add(what)
    with (PLACE / f"{STEP}.jsonl").open("a") as lines:
        lines.write(json.dumps({"what": what, "result": result, "detail": detail}) + "\n")


@contextlib.contextmanager
def row(*names: str) -> Iterator[None]:
    """Turn an exception into the rows that are missing: ``not run`` for what this machine lacks, else ``failed``."""
    from ulsam_deploy.device.errors import UnavailableError

    try:
        yield
    except Exception as error:
        lacks = isinstance(error, (UnavailableError, ImportError))
        why = error.found if isinstance(error, UnavailableError) else f"{type(error).__name__}: {error}"
        for name in names:
            if name not in SAID:
                say(name, NOT_RUN if lacks else "failed", " ".join(why.split())[:400])


def bundle() -> Any:
    """The bundle, unpacked once."""
    from ulsam_deploy.device.bundle import read_bundle

    if not BUNDLE.is_dir():
        import zipfile

        with zipfile.ZipFile(PLACE / "bundle.zip") as archive:  # made by prepare.py, and its hash was checked
            archive.extractall(BUNDLE)
    found = read_bundle(BUNDLE)
    found.verify_integrity()
    return found


def golden() -> Any:
    """The bundle's golden set."""
    from ulsam_deploy.device.parity import Golden

    found = bundle().golden
    assert found is not None
    return Golden.load(found)


def machine() -> None:
    """Name the machine and what is installed."""
    from ulsam_deploy.runtimes.tensorrt import cuda

    with row("machine"):
        here = cuda.machine()
        say("machine", "seen", f"{here.gpu}, compute capability {here.capability}, CUDA of the driver {here.driver}")
    names = ("torch", "numpy", "onnxruntime-gpu", "onnxruntime", "tensorrt_rtx", "onnx")
    found = [f"Python {platform.python_version()}"]
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    say("software", "seen", ", ".join(found))


def cuda() -> None:
    """Show ``runtimes/tensorrt/cuda.py`` and ``cuda_graph.py`` on the real driver."""
    import numpy as np

    from ulsam_deploy.runtimes.tensorrt import cuda as driver
    from ulsam_deploy.runtimes.tensorrt.cuda_graph import Replayed

    names = STEPS["cuda"]
    with row(*names):
        driver.machine()  # says what is missing
        stream = driver.Stream()
        for count in (10, 1000, 10):  # grows, and is used again
            sent = np.arange(count, dtype=np.float32)
            back = np.empty_like(sent)
            stream.upload("x", sent)
            stream.download("x", back)
            stream.wait()
            assert np.array_equal(sent, back), "what came back is not what was sent"
        say(names[0], "ok", "sent and received arrays of 10, 1000 and 10 numbers")
        source, target = stream.upload("x", sent), stream.buffer("y", sent.nbytes)
        copied = Replayed(stream)
        words = (
            ctypes.c_void_p(target), ctypes.c_void_p(source), ctypes.c_size_t(sent.nbytes), ctypes.c_int(3),
            ctypes.c_void_p(stream.handle),
        )  # fmt: skip
        for _ in range(3):
            copied.run("copy", lambda: stream.call("cudaMemcpyAsync", *words))
        stream.download("y", back)
        stream.wait()
        good = copied.recorded == 1 and np.array_equal(sent, back)
        say(names[1], "ok" if good else "failed", copied.refused or f"{copied.recorded} recorded and replayed")
        copied.close()
        stream.close()


def compiled() -> None:
    """Build an engine for Hopper, which needs no driver: the vendor lists no Hopper for TensorRT for RTX."""
    (name,) = STEPS["compiled"]
    with row(name):
        import tensorrt_rtx as trt

        from ulsam_deploy.device.errors import ExportError
        from ulsam_deploy.runtimes.tensorrt import builder

        kit = BUNDLE / kits()["fp32"]
        known = [each for each in dir(trt.ComputeCapability) if each.startswith("SM")]
        if "SM90" not in known:
            say(name, "seen", f"{trt.__version__} has no SM90, only {', '.join(known)}")
            return
        recipe = builder.EngineRecipe.from_json((kit / "build.json").read_text())
        try:
            built = builder.build(trt, (kit / "model.onnx").read_bytes(), recipe, capability="SM90")
        except ExportError as error:
            say(name, "seen", f"refused: {error.found}")
        else:
            say(name, "seen", f"built, {len(built.plan)} bytes")


def kits() -> dict[str, str]:
    """The folder of the kit of each precision, in the bundle."""
    artifacts = bundle().manifest.artifacts
    return {one.precision: one.files[0].path.rpartition("/")[0] for one in artifacts if one.target == "trt"}


def tensorrt(precision: str) -> None:
    """Build a kit's engine here, check it, time it, and change a byte of it."""
    from ulsam_deploy.device.engines import produce
    from ulsam_deploy.device.errors import RefusedError, UnavailableError
    from ulsam_deploy.device.parity import check, tolerance_of
    from ulsam_deploy.runtimes.tensorrt.runtime import TensorRT

    names = {name.rpartition(": ")[2]: name for name in STEPS[f"tensorrt_{precision}"]}
    record = bundle().artifact("trt", precision)
    with row(*names.values()):
        began = time.perf_counter()
        plan = TensorRT.build(BUNDLE / kits()[precision], PLACE / f"engine-{precision}", force=True)
        say(names.pop("build"), "seen", f"{time.perf_counter() - began:.1f} s, {plan.stat().st_size} bytes")
        side = plan.with_name(plan.name + ".json").read_text()
        if "sidecar" in names:
            say(names.pop("sidecar"), "seen", " ".join(side.split()))
        judged = golden().at(precision)
        with TensorRT([plan], record.inputs, record.outputs) as runtime:
            report = check(judged, produce(runtime, judged.inputs), tolerance=tolerance_of(precision))
            outcome(names.pop("parity"), report)
            say(names.pop("retention"), "seen", " ".join(f"{value:.3f}" for value in report.retentions))
            feed = {spec.name: judged.inputs[spec.name][:1] for spec in record.inputs}
            graph = milliseconds(runtime.prepared(feed))
            facts = runtime.facts()
            runtime._replayed.close()
            runtime._replayed.refused = "switched off to be timed"  # runs as where recording fails
            plain = milliseconds(runtime.prepared(feed))
            details = f"graphs: {facts.details['cuda_graphs']}; layers: {facts.details['layers']}"
            say(names.pop("time"), "seen", f"{graph:.3f} ms with a CUDA graph, {plain:.3f} ms without; {details}")
            if "inner values" in names:
                try:
                    runtime.values(feed)
                except UnavailableError as error:
                    say(names.pop("inner values"), NOT_RUN, f"so no first differing module: {error.found}")
        if "changed engine" in names:
            plan.write_bytes(plan.read_bytes()[:-1] + b"!")
            try:
                with TensorRT([plan], record.inputs, record.outputs):
                    say(names.pop("changed engine"), "failed", "it was opened")
            except RefusedError as error:
                say(names.pop("changed engine"), "ok", f"refused: {error.found[:40]}...")


def outcome(name: str, report: Any) -> None:
    """The row of a parity check."""
    reasons = "; ".join(reason.text for reason in report.reasons)
    words = f"{report.error:.2f} noise floors of {report.tolerance:g} allowed"
    say(name, "ok" if report.verdict.value == "pass" else "failed", f"{words}, {report.verdict.value}; {reasons}"[:600])


def milliseconds(call: Callable[[], object]) -> float:
    """The median time of ``call``."""
    from ulsam_deploy.device.bench.measure import measure

    return float(measure(call, warmup=10, min_seconds=1.0, min_count=100).summary().p50 or 0.0)


def torch_cuda() -> None:
    """Run the checkpoint with cuDNN's kernels: do the tolerances hold on a GPU, and is TF32 caught?"""
    control, exact, fast, timing = STEPS["torch_cuda"]
    with row(*STEPS["torch_cuda"]):
        import torch

        from ulsam_deploy.device.errors import UnavailableError
        from ulsam_deploy.device.parity import check
        from ulsam_deploy.load import source
        from ulsam_deploy.load.options import LoadOptions

        truth = golden()
        network = source.load(LoadOptions(PLACE / "cluttered_digits.pt")).model.eval()
        names = list(truth.outputs)

        def produced(device: str) -> dict[str, Any]:
            inputs = [torch.from_numpy(array).to(device) for array in truth.inputs.values()]
            with torch.inference_mode():
                found = network.to(device)(*inputs)
            flat = found if isinstance(found, (tuple, list)) else (found,)
            return {name: tensor.cpu().numpy() for name, tensor in zip(names, flat)}

        outcome(control, check(truth, produced("cpu")))
        if not torch.cuda.is_available():
            raise UnavailableError(f"torch {torch.__version__} sees no GPU")
        for name, allowed in ((exact, False), (fast, True)):
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
            report = check(truth, produced("cuda"))
            if not allowed:
                outcome(name, report)
            else:  # rounding to 10 bits must not pass for fp32
                caught = report.verdict.value == "fail"
                say(name, "ok" if caught else "failed", f"{report.error:.1f} noise floors, {report.verdict.value}")
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        one = [torch.from_numpy(array[:1]).cuda() for array in truth.inputs.values()]

        def call() -> None:
            with torch.inference_mode():
                network(*one)
            torch.cuda.synchronize()

        say(timing, "seen", f"{milliseconds(call):.3f} ms a call, eager, without copies")


def onnx(provider: str) -> None:
    """Verify the ONNX artifacts on ``provider``, by the command that users call."""
    command = [sys.executable, "-m", "ulsam_deploy", "verify", str(BUNDLE), "--target", "onnx", "--provider", provider]
    names = {name.rpartition(": ")[2]: name for name in STEPS[f"onnx_{provider}"]}
    bundle()
    with row(*names.values()):
        done = subprocess.run([*command, "--json"], capture_output=True, text=True)
        document = json.loads(done.stdout)
        if "artifacts" not in document:
            raise RuntimeError(done.stdout)
        for found in document["artifacts"]:
            name, evidence = names[found["precision"]], found["evidence"]
            if evidence is None:
                say(name, NOT_RUN, " ".join(found["error"].split()))
                continue
            engine, worst = evidence["engine"], max(one["error"] for one in evidence["parity"]["outputs"])
            kernels = ", ".join(f"{count} {key}" for key, count in engine["details"].items())
            words = f"{worst:.2f} noise floors, {evidence['verdict']}; {evidence['latency']['p50']:.3f} ms"
            ran = " ".join(filter(None, (engine["provider"], engine["gpu"])))
            result = "ok" if evidence["verdict"] == "pass" else "failed"
            say(name, result, "; ".join(filter(None, (words, ran, kernels))))


def marked() -> None:
    """Run the project's own tests that need a GPU."""
    (name,) = STEPS["marked"]
    with row(name):
        files = [f"tests/runtimes/test_{name}.py" for name in ("tensorrt", "providers")]
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *files]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if line.startswith(("SKIPPED", "FAILED", "ERROR"))]
        last = (done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        passed = done.returncode == 0 and " passed" in last  # what was skipped is in the detail
        result = "ok" if passed else NOT_RUN if done.returncode in (0, 5) else "failed"
        say(name, result, "; ".join([last, *lines])[:600])


if __name__ == "__main__":
    kind, _, which = STEP.partition("_")
    {
        "machine": machine,
        "cuda": cuda,
        "compiled": compiled,
        "tensorrt": lambda: tensorrt(which),
        "torch": torch_cuda,
        "onnx": lambda: onnx(which),
        "marked": marked,
    }[kind]()
