"""Signatures: only the right key over exactly these files passes, and a signature is no way around the member list."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device.bundle import MANIFEST, SIGNATURE, Bundle, pack, read_bundle, unpack
from ulsam_deploy.device.bundle.ecdsa import CURVES, PublicKey, _der, _integer, _times
from ulsam_deploy.device.bundle.signature import check_signature, read_public_key
from ulsam_deploy.device.errors import RefusedError, UsageError

SECRET = 0x1234567890ABCDEF1234567890ABCDEF
KIND = "application/vnd.in-toto+json"


def public(secret: int) -> PublicKey:
    curve = CURVES[0]
    x, y, z = _times(secret, (*curve.g, 1), curve.p)
    return PublicKey(curve, x * pow(z, -2, curve.p) % curve.p, y * pow(z, -3, curve.p) % curve.p)


def ecdsa(secret: int, message: bytes) -> bytes:
    """A signature; its nonce is nothing but the message's digest, which is no way to keep a secret."""
    curve = CURVES[0]
    e = int.from_bytes(hashlib.sha256(message).digest(), "big")
    nonce = e % curve.order
    x, _, z = _times(nonce, (*curve.g, 1), curve.p)
    r = x * pow(z, -2, curve.p) % curve.p % curve.order
    return _der(0x30, _integer(r) + _integer(pow(nonce, -1, curve.order) * (e + r * secret) % curve.order))


def statement(root: Path) -> dict[str, Any]:
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.name != SIGNATURE)
    resources = [
        {"name": p.relative_to(root).as_posix(), "algorithm": "sha256",
         "digest": hashlib.sha256(p.read_bytes()).hexdigest()}
        for p in files
    ]  # fmt: skip
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "x", "digest": {"sha256": "0" * 64}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {"serialization": {"method": "files", "hash_type": "sha256"}, "resources": resources},
    }


def envelope(plain: Any, secret: int = SECRET) -> dict[str, Any]:
    payload = json.dumps(plain).encode()
    signed = b"DSSEv1 %d %s %d %s" % (len(KIND), KIND.encode(), len(payload), payload)
    return {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "whatever"}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": KIND,
            "signatures": [{"sig": base64.b64encode(ecdsa(secret, signed)).decode(), "keyid": ""}],
        },
    }


def sign(root: Path, secret: int = SECRET) -> None:
    (root / SIGNATURE).write_text(json.dumps(envelope(statement(root), secret)))


@pytest.fixture
def signed(bundle: Bundle) -> Bundle:
    sign(bundle.root)
    return bundle


def test_a_signed_bundle_passes_as_folder_and_as_archive(signed: Bundle, tmp_path: Path) -> None:
    archive = pack(signed, tmp_path / "m.zip")
    for one in (signed, read_bundle(archive), unpack(archive, tmp_path / "out.bundle")):
        one.verify_integrity()
        check_signature(one, public(SECRET))


def test_a_new_export_takes_the_old_signature_away(signed: Bundle, write_bundle: Callable[..., Bundle]) -> None:
    again = write_bundle(signed.root, b"new")
    with pytest.raises(RefusedError, match="isn't signed"):
        check_signature(again, public(SECRET))


def resign(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """The right key signs a statement that isn't one about these files."""

    def spoil(root: Path) -> None:
        plain = statement(root)
        change(plain)
        (root / SIGNATURE).write_text(json.dumps(envelope(plain)))

    return spoil


def tamper(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Somebody without the key edits the signature."""

    def spoil(root: Path) -> None:
        plain = json.loads((root / SIGNATURE).read_text())
        change(plain)
        (root / SIGNATURE).write_text(json.dumps(plain))

    return spoil


def payload(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], None]:
    def edit(plain: dict[str, Any]) -> None:
        inner = json.loads(base64.b64decode(plain["dsseEnvelope"]["payload"]))
        change(inner)
        plain["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(inner).encode()).decode()

    return edit


def resources(plain: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = plain["predicate"]["resources"]
    return found


def forge(root: Path) -> None:
    """Another file, a manifest that fits it, and a signature of the forger's own."""
    (root / "golden.npz").write_bytes(b"forged")
    plain = json.loads((root / MANIFEST).read_text())
    plain["golden"].update(sha256=hashlib.sha256(b"forged").hexdigest(), size=6)
    (root / MANIFEST).write_text(json.dumps(plain))


def forge_and_sign(root: Path) -> None:
    forge(root)
    sign(root, SECRET + 1)


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no signature": (lambda root: (root / SIGNATURE).unlink(), "isn't signed"),
    "forged, old signature": (forge, "is for another"),
    "forged, signed by another": (forge_and_sign, "isn't by the key"),
    "same files, another key": (lambda root: sign(root, SECRET + 1), "isn't by the key"),
    "payload edited": (tamper(payload(lambda p: resources(p)[0].update(digest="0" * 64))), "isn't by the key"),
    "kind edited": (tamper(lambda p: p["dsseEnvelope"].update(payloadType="text/plain")), "another format"),
    "no signature inside": (tamper(lambda p: p["dsseEnvelope"].update(signatures=[])), "another format"),
    "two signatures inside": (tamper(lambda p: p["dsseEnvelope"]["signatures"].append({})), "another format"),
    "signature is no text": (tamper(lambda p: p["dsseEnvelope"]["signatures"][0].update(sig=7)), "base64"),
    "signature is no base64": (tamper(lambda p: p["dsseEnvelope"]["signatures"][0].update(sig="?")), "base64"),
    "no envelope": (tamper(lambda p: p.pop("dsseEnvelope")), "has no 'dsseEnvelope'"),
    "envelope is a list": (tamper(lambda p: p.update(dsseEnvelope=[])), "has no 'payload'"),
    "old media type": (tamper(lambda p: p.update(mediaType="x")), "another format"),
    "no text": (lambda root: (root / SIGNATURE).write_bytes(b"\xff\xfe"), "isn't valid JSON"),
    "empty": (lambda root: (root / SIGNATURE).write_bytes(b""), "isn't valid JSON"),
    "a file fewer": (resign(lambda p: resources(p).pop(0)), "doesn't cover"),
    "no files": (resign(lambda p: resources(p).clear()), "doesn't cover"),
    "a file more": (resign(lambda p: resources(p).append({**resources(p)[0], "name": "z"})), "is for another 'z'"),
    "a file twice": (resign(lambda p: resources(p).append(copy.copy(resources(p)[0]))), "something else"),
    "another digest": (resign(lambda p: resources(p)[0].update(algorithm="md5")), "something else"),
    "a name that is a list": (resign(lambda p: resources(p)[0].update(name=["a"])), "something else"),
    "a digest that is a list": (resign(lambda p: resources(p)[0].update(digest=["a"])), "is for another"),
    "another predicate": (resign(lambda p: p.update(predicateType="https://model_signing/Digests/v0.1")), "something"),
    "shards": (resign(lambda p: p["predicate"]["serialization"].update(method="shards")), "something else"),
    "no predicate": (resign(lambda p: p.pop("predicate")), "has no 'predicate'"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_signature_is_refused(signed: Bundle, name: str) -> None:
    spoil, words = SPOILED[name]
    spoil(signed.root)
    with pytest.raises(RefusedError, match=words) as caught:
        check_signature(read_bundle(signed.root), public(SECRET))
    assert caught.value.exit_code == 6


def link_away(path: Path) -> None:
    other = path.parents[1] / "elsewhere"
    shutil.move(path, other)
    path.symlink_to(other)


def enlarge(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.truncate((1 << 20) + 1)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [link_away, enlarge, folder])
def test_the_signature_is_no_way_around_the_member_list(signed: Bundle, spoil: Callable[[Path], None]) -> None:
    spoil(signed.root / SIGNATURE)
    with pytest.raises(RefusedError):
        signed.verify_integrity()
    with pytest.raises(RefusedError):
        check_signature(signed, public(SECRET))


def test_no_manifest_can_list_a_member_called_like_it(signed: Bundle) -> None:
    plain = json.loads((signed.root / MANIFEST).read_text())
    plain["extras"].append({"path": SIGNATURE, "sha256": "0" * 64, "size": 1})
    (signed.root / MANIFEST).write_text(json.dumps(plain))
    with pytest.raises(RefusedError, match="reserved name"):
        read_bundle(signed.root)


def test_a_huge_signature_in_an_archive_is_refused_before_it_is_unpacked(signed: Bundle, tmp_path: Path) -> None:
    path = pack(signed, tmp_path / "m.zip")
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data if name != SIGNATURE else bytes((1 << 20) + 1))
    with pytest.raises(RefusedError, match=r"'model\.sig' is larger"):
        read_bundle(path)


def test_the_command_refuses_before_any_engine_and_names_the_key(
    signed: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.pem").write_text(public(SECRET).pem)
    (tmp_path / "other.pem").write_text(public(SECRET + 1).pem)
    assert main(["verify", str(signed.root), "--key", str(tmp_path / "other.pem")]) == 6
    assert "isn't by the key" in capsys.readouterr().err
    # The bundle of this test holds no real artifacts: past the signature, the golden set is what is refused.
    assert main(["verify", str(signed.root), "--key", str(tmp_path / "good.pem")]) == 6
    assert "golden" in capsys.readouterr().err
    assert main(["verify", str(signed.root), "--key", str(tmp_path / "none.pem")]) == 2
    assert main(["verify", str(signed.root), "--identity", "me@example.org"]) == 2
    assert "--issuer" in capsys.readouterr().err


def test_a_private_key_given_by_mistake_is_told_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n")
    with pytest.raises(UsageError, match=r"key\.pem: it holds no public key") as caught:
        read_public_key(path)
    assert "-pubout" in caught.value.todo
