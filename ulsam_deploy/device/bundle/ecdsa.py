"""Checks ECDSA signatures with the standard library alone, so that a device needs no cryptography package.

Checking uses public numbers only, so this code need not run in constant time. *Making* a signature must, and is done by
a library (:mod:`ulsam_deploy.exporting.signing`). Curves, formulas: FIPS 186-5 and SP 800-186; encodings: RFC 5480
(key), RFC 3279 (signature), strictly DER. Tested against Project Wycheproof. Device-safe.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from ulsam_deploy.device.errors import UsageError

__all__ = ["PublicKey"]

Point = tuple[int, int, int]  # Jacobian coordinates: the point (x / z^2, y / z^3), or the neutral element if z is 0


@dataclass(frozen=True)
class Curve:
    """y^2 = x^3 - 3 x + b over the integers modulo ``p``; the point ``g`` has the prime ``order``."""

    p: int
    b: int
    g: tuple[int, int]
    order: int
    digest: str
    oid: bytes

    @property
    def size(self) -> int:
        """Bytes of one coordinate."""
        return (self.p.bit_length() + 7) // 8


CURVES = (
    Curve(
        p=2**256 - 2**224 + 2**192 + 2**96 - 1,
        b=0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
        g=(
            0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
            0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
        ),
        order=0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
        digest="sha256",
        oid=bytes.fromhex("06082a8648ce3d030107"),
    ),
    Curve(
        p=2**384 - 2**128 - 2**96 + 2**32 - 1,
        b=0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
        g=(
            0xAA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7,
            0x3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F,
        ),
        order=0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
        digest="sha384",
        oid=bytes.fromhex("06052b81040022"),
    ),
    Curve(
        p=2**521 - 1,
        b=int(
            "0051953EB9618E1C9A1F929A21A0B68540EEA2DA725B99B315F3B8B489918EF109E156193951EC7E937B1652C0BD3BB1BF0735"
            "73DF883D2C34F1EF451FD46B503F00",
            16,
        ),
        g=(
            int(
                "00C6858E06B70404E9CD9E3ECB662395B4429C648139053FB521F828AF606B4D3DBAA14B5E77EFE75928FE1DC127A2FFA8DE"
                "3348B3C1856A429BF97E7E31C2E5BD66",
                16,
            ),
            int(
                "011839296A789A3BC0045C8A5FB42C7D1BD998F54449579B446817AFBD17273E662C97EE72995EF42640C550B9013FAD0761"
                "353C7086A272C24088BE94769FD16650",
                16,
            ),
        ),
        order=2**521 - 0x5AE79787C40D069948033FEB708F65A2FC44A36477663B851449048E16EC79BF7,
        digest="sha512",
        oid=bytes.fromhex("06052b81040023"),
    ),
)
_EC_PUBLIC_KEY = bytes.fromhex("06072a8648ce3d0201")
_ARMOUR = re.compile(r"-----BEGIN PUBLIC KEY-----\s+([A-Za-z0-9+/=\s]+?)-----END PUBLIC KEY-----\s*")


@dataclass(frozen=True)
class PublicKey:
    """A point on one of the curves P-256, P-384 and P-521."""

    curve: Curve
    x: int
    y: int

    @classmethod
    def from_pem(cls, text: str) -> PublicKey:
        """Read ``-----BEGIN PUBLIC KEY-----``; raises :class:`UsageError` for any other kind of key or text."""
        found = _ARMOUR.fullmatch(text.strip() + "\n")
        if found is None:
            raise UsageError("it holds no public key in PEM", expected="-----BEGIN PUBLIC KEY-----")
        try:
            der = base64.b64decode("".join(found[1].split()), validate=True)
        except binascii.Error as error:
            raise UsageError("its public key is damaged") from error
        for curve in CURVES:
            head = _subject_key_head(curve)
            if der.startswith(head) and len(der) == len(head) + 2 * curve.size:
                x, y = (int.from_bytes(half, "big") for half in _halves(der[len(head) :]))
                if max(x, y) >= curve.p or (y * y - (x * x * x - 3 * x + curve.b)) % curve.p:
                    raise UsageError("its public key is no point of its curve")
                return cls(curve, x, y)
        raise UsageError("its public key is of another kind", expected="an elliptic curve key: P-256, P-384 or P-521")

    @property
    def pem(self) -> str:
        """The canonical PEM text of this key."""
        size = self.curve.size
        der = _subject_key_head(self.curve) + self.x.to_bytes(size, "big") + self.y.to_bytes(size, "big")
        body = base64.b64encode(der).decode()
        lines = [body[start : start + 64] for start in range(0, len(body), 64)]
        return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of :attr:`pem` in hexadecimal digits, which identifies a key in the OpenSSF format."""
        return hashlib.sha256(self.pem.encode()).hexdigest()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether ``signature``, in DER, was made over ``message`` by the owner of this key (FIPS 186-5, 6.4.2)."""
        numbers = _read_signature(signature)
        order = self.curve.order
        if numbers is None or not all(0 < number < order for number in numbers):
            return False
        r, s = numbers
        digest = hashlib.new(self.curve.digest, message).digest()
        e = int.from_bytes(digest, "big") >> max(0, 8 * len(digest) - order.bit_length())
        inverse = pow(s, -1, order)
        p = self.curve.p
        x, _, z = _add(
            _times(e * inverse % order, (*self.curve.g, 1), p), _times(r * inverse % order, (self.x, self.y, 1), p), p
        )
        return z != 0 and x * pow(z, -2, p) % p % order == r


def _subject_key_head(curve: Curve) -> bytes:
    """The bytes of a SubjectPublicKeyInfo before the coordinates of its uncompressed point."""
    algorithm = _der(0x30, _EC_PUBLIC_KEY + curve.oid)
    bits = _der_head(0x03, 2 + 2 * curve.size) + b"\0\x04"
    return _der_head(0x30, len(algorithm) + len(bits) + 2 * curve.size) + algorithm + bits


def _der(tag: int, content: bytes) -> bytes:
    return _der_head(tag, len(content)) + content


def _der_head(tag: int, length: int) -> bytes:
    return bytes([tag, length]) if length < 0x80 else bytes([tag, 0x81, length])


def _halves(data: bytes) -> tuple[bytes, bytes]:
    return data[: len(data) // 2], data[len(data) // 2 :]


def _read_signature(data: bytes) -> tuple[int, int] | None:
    """r and s, or ``None`` unless ``data`` is exactly their DER encoding."""
    at = 3 if data[1:2] == b"\x81" else 2
    numbers = []
    for _ in range(2):
        length = int.from_bytes(data[at + 1 : at + 2], "big")
        numbers.append(int.from_bytes(data[at + 2 : at + 2 + length], "big", signed=True))
        at += 2 + length
    r, s = numbers
    if r < 0 or s < 0 or max(r, s).bit_length() > 600:
        return None
    return (r, s) if _der(0x30, _integer(r) + _integer(s)) == data else None


def _integer(number: int) -> bytes:
    return _der(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _double(point: Point, p: int) -> Point:
    x, y, z = point
    if not y or not z:
        return (0, 1, 0)
    delta, gamma = z * z % p, y * y % p
    beta, alpha = x * gamma % p, 3 * (x - delta) * (x + delta) % p
    new_x = (alpha * alpha - 8 * beta) % p
    return new_x, (alpha * (4 * beta - new_x) - 8 * gamma * gamma) % p, 2 * y * z % p


def _add(one: Point, other: Point, p: int) -> Point:
    (x1, y1, z1), (x2, y2, z2) = one, other
    if not z1 or not z2:
        return other if not z1 else one
    zz1, zz2 = z1 * z1 % p, z2 * z2 % p
    u1, u2, s1, s2 = x1 * zz2 % p, x2 * zz1 % p, y1 * z2 * zz2 % p, y2 * z1 * zz1 % p
    if u1 == u2:
        return _double(one, p) if s1 == s2 else (0, 1, 0)
    h, r = (u2 - u1) % p, (s2 - s1) % p
    hh = h * h % p
    hhh, v = h * hh % p, u1 * hh % p
    x = (r * r - hhh - 2 * v) % p
    return x, (r * (v - x) - s1 * hhh) % p, h * z1 * z2 % p


def _times(factor: int, point: Point, p: int) -> Point:
    total: Point = (0, 1, 0)
    for bit in bin(factor)[2:]:
        total = _double(total, p)
        if bit == "1":
            total = _add(total, point, p)
    return total
