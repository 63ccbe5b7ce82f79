"""Signing with the real OpenSSF library, in an environment of its own (``make`` puts it there: see pyproject.toml)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ulsam_deploy.boards.runner import write_runner
from ulsam_deploy.cli import main
from ulsam_deploy.device.bundle import read_bundle
from ulsam_deploy.device.bundle.signature import check_signature, read_public_key
from ulsam_deploy.device.errors import RefusedError
from ulsam_deploy.exporting.signing import PASSWORD

from .. import handmade
from ..device.bundle.conftest import make_bundle

SIGN = Path(__file__).parents[3] / ".venv-sign" / "bin" / "python"
needs_library = pytest.mark.skipif(not SIGN.exists(), reason="model-signing isn't there: run 'make .venv-sign/.ready'")

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
    """The Python of the environment that signs: this package with its ``sign`` extra, and no engine."""
    env = {**os.environ, **environment}
    return subprocess.run([str(SIGN), *words], cwd=cwd, env=env, capture_output=True, text=True, check=False)


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
def test_what_its_own_command_signed_is_accepted_here(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    signature = place / "m.bundle" / "model.sig"
    signature.unlink(missing_ok=True)
    words = ("-m", "model_signing", "sign", "key", "m.bundle", "--signature", "m.bundle/model.sig")
    done = python(*words, "--private_key", "p256.pem", cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    key = read_public_key(place / "p256.pub")
    check_signature(read_bundle(place / "m.bundle"), key)
    with pytest.raises(RefusedError, match="isn't by the key"):
        check_signature(read_bundle(place / "m.bundle"), read_public_key(place / "p521.pub"))
    signature.unlink()


@needs_library
def test_the_device_runner_checks_hashes_always_and_signatures_by_key(place: Path) -> None:
    runner = write_runner(place / "runner.pyz")
    bundle = handmade.make_bundle(place / "dense.bundle", targets=("onnx",)).root

    def verify(key: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, str(runner), "verify", str(bundle), "--key", str(place / f"{key}.pub")]
        return subprocess.run(words, cwd=place, capture_output=True, text=True, check=False)

    done = verify("p256")
    assert (done.returncode, "isn't signed" in done.stderr) == (6, True), done.stderr
    assert python("-m", "ulsam_deploy", "sign", str(bundle), "--key", "p256.pem", cwd=place).returncode == 0
    done = verify("p256")
    assert done.returncode == 0, done.stderr
    assert "signed by key" in done.stdout
    assert (verify("p521").returncode, verify("rsa").returncode) == (6, 2)
    whole = (bundle / "onnx" / "model.onnx").read_bytes()
    (bundle / "onnx" / "model.onnx").write_bytes(whole + b"\0")
    words = [sys.executable, str(runner), "verify", str(bundle)]
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, check=False)
    assert (done.returncode, "'onnx/model.onnx' has" in done.stderr) == (6, True), done.stderr


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
