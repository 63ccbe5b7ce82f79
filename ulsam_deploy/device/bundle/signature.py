"""Checks who signed a bundle: ``model.sig`` is a signature with a key, in the OpenSSF Model Signing format.

Standard library only; device-safe. The signature is an in-toto statement in a DSSE envelope in a Sigstore bundle. It
lists every file of the folder with its SHA-256, including the manifest, and is stored next to the manifest. The
manifest can't list it, because it is signed itself. The archive of a signed bundle contains the signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ulsam_deploy.device import codec
from ulsam_deploy.device.bundle.ecdsa import PublicKey
from ulsam_deploy.device.bundle.manifest import MANIFEST, SIGNATURE
from ulsam_deploy.device.bundle.members import MAX_SIGNATURE, load_manifest
from ulsam_deploy.device.bundle.read import Bundle
from ulsam_deploy.device.data_files import opened
from ulsam_deploy.device.errors import RefusedError, UsageError

__all__ = ["check_signature", "read_public_key", "signed_files"]

_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_LARGEST_KEY = 1 << 16
_REMEDY = "don't use this bundle unless its maker signs it again"


def check_signature(bundle: Bundle, key: PublicKey) -> None:
    """Check that the owner of ``key`` signed exactly what the manifest of ``bundle`` lists.

    Raises :class:`RefusedError` if there is no signature, or it is by another key or for other bytes. This does not
    compare the folder with the manifest: call :meth:`Bundle.verify_integrity` as well.
    """
    manifest, text = load_manifest(bundle.root)
    if manifest != bundle.manifest:
        raise RefusedError(f"{MANIFEST} changed while it was checked", todo=_REMEDY)
    expected = {record.path: record.sha256 for record in manifest.members()}
    expected[MANIFEST] = hashlib.sha256(text).hexdigest()
    signed = signed_files(_read(bundle.root), key)
    for name in sorted(expected.keys() | signed.keys()):
        if name not in signed:
            raise _refused(f"doesn't cover {name!a}")
        if expected.get(name) != signed[name]:
            raise _refused(f"is for another {name!a}")


def read_public_key(path: Path) -> PublicKey:
    """The public key in the PEM file ``path``; raises :class:`UsageError` if the file contains none."""
    try:
        with opened(path) as stream:
            text = stream.read(_LARGEST_KEY).decode("ascii", "replace")
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}", expected="a public key in PEM") from error
    try:
        return PublicKey.from_pem(text)
    except UsageError as error:
        raise UsageError(
            f"{path}: {error.found}", expected=error.expected, todo="openssl ec -in KEY.pem -pubout -out PUB.pem"
        ) from error


def signed_files(signature: bytes, key: PublicKey) -> dict[str, str]:
    """SHA-256 by name of every file that the owner of ``key`` signed; raises :class:`RefusedError`."""
    envelope = codec.loads(signature, SIGNATURE)
    if _at(envelope, "mediaType") != _BUNDLE:
        raise _refused("is of another format")
    payload = _bytes(_at(envelope, "dsseEnvelope", "payload"))
    kind = _at(envelope, "dsseEnvelope", "payloadType")
    signatures = _at(envelope, "dsseEnvelope", "signatures")
    if not isinstance(signatures, list) or len(signatures) != 1 or kind != _PAYLOAD:
        raise _refused("is of another format")
    if not key.verifies(_bytes(_at(signatures[0], "sig")), _pre_authentication(payload)):
        raise _refused(f"isn't by the key {key.fingerprint}")
    return _resources(codec.loads(payload, SIGNATURE))


def _pre_authentication(payload: bytes) -> bytes:
    """The bytes that are actually signed: the DSSE 1.0 pre-authentication encoding of type and payload."""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)


def _resources(statement: object) -> dict[str, str]:
    method = _at(statement, "predicate", "serialization", "method")
    known = (_at(statement, "_type"), _at(statement, "predicateType"), method) == (_STATEMENT, _PREDICATE, "files")
    resources = _at(statement, "predicate", "resources")
    if not known or not isinstance(resources, list):
        raise _refused("signs something else than the files of a folder")
    files: dict[str, str] = {}
    for resource in resources:
        name, digest = _at(resource, "name"), _at(resource, "digest")
        if _at(resource, "algorithm") != "sha256" or not isinstance(name, str) or name in files:
            raise _refused("signs something else than the files of a folder")
        files[name] = digest
    return files


def _read(root: Path) -> bytes:
    path = root / SIGNATURE
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:  # noqa: PTH123
            data = stream.read(MAX_SIGNATURE + 1)
    except FileNotFoundError:
        raise RefusedError(
            "the bundle isn't signed", expected=f"{SIGNATURE} beside {MANIFEST}", todo="ulsam-deploy sign BUNDLE"
        ) from None
    except OSError as error:
        raise _refused(f"can't be read: {error.strerror}") from error
    if len(data) > MAX_SIGNATURE:
        raise _refused(f"is larger than {MAX_SIGNATURE} bytes")
    return data


def _at(plain: object, *route: str) -> Any:
    for key in route:
        if not isinstance(plain, Mapping) or key not in plain:
            raise _refused(f"has no '{key}'")
        plain = plain[key]
    return plain


def _bytes(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise _refused("isn't base64 where it should be") from None


def _refused(what: str) -> RefusedError:
    return RefusedError(f"the signature {what}", expected="one by this key, for these files", todo=_REMEDY)
