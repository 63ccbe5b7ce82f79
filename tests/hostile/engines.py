"""Artifacts in a bundle whose hashes all fit, as a stranger would make one: cut, wrong offsets, huge sizes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ulsam_deploy.device.errors import Exit

from ..ulsam_deploy.handmade import make_bundle
from .bundles import copied, resealed
from .inputs import REFUSED, Input

#: A file that an engine opens in spite of the damage gives other numbers: a check that fails is as good an end.
JUDGED = REFUSED | {int(Exit.CHECK_FAILED)}
STEP = 64


def inputs(stock: Path) -> Iterator[Input]:
    """Flatbuffers and protobufs cut at every 64 bytes, IR that points elsewhere, sizes beyond everything."""
    bundle = make_bundle(stock / "small.bundle", width=16, batch=1).root
    for target, name in (
        ("tflite", "tflite/model.tflite"),
        ("onnx", "onnx/model.onnx"),
        ("openvino", "openvino/model.bin"),
    ):
        data = (bundle / name).read_bytes()
        for cut in range(0, len(data), STEP):
            yield _input(bundle, f"{target} cut", f"at {cut}", target, {name: data[:cut]})
    ir = (bundle / "openvino/model.xml").read_text()
    for cut in range(0, len(ir), STEP * 4):
        yield _input(bundle, "IR cut", f"at {cut}", "openvino", {"openvino/model.xml": ir[:cut].encode()})
    for name, change in IR.items():
        changed = change(ir)
        assert changed != ir, name
        # OpenVINO leaves entities unread: such a file is what it would be without them.
        judged = name in ("billion laughs", "external entity")
        yield _input(bundle, "IR", name, "openvino", {"openvino/model.xml": changed.encode()}, judged=judged)
    flat = (bundle / "tflite/model.tflite").read_bytes()
    for place in range(0, len(flat), STEP):
        for name, word in (("offset", b"\xff\xff\xff\x7f"), ("negative", b"\xff\xff\xff\xff")):
            spoiled = flat[:place] + word + flat[place + 4 :]
            yield _input(
                bundle,
                "flatbuffer offsets",
                f"{name} at {place}",
                "tflite",
                {"tflite/model.tflite": spoiled},
                judged=True,
            )


def _input(
    bundle: Path, kind: str, name: str, target: str, members: dict[str, bytes], *, judged: bool = False
) -> Input:
    make = partial(_verify, bundle, target, members)
    return Input(kind, name, make, JUDGED | {0, 5} if judged else JUDGED)


def _verify(bundle: Path, target: str, members: dict[str, bytes], folder: Path) -> list[str]:
    root = copied(bundle, folder)
    for name, data in members.items():
        resealed(root, name, data)
    return ["verify", root.name, "--target", target, "--memory-limit", "4", "--time-limit", "60"]


def _attribute(name: str, value: str) -> Callable[[str], str]:
    return lambda text: re.sub(rf'(?<=\b{name}=")[^"]*', value, text)


IR: dict[str, Callable[[str], str]] = {
    "offset past the end": _attribute("offset", str(1 << 40)),
    "offset near the end": _attribute("offset", "1000"),
    "negative offset": _attribute("offset", "-8"),
    "overflowing offset": _attribute("offset", str((1 << 64) - 8)),
    "size past the end": _attribute("size", str(1 << 40)),
    "size of nothing": _attribute("size", "0"),
    "negative size": _attribute("size", "-1"),
    "huge shape": _attribute("shape", "1000000,1000000,1000"),
    "overflowing shape": _attribute("shape", "4294967296,4294967296"),
    "negative shape": _attribute("shape", "-3,-16"),
    "shape that is no number": _attribute("shape", "a,b"),
    "unknown operation": _attribute("type", "Nothing"),
    "edge from nowhere": _attribute("from-layer", "99999"),
    "edge to itself": lambda text: re.sub(r'to-layer="\d+"', 'to-layer="0"', text),
    "unknown element type": _attribute("element_type", "f99"),
    "version of tomorrow": lambda text: text.replace('version="11"', 'version="999"', 1),
    "billion laughs": lambda text: text.replace(
        "<net ",
        '<!DOCTYPE lolz [<!ENTITY a "ha">' + "".join(
            f'<!ENTITY {chr(98 + i)} "{("&" + chr(97 + i) + ";") * 10}">' for i in range(9)
        ) + "]>\n<net ", 1,
    ).replace('name="', 'name="&j;', 1),
    "external entity": lambda text: text.replace(
        "<net ", '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>\n<net ', 1
    ).replace('name="', 'name="&e;', 1),
    "deep": lambda text: text.replace("<layers>", "<layers>" + "<layer>" * 100_000, 1),
}  # fmt: skip
