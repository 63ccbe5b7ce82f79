"""Signs bundles with the OpenSSF ``model-signing`` library (extra ``sign``), and checks signatures by an identity.

A signature made with a key is checked without the library, also on a device:
:mod:`ulsam_deploy.device.bundle.signature`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ulsam_deploy.device.bundle import SIGNATURE, Bundle
from ulsam_deploy.device.bundle.write import seal
from ulsam_deploy.device.errors import RefusedError, UlsamError, UnavailableError, UsageError
from ulsam_deploy.device.third_party import installed
from ulsam_deploy.device.types import Availability

__all__ = ["PASSWORD", "available", "check_identity", "sign_online", "sign_with_key"]

#: The environment variable with the password of an encrypted key; all users of a machine can see command lines.
PASSWORD = "ULSAM_DEPLOY_KEY_PASSWORD"


def sign_with_key(bundle: Bundle, key: Path) -> Path:
    """Check ``bundle``, then sign it with the private key in the PEM file ``key``.

    Returns:
        The path of the signature in the bundle.

    Raises:
        UsageError: The key cannot be used.
        RefusedError: The bundle is not intact.
        UnavailableError: The library is not installed.
    """
    password = os.environ.get(PASSWORD)
    configuration = _library("signing").Config()
    try:
        # The library declares a str here, but passes it to one that accepts bytes only.
        configuration.use_elliptic_key_signer(private_key=key, password=password.encode() if password else None)
    except OSError as error:
        raise UsageError(f"{key} can't be read: {error.strerror}", expected="a private key in PEM") from error
    except Exception as error:  # the library and its dependencies raise many kinds of errors for a key
        raise UsageError(
            f"{key} can't be used to sign: {error}",
            expected="an elliptic curve key in PEM: P-256, P-384 or P-521",
            todo=f"openssl ecparam -name prime256v1 -genkey -noout -out KEY.pem; a password goes into ${PASSWORD}",
        ) from error
    return _sign(bundle, configuration)


def sign_online(bundle: Bundle) -> Path:
    """Sign with the user's identity, certified by Sigstore: opens a browser, or uses the identity that CI provides."""
    configuration = _library("signing").Config()
    with _online():
        configuration.use_sigstore_signer(use_ambient_credentials=True)
        return _sign(bundle, configuration)


def check_identity(bundle: Bundle, identity: str, issuer: str) -> None:
    """Check that ``identity``, known to the OpenID provider ``issuer``, signed all files of ``bundle``.

    Raises:
        RefusedError: It did not.
        UnavailableError: The library or the network is missing.
    """
    path = bundle.root / SIGNATURE
    configuration = _library("verifying").Config()
    if not path.is_file():
        raise RefusedError("the bundle isn't signed", expected=SIGNATURE, todo="ulsam-deploy sign BUNDLE --online")
    with _online():
        configuration.use_sigstore_verifier(identity=identity, oidc_issuer=issuer)
    try:
        configuration.set_hashing_config(_hashing()).verify(bundle.root, path)
    except Exception as error:  # the library has no specific error for a bad signature
        raise RefusedError(
            f"the signature doesn't show that {identity} signed this bundle: {error}", todo="don't use this bundle"
        ) from error


def _sign(bundle: Bundle, configuration: Any) -> Path:
    bundle.verify_integrity()
    configuration.set_hashing_config(_hashing())
    return seal(bundle, lambda path: configuration.sign(bundle.root, path))


def _hashing() -> Any:
    """Hash every file of the folder, except the signature itself, with SHA-256."""
    return _library("hashing").Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def available() -> Availability:
    """Whether the library is installed. It needs newer packages than the extra ``tflite`` allows."""
    here = installed("model_signing", "OpenSSL", extra="sign")
    return here if here.usable else Availability(False, here.detail, f"in an environment of its own: {here.todo}")


def _library(module: str) -> Any:
    here = available()
    if not here.usable:
        raise UnavailableError(f"signing needs model-signing: {here.detail}", todo=here.todo)
    from importlib import import_module

    return import_module(f"model_signing.{module}")


@contextmanager
def _online() -> Iterator[None]:
    """Turn any error in the communication with Sigstore's servers into one with a clear message."""
    try:
        yield
    except UlsamError:
        raise
    except Exception as error:
        raise UnavailableError(
            f"Sigstore can't be used from here: {type(error).__name__}: {error}",
            expected="a network and an identity that Sigstore knows",
            todo="sign with a key pair: --key KEY.pem",
        ) from error
