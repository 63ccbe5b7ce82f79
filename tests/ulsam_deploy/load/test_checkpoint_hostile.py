"""A corpus of hostile checkpoints: each is refused or called broken in a sentence, and none of them runs."""

import io
import json
import os
import pickle
import pickletools
import struct
import time
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ulsam_deploy.device.errors import Exit, ExportError, RefusedError, UlsamError, UsageError
from ulsam_deploy.load.checkpoint import read

MARKER = "marker-of-code-that-ran"
TOUCH = f"open({MARKER!r}, 'w').close()"


class Calls:
    """Pickles to a call of ``function``."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Whole(nn.Module):
    """A network that someone pickled whole."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)


def saved(content, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def archive(members: dict[str, bytes], compression=zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", compression) as out:
        warnings.simplefilter("ignore", UserWarning)  # a duplicate member is what one case is about
        for name, data in members.items():
            out.writestr(name, data)
    return buffer.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        return {name: source.read(name) for name in source.namelist()}


def with_pickle(program: bytes) -> bytes:
    """A torch.save archive whose pickle is ``program``."""
    return archive({"archive/data.pkl": program, "archive/version": b"3\n", "archive/data/0": bytes(64)})


def legacy_with_pickle(program: bytes) -> bytes:
    """A file in torch.save's format before 1.6 whose object is ``program``."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    return b"".join(pickle.dumps(part, 2) for part in head) + program + pickle.dumps([], 2)


def tensor_program(storage_elements: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """The pickle of {"w": tensor} over storage 0 with whatever sizes one likes."""
    numbers = "".join(f"I{n}\n" for n in size)
    strides = "".join(f"I{n}\n" for n in stride)
    return (
        b"\x80\x02}U\x01wctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpu"
        + f"I{storage_elements}\ntQI0\n({numbers}t({strides}tI00\nccollections\nOrderedDict\n)RtRs.".encode()
    )


def modern_tensor_program(storage_elements: int, size: tuple[int, ...], stride: tuple[int, ...], tail=b"") -> bytes:
    """The same in the instructions that torch.save itself writes (its weights-only reader knows no others)."""

    def number(value: int) -> bytes:
        data = pickle.encode_long(value)
        return b"\x8a" + bytes([len(data)]) + data

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    storage = (
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number(storage_elements) + tail
    )
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"tQ" + number(0) + numbers(size) + numbers(stride)
    return b"\x80\x02}" + text("w") + rebuilt + b"\x89ccollections\nOrderedDict\n)RtRs."


def pickled(content) -> bytes:
    return pickle.dumps(content, protocol=2)


def scripted() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is on its way out; its files are not
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


def exported() -> bytes:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), buffer)
    return buffer.getvalue()


def object_array() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, weights=np.array([Calls(exec, TOUCH)], dtype=object))
    return buffer.getvalue()


def tensors(header: dict, body: bytes = b"") -> bytes:
    """A safetensors file with this header."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def meta_tensor() -> bytes:
    return saved({"w": torch.zeros(2, device="meta")})


GOOD = saved({"w": torch.ones(2, 2), "b": torch.zeros(2)})
RUN = (exec, TOUCH)
SYSTEM = (os.system, f"touch {MARKER}")
WEIGHTS = {"w": torch.ones(2)}

#: Programs that would run code, however they get to the call.
PROGRAMS = {
    "os.system": pickled(Calls(*SYSTEM)),
    "exec": pickled({"w": Calls(*RUN)}),
    "eval": pickled([Calls(eval, f"__import__('os').system('touch {MARKER}')")]),
    "INST": f"(S'touch {MARKER}'\nios\nsystem\n.".encode(),
    "OBJ": f"\x80\x02(cos\nsystem\nX{chr(len(MARKER) + 6)}\0\0\0touch {MARKER}o.".encode("latin-1"),
    "protocol 0": pickle.dumps(Calls(*SYSTEM), 0),
    "STACK_GLOBAL": pickle.dumps(Calls(*SYSTEM), 4),
    "STACK_GLOBAL through the memo": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93\x8c\x04true\x85R.",
    "protocol 5": pickle.dumps({"w": Calls(*RUN)}, 5),
    "BUILD": b"\x80\x02cos\nenviron\n}X\x01\0\0\0aX\x01\0\0\0bsb.",
    "EXT": b"\x80\x02\x82\x07.",
    "getattr": pickled(Calls(getattr, "", "join")),
    "torch.load": pickled(Calls(torch.load, MARKER)),
    "torch.jit": pickled(Calls(torch.jit.load, MARKER)),
    "bytearray bomb": pickled(Calls(bytearray, 1 << 40)),
    "tensor bomb": b"\x80\x02ctorch\nFloatTensor\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R.",
    "wrapper subclass": b"\x80\x02ctorch._utils\n_rebuild_wrapper_subclass\n)R.",
    "numpy": pickle.dumps(np.array([Calls(*RUN)], dtype=object), 2),
    "whole network": pickled(Whole()),
}

FILES = {
    **{f"{name} in a zip": with_pickle(program) for name, program in PROGRAMS.items()},
    **{f"{name} in the old format": legacy_with_pickle(program) for name, program in PROGRAMS.items()},
    **{f"{name} as a plain pickle": program for name, program in PROGRAMS.items()},
    "hook in a tensor": saved({"w": torch.ones(2), "hook": Calls(*RUN)}),
    "saved with protocol 4": saved(WEIGHTS, pickle_protocol=4),
    "another pickle in the zip": archive({**members(GOOD), "archive/evil.pkl": pickled(Calls(*RUN))}),
    "another data.pkl": archive({**members(GOOD), "other/data.pkl": pickled(Calls(*RUN))}),
    "data.pkl below": archive({**members(GOOD), "archive/archive/data.pkl": pickled(Calls(*RUN))}),
    "a parent folder in the zip": archive({**members(GOOD), "../escaped": b"x"}),
    "an absolute name in the zip": archive({**members(GOOD), "/tmp/escaped": b"x"}),
    "TorchScript": scripted(),
    "pt2": exported(),
    "npz with an object array": object_array(),
    "legacy module source": legacy_with_pickle(b"\x80\x02(U\x06modulecos\nsystem\nU\x01aU\x01btQ."),
    "second pickle of the old format": pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickled(Calls(*RUN)) * 4,
    "last pickle of the old format": legacy_with_pickle(pickled({}))[:-5] + pickled(Calls(*RUN)),
    "deflated bomb": archive({**members(GOOD), "archive/data/9": bytes(1 << 26)}, zipfile.ZIP_DEFLATED),
    "declared too large": archive(members(GOOD)).replace(
        struct.pack("<II", 16, 16), struct.pack("<II", 1 << 31, 1 << 31)
    ),
    "storage larger than its record": with_pickle(modern_tensor_program(1 << 40, (1 << 40,), (1,))),
    "storage somewhat larger than its record": with_pickle(modern_tensor_program(1000, (1000,), (1,))),
    "view past its storage": with_pickle(modern_tensor_program(16, (1000,), (1,))),
    "stride of zero": with_pickle(modern_tensor_program(16, (1 << 40,), (0,))),
    "negative size": with_pickle(modern_tensor_program(16, (-4,), (1,))),
    "negative storage": with_pickle(modern_tensor_program(-16, (4,), (1,))),
    "overflowing size": with_pickle(modern_tensor_program(16, (1 << 62, 1 << 62), (0, 0))),
    "text opcodes": with_pickle(tensor_program(16, (4,), (1,))),
    "old format, huge storage": legacy_with_pickle(modern_tensor_program(1 << 50, (4,), (1,), b"N")),
    "old format, storage that is never filled": legacy_with_pickle(
        modern_tensor_program(1 << 30, (1 << 30,), (1,), b"N")
    ),
    "overlapping members": archive({f"archive/data/{n}": bytes(9000) for n in range(3)} | members(GOOD)).replace(
        struct.pack("<II", 9000, 9000), struct.pack("<II", 20_000, 20_000)
    ),
    "deep tuple": with_pickle(b"\x80\x02})" + b"\x85" * 900_000 + b"K\x01s."),
    "deep tuple, old format": legacy_with_pickle(b"\x80\x02})" + b"\x85" * 900_000 + b"K\x01s."),
    "deep list": with_pickle(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
    "huge pickle": with_pickle(b"\x80\x02" + b"N0" * (1 << 20) + b"N."),
    "stack underflow": with_pickle(b"\x80\x02R."),
    "no such memo": with_pickle(b"\x80\x02h\x07."),
    "meta tensor": meta_tensor(),
    "sparse tensor": saved({"w": torch.eye(2).to_sparse()}),
    "complex tensor": saved({"w": torch.zeros(2, dtype=torch.complex64)}),
    "escape sequence in a key": saved({"\x1b[2Jw": torch.ones(1)}),
    "lone surrogate in a key": saved({"\ud800w": torch.ones(1)}),
    "endless key": saved({"w" * 100_000: torch.ones(1)}),
    "no tensors": saved({"epoch": 3, "name": "x"}),
    "a list": saved([torch.ones(2)]),
    "a tensor": saved(torch.ones(2)),
    "numbered": saved({1: torch.ones(2)}),
    "wrapped for ever": saved({"model": {"model": {"model": {"model": {"model": {"model": WEIGHTS}}}}}}),
    "safetensors, endless header": struct.pack("<Q", 1 << 60) + b"{" + bytes(100),
    "safetensors, nested header": struct.pack("<Q", 200_000) + b'{"a":' + b"[" * 199_995,
    "safetensors, past its end": tensors({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
    "safetensors, wrong size": tensors({"w": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}, bytes(4)),
    "safetensors, overlap": tensors(
        {k: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for k in "ab"}, bytes(4)
    ),
    "safetensors, empty": tensors({}),
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "web page": b"<!DOCTYPE html><html></html>",
    "empty zip": b"PK\x05\x06" + bytes(18),
    "zip magic alone": b"PK\x03\x04",
    "one byte": b"\x80",
    "random": np.random.RandomState(0).bytes(5000),
    "text": b"these are not the weights you are looking for\n" * 9,
    "zeros": bytes(4096),
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_refused_in_a_sentence_and_nothing_runs(name: Any) -> None:
    Path("model.pt").write_bytes(FILES[name])
    began = time.process_time()
    with pytest.raises(UlsamError) as caught:
        read("model.pt")
    assert caught.value.exit_code in (Exit.REFUSED, Exit.EXPORT_FAILED)
    assert str(caught.value).isprintable() or str(caught.value).replace("\n", "").isprintable()
    assert "model.pt" in str(caught.value)
    assert len(str(caught.value)) < 2500
    assert os.listdir() == ["model.pt"]  # noqa: PTH208 - no marker, nothing unpacked
    assert time.process_time() - began < 20


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in ("BUILD", "EXT")])
def test_programs_are_refused_as_such(name: Any) -> None:
    Path("model.pt").write_bytes(with_pickle(PROGRAMS[name]))
    with pytest.raises(RefusedError):
        read("model.pt")


@pytest.mark.parametrize("program", ["os.system", "exec", "protocol 0"])
def test_the_corpus_is_live(program: str) -> None:
    """The same files do run when they are trusted: the marker would be seen."""
    Path("model.pt").write_bytes(with_pickle(PROGRAMS[program]))
    with pytest.raises(UlsamError):
        read("model.pt", trust_pickle=True)
    assert Path(MARKER).exists()


def test_refusal_lists_the_globals_and_the_flags() -> None:
    Path("model.pt").write_bytes(saved({"w": torch.ones(1), "a": Calls(*SYSTEM), "b": Calls(*RUN)}))
    with pytest.raises(RefusedError) as caught:
        read("model.pt")
    words = str(caught.value)
    for expected in ("posix.system", "builtins.exec", "--allow-global builtins.exec", "--trust-pickle"):
        assert expected in words


@pytest.mark.parametrize("name", ["os.system", "posix.system", "builtins.exec", "subprocess.Popen", "runpy.run_path"])
def test_what_gives_full_power_cannot_be_allowed_alone(name: str) -> None:
    module, function = name.rsplit(".", 1)
    Path("model.pt").write_bytes(with_pickle(f"\x80\x02c{module}\n{function}\n(X\x01\0\0\0xtR.".encode("latin-1")))
    with pytest.raises(RefusedError):
        read("model.pt", allow_globals=[name, "posix.system"])
    assert not Path(MARKER).exists()


def test_allowing_one_global_does_not_allow_another() -> None:
    Path("model.pt").write_bytes(
        saved({"w": torch.ones(1), "a": Calls(*SYSTEM), "f": __import__("fractions").Fraction})
    )
    with pytest.raises(RefusedError, match=r"posix\.system"):
        read("model.pt", allow_globals=["fractions.Fraction"])


def test_allowing_lasts_for_one_read() -> None:
    Path("model.pt").write_bytes(saved({"w": torch.ones(1), "when": __import__("datetime").date(2020, 1, 2)}))
    before = torch.serialization.get_safe_globals()
    with pytest.raises(RefusedError, match=r"--allow-global datetime\.date"):
        read("model.pt")
    assert list(read("model.pt", allow_globals=["datetime.date"]).tensors) == ["w"]
    assert torch.serialization.get_safe_globals() == before
    with pytest.raises(RefusedError):
        read("model.pt")


def test_allowing_what_does_not_exist() -> None:
    Path("model.pt").write_bytes(with_pickle(b"\x80\x02cno.such.module\nThing\n."))
    with pytest.raises(UsageError, match="no"):
        read("model.pt", allow_globals=["no.such.module.Thing"])


def test_trust_reads_a_whole_network() -> None:
    Path("model.pt").write_bytes(saved({"model": Whole(), "epoch": 2}))
    found = read("model.pt", trust_pickle=True)
    assert sorted(found.tensors) == ["layer.bias", "layer.weight"]
    assert found.metadata == {"epoch": 2}


@pytest.mark.parametrize("make", [scripted, exported])
def test_trust_does_not_turn_a_program_into_weights(make: Any) -> None:
    Path("model.pt").write_bytes(make())
    with pytest.raises(ExportError, match="not a state_dict"):
        read("model.pt", trust_pickle=True)


def test_attributes_of_a_pickled_dictionary_do_not_shadow_its_methods() -> None:
    weights: Any = OrderedDict(w=torch.zeros(2))
    weights.xtems = weights.xeys = weights.xalues = "shadowed"
    data = members(saved({"state_dict": weights, "epoch": 1}))
    for name in (b"items", b"keys", b"values"):
        data["archive/data.pkl"] = data["archive/data.pkl"].replace(b"x" + name[1:], name)
    Path("model.pt").write_bytes(archive(data))
    assert b"keys" in data["archive/data.pkl"]
    assert list(read("model.pt").tensors) == ["w"]


def test_shared_references_do_not_multiply() -> None:
    bomb: list[Any] = [0]
    for _ in range(60):
        bomb = [bomb, bomb]
    Path("model.pt").write_bytes(saved({"model": {"w": torch.ones(1)}, "bomb": bomb, "epoch": 1}))
    assert read("model.pt").metadata == {"epoch": 1}


def test_environment_cannot_turn_the_lock_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    Path("model.pt").write_bytes(with_pickle(PROGRAMS["exec"]))
    with pytest.raises(RefusedError):
        read("model.pt")
    assert not Path(MARKER).exists()


def test_every_opcode_can_be_followed() -> None:
    """The scanner pops and pushes what pickletools says for each instruction that Python's own pickler writes."""
    from ulsam_deploy.load.checkpoint.pickles import scan

    content = {
        "a": [1, 2.5, 1 << 80, b"x", "y", None, True],
        "s": {1, 2},
        "f": frozenset("ab"),
        "t": ((), (1, 2, 3, 4)),
    }
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(content, protocol)
        found = scan(io.BytesIO(data)).globals
        named = {argument for opcode, argument, _ in pickletools.genops(data) if opcode.name == "GLOBAL"}
        assert len(found) >= len(named)
        assert found <= {"builtins.set", "builtins.frozenset", "_codecs.encode"}


def test_a_name_with_an_unknown_escape_is_damage_and_no_warning() -> None:
    from ulsam_deploy.load.checkpoint.pickles import scan

    with pytest.raises(ValueError, match="a name in its pickle cannot be read"):
        scan(io.BytesIO(b"c\\Os\nsystem\n."))


def test_a_mark_is_no_name() -> None:
    from ulsam_deploy.load.checkpoint.pickles import scan

    with pytest.raises(ValueError, match="do not fit together"):
        scan(io.BytesIO(b"\x80\x04(\x8c\x01a\x93."))
