"""The precisions that an artifact can be made in, and what each needs. Standard library only; device-safe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ulsam_deploy.device.spelling import folded, unknown

#: The precisions of artifacts. ``int8-dynamic``: weights in int8, ranges of everything else determined at run time.
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int8-dynamic")


#: Their aliases, folded.
_PRECISION_WORDS: Mapping[str, str] = {
    **dict.fromkeys(("float32", "float", "f32", "single"), "fp32"),
    **dict.fromkeys(("float16", "f16", "half"), "fp16"),
    "bfloat16": "bf16",
    "i8": "int8",
    **dict.fromkeys(("dynamicint8", "dynamic"), "int8-dynamic"),
}


#: The fastest of them within the budget: see :mod:`ulsam_deploy.exporting.search`.
AUTO = "auto"
#: Those that it tries.
SEARCHED = ("fp32", "fp16", "int8", "int8-dynamic")


#: Those that take ranges from real inputs, and what to do without any.
CALIBRATED = ("int8",)


QUANTIZED = ("int8", "int8-dynamic")


NO_CALIBRATION = (
    "give some hundred inputs like the real ones with --calibration FILE.npz|DIR; "
    "'--precision int8-dynamic' (tflite) needs none"
)


def parse_precisions(text: str) -> tuple[str, ...]:
    """``fp32,int8`` as ``("fp32", "int8")``, or :data:`AUTO`; raises :class:`UsageError` as :func:`parse_precision`."""
    return tuple(dict.fromkeys(parse_precision(word, (*PRECISIONS, AUTO)) for word in text.split(",")))


def parse_precision(text: str, known: Sequence[str] = PRECISIONS) -> str:
    """The precision that ``text`` means: ``fp16`` for ``half``.

    Args:
        text: A name or an alias, in any case.
        known: The precisions that it may be.

    Returns:
        One of ``known``.

    Raises:
        UsageError: It means none of them.
    """
    spellings = {folded(name): name for name in known}
    spellings |= {word: name for word, name in _PRECISION_WORDS.items() if name in known}
    if folded(text) in spellings:
        return spellings[folded(text)]
    near = dict.fromkeys([*known, *spellings])
    raise unknown(f"no precision is called '{text}'", text, near, expected=", ".join(known))
