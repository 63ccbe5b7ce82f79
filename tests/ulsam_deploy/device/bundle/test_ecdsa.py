"""Checking ECDSA against Project Wycheproof's vectors: every valid signature passes, every other one doesn't."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.device.bundle.ecdsa import CURVES, PublicKey, _times
from ulsam_deploy.device.errors import UsageError

VECTORS = json.loads(gzip.decompress((Path(__file__).parents[3] / "data" / "wycheproof_ecdsa.json.gz").read_bytes()))


@pytest.mark.parametrize("curve", ["secp256r1", "secp384r1", pytest.param("secp521r1", marks=pytest.mark.slow)])
def test_wycheproof(curve: str) -> None:
    tried = 0
    for group in VECTORS[curve]:
        key = PublicKey.from_pem(group["key"])
        assert key.pem.strip() == group["key"].strip()
        for number, message, signature, valid in group["tests"]:
            assert key.verifies(bytes.fromhex(signature), bytes.fromhex(message)) is valid, f"{curve} {number}"
            tried += 1
    assert tried >= 480


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: f"P-{curve.p.bit_length()}")
def test_the_numbers_of_a_curve_belong_together(curve: Any) -> None:
    x, y = curve.g
    assert (y * y - x**3 + 3 * x - curve.b) % curve.p == 0
    assert _times(curve.order, (x, y, 1), curve.p)[2] == 0
    assert _times(curve.order + 1, (x, y, 1), curve.p)[2] != 0


GOOD = VECTORS["secp256r1"][0]["key"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no public key in PEM"),
        (GOOD.replace("PUBLIC", "PRIVATE"), "no public key in PEM"),
        (GOOD + GOOD, "no public key in PEM"),
        (GOOD.replace("MFkw", "MFk"), "is damaged"),
        (GOOD.replace("MFkw", "MFkx"), "of another kind"),
        ("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
         "-----END PUBLIC KEY-----\n", "of another kind"),
    ],
)  # fmt: skip
def test_what_is_no_key_is_told(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        PublicKey.from_pem(text)


def test_a_point_beside_the_curve_is_no_key() -> None:
    key = PublicKey.from_pem(GOOD)
    with pytest.raises(UsageError, match="no point of its curve"):
        PublicKey.from_pem(PublicKey(key.curve, key.x, key.y ^ 1).pem)
