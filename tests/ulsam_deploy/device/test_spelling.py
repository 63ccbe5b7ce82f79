"""Which word was meant: one function for it, and every place that it is for."""

from __future__ import annotations

import pytest

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.precisions import parse_precision, parse_precisions
from ulsam_deploy.device.spelling import nearest, other_number, unknown


@pytest.mark.parametrize(
    ("word", "known", "found"),
    [
        ("onx", ("onnx", "openvino"), "onnx"),
        ("ONX", ("onnx",), "onnx"),
        ("tagret", ("--target", "target", "tune"), "target"),
        ("nothing", ("onnx", "trt"), ""),
        ("x", (), ""),
    ],
)
def test_the_nearest_word(word: str, known: tuple[str, ...], found: str) -> None:
    assert nearest(word, known) == found


@pytest.mark.parametrize(
    ("word", "found"), [("target", "targets"), ("cpus", "cpu"), ("class", "classes"), ("targets", ""), ("x", "")]
)
def test_singular_and_plural(word: str, found: str) -> None:
    assert other_number(word, ("targets", "cpu", "classes")) == found


def test_the_error_asks_for_the_nearest_and_lists_all() -> None:
    error = unknown("no fruit is called 'aple'", "aple", ["pear", "apple"], todo="buy one")
    assert error.found == "no fruit is called 'aple'; did you mean 'apple'?"
    assert (error.expected, error.todo) == ("pear, apple", "buy one")
    assert unknown("no fruit is called 'x'", "x", ["pear"], expected="").found == "no fruit is called 'x'"


@pytest.mark.parametrize(
    ("word", "precision"),
    [
        *(("fp32", "fp32"), ("float32", "fp32"), ("Float-32", "fp32")),
        *(("half", "fp16"), ("float16", "fp16"), ("FP16", "fp16"), (" f16 ", "fp16")),
        *(("bfloat16", "bf16"), ("BF16", "bf16")),
        *(("INT8", "int8"), ("i8", "int8"), ("int8_dynamic", "int8-dynamic"), ("dynamic-int8", "int8-dynamic")),
    ],
)
def test_what_people_call_a_precision(word: str, precision: str) -> None:
    assert parse_precision(word) == precision


def test_several_precisions_each_once() -> None:
    assert parse_precisions("half,INT8, fp16,Auto") == ("fp16", "int8", "auto")


@pytest.mark.parametrize(("word", "near"), [("itn8", "int8"), ("flaot16", "float16"), ("auto", "")])
def test_no_precision(word: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"no precision is called '{word}'") as caught:
        parse_precision(word)
    assert (f"did you mean '{near}'?" if near else "did you mean") in caught.value.found or not near
    assert "fp32, fp16, bf16, int8, int8-dynamic" in caught.value.expected
