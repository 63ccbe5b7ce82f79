"""The plugin's two halves: which class an instruction belongs to, and what is made of the lines that it writes."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from ulsam_deploy.boards.emulate import plugin
from ulsam_deploy.boards.emulate.guest import BEGIN, EMPTY, END, FIRST, STEADY
from ulsam_deploy.device.errors import UnavailableError

CLASSES = {name: 1 << bit for bit, name in enumerate(plugin.CLASSES)}
#: Encodings as an assembler writes them.
INSTRUCTIONS = {
    "add x0, x1, x2": (0x8B020020, []),
    "movz x0, #1": (0xD2800020, []),
    "nop": (0xD503201F, []),
    "svc #0": (0xD4000001, []),
    "mrs x0, midr_el1": (0xD5380000, []),
    "b.ne .": (0x54000001, ["branch"]),
    "bl .": (0x94000000, ["branch"]),
    "ret": (0xD65F03C0, ["branch"]),
    "blr x0": (0xD63F0000, ["branch"]),
    "cbz x0, .": (0xB4000000, ["branch"]),
    "tbz w0, #0, .": (0x36000000, ["branch"]),
    "ldr x0, [x1]": (0xF9400020, ["load_store"]),
    "ldr q0, [x1]": (0x3DC00020, ["load_store"]),
    "stp x29, x30, [sp, #-16]!": (0xA9BF7BFD, ["load_store"]),
    "ld1 {v0.4s}, [x0]": (0x4C407800, ["load_store"]),
    "fadd v0.4s, v1.4s, v2.4s": (0x4E22D420, ["simd"]),
    "fmul v0.4s, v1.4s, v2.4s": (0x6E22DC20, ["simd"]),
    "mul v0.4s, v1.4s, v2.4s": (0x4EA29C20, ["simd"]),
    "movi v0.4s, #0": (0x4F000400, ["simd"]),
    "fadd s0, s1, s2": (0x1E222820, ["simd"]),
    "fmla v0.4s, v1.4s, v2.4s": (0x4E22CC20, ["simd", "fma"]),
    "fmls v0.4s, v1.4s, v2.4s": (0x4EA2CC20, ["simd", "fma"]),
    "fmla v0.8h, v1.8h, v2.8h": (0x4E420C20, ["simd", "fma"]),
    "fmla v0.4s, v1.4s, v2.s[0]": (0x4F821020, ["simd", "fma"]),
    "fmadd s0, s1, s2, s3": (0x1F020C20, ["simd", "fma"]),
    "sdot v0.4s, v1.16b, v2.16b": (0x4E829420, ["simd", "dot_product"]),
    "udot v0.4s, v1.16b, v2.16b": (0x6E829420, ["simd", "dot_product"]),
    "sdot v0.4s, v1.16b, v2.4b[0]": (0x4F82E020, ["simd", "dot_product"]),
}


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ULSAM_DEPLOY_CACHE", str(tmp_path_factory.mktemp("cache")))
        library = plugin.compiled("qemu-aarch64")
        assert plugin.compiled("qemu-aarch64") == library  # the second time it is there
    function = ctypes.CDLL(str(library), mode=os.RTLD_LAZY).icount_classes  # qemu's own functions are never called
    function.argtypes, function.restype = [ctypes.c_uint32], ctypes.c_uint
    return function


@pytest.mark.needs("cc", "qemu-aarch64")
@pytest.mark.parametrize("words", INSTRUCTIONS)
def test_an_instruction_belongs_to_its_classes(words: str, classes: object) -> None:
    code, expected = INSTRUCTIONS[words]
    assert classes(code) == sum(CLASSES[name] for name in expected)


def lines(*marks: tuple[int, int]) -> str:
    return "".join(f"mark {mark} {total} {total // 2} 0 0 0 0\n" for mark, total in marks)


def test_a_phase_is_what_lies_between_its_marks_less_the_marks_themselves() -> None:
    text = lines(
        *((BEGIN | EMPTY, 0), (END | EMPTY, 99)),  # the first one is not the one that counts
        *((BEGIN | EMPTY, 100), (END | EMPTY, 110)),
        *((BEGIN | FIRST, 200), (END | FIRST, 400)),
        *((BEGIN | STEADY, 500), (END | STEADY, 610), (BEGIN | STEADY, 700), (END | STEADY, 830)),
    )
    tally = plugin.read_tally(text + "at 7f00 60\nat 7f00 5\nat 8000 7\n")
    assert [run[0] for run in tally.phases[FIRST]] == [190]
    assert [run[:2] for run in tally.phases[STEADY]] == [(100, 50), (120, 60)]
    assert tally.places == {0x7F00: 65, 0x8000: 7}


@pytest.mark.parametrize("text", ["", lines((BEGIN | EMPTY, 0), (END | EMPTY, 1), (BEGIN | FIRST, 2))])
def test_half_a_run_is_none(text: str) -> None:
    with pytest.raises(UnavailableError, match="no complete run"):
        plugin.read_tally(text)


def test_a_qemu_without_plugins_is_named(tmp_path: Path) -> None:
    old = tmp_path / "qemu"
    old.write_text("#!/bin/sh\necho no such thing\n")
    old.chmod(0o755)
    with pytest.raises(UnavailableError, match="without plugins"):
        plugin.arguments(tmp_path / "p.so", str(old), tmp_path / "out")
