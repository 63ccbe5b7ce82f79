"""Signing with the real OpenSSF library, kept in a folder beside the environment (``make`` puts it there)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.signing import PASSWORD

from .bundle.conftest import make_bundle

LIBRARY = Path(sys.prefix, "sign")
needs_library = pytest.mark.skipif(not LIBRARY.is_dir(), reason="model-signing isn't there: run make")

MAKE_KEYS = """
import sys
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import ec, rsa
keys = {"p256": ec.generate_private_key(ec.SECP256R1()), "p384": ec.generate_private_key(ec.SECP384R1()),
        "p521": ec.generate_private_key(ec.SECP521R1()), "rsa": rsa.generate_private_key(65537, 2048)}
for name, key in keys.items():
    secret = s.BestAvailableEncryption(b"open sesame") if name == "p384" else s.NoEncryption()
    with open(f"{name}.pem", "wb") as stream:
        stream.write(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, secret))
    with open(f"{name}.pub", "wb") as stream:
        stream.write(key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
"""


def python(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python that sees the library before everything else."""
    env = {**os.environ, "PYTHONPATH": str(LIBRARY), **environment}
    return subprocess.run([sys.executable, *words], cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signing")
    make_bundle(folder / "m.bundle")
    done = python("-c", MAKE_KEYS, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@needs_library
@pytest.mark.parametrize("curve", ["p256", "p384", "p521"])
def test_what_the_library_signs_is_accepted_and_what_another_key_signed_is_not(
    place: Path, curve: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("-m", "ulsam_deploy", "sign", "m.bundle", "--key", f"{curve}.pem", "--json")
    done = python(*words, cwd=place, **{PASSWORD: "open sesame"} if curve == "p384" else {})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["schema"] == "ulsam-deploy.sign/1"
    assert sorted(path.name for path in place.iterdir() if path.name.startswith(".")) == []
    bundle = str(place / "m.bundle")
    assert main(["verify", bundle, "--key", str(place / ("p521.pub" if curve == "p256" else "p256.pub"))]) == 6
    assert "isn't by the key" in capsys.readouterr().err
    main(["verify", bundle, "--key", str(place / f"{curve}.pub")])
    assert "signature" not in capsys.readouterr().err  # past it: this bundle's golden set is a stand-in


@needs_library
def test_the_librarys_own_command_accepts_it(place: Path) -> None:
    done = python("-m", "ulsam_deploy", "sign", "m.bundle", "--key", "p256.pem", cwd=place)
    assert done.returncode == 0, done.stderr
    words = ("-m", "model_signing", "verify", "key", "m.bundle", "--signature", "m.bundle/model.sig")
    done = python(*words, "--public_key", "p256.pub", cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    (place / "m.bundle" / "golden.npz").write_bytes(b"goldenweighus")
    assert python(*words, "--public_key", "p256.pub", cwd=place).returncode != 0
    done = python("-m", "ulsam_deploy", "sign", "m.bundle", "--key", "p256.pem", cwd=place)
    assert done.returncode == 6, "what isn't sound isn't signed"
    (place / "m.bundle" / "golden.npz").write_bytes(b"goldenweights")


@needs_library
@pytest.mark.parametrize(
    ("key", "password", "said"),
    [
        ("none.pem", "", "can't be read"),
        ("p256.pub", "", "can't be used to sign"),
        ("rsa.pem", "", "elliptic curve"),
        ("p384.pem", "", PASSWORD),
        ("p384.pem", "wrong", "ncorrect password"),
    ],
)
def test_a_key_that_cannot_sign_is_told_in_words(place: Path, key: str, password: str, said: str) -> None:
    done = python("-m", "ulsam_deploy", "sign", "m.bundle", "--key", key, cwd=place, **{PASSWORD: password})
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@needs_library
def test_without_a_network_sigstore_is_not_available(place: Path) -> None:
    (place / "m.bundle" / "model.sig").write_text("{}")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    home = {"HOME": str(place), "XDG_CACHE_HOME": str(place / "xdg"), "XDG_DATA_HOME": str(place / "xdg")}
    for words in (["sign", "m.bundle", "--online"], ["verify", "m.bundle", "--identity", "a@b.c", "--issuer", "x"]):
        done = python("-m", "ulsam_deploy", *words, cwd=place, **nowhere, **home)
        assert done.returncode == 4, done.stderr
        assert "Sigstore can't be used from here" in done.stderr
        assert "Traceback" not in done.stderr
    (place / "m.bundle" / "model.sig").unlink()


def test_without_the_library_the_extra_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_bundle(tmp_path / "m.bundle")
    assert main(["sign", str(tmp_path / "m.bundle"), "--key", "key.pem"]) == 4
    assert "ulsam-deploy[sign]" in capsys.readouterr().err
    assert main(["sign", str(tmp_path / "m.bundle" / "golden.npz"), "--key", "key.pem"]) == 2
