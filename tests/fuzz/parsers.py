"""Everything that reads a stranger's bytes, as functions of those bytes: they return, or raise an error in words."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from onnx import ModelProto

from ulsam_deploy.cli.parser import COMMANDS, build_parser
from ulsam_deploy.device import external_data, toml
from ulsam_deploy.device.bench import result
from ulsam_deploy.device.bundle import Manifest, read_bundle
from ulsam_deploy.device.bundle.ecdsa import CURVES, PublicKey
from ulsam_deploy.device.bundle.signature import signed_files
from ulsam_deploy.device.commands import config
from ulsam_deploy.device.errors import RefusedError, UlsamError
from ulsam_deploy.device.external_data import stored_locations
from ulsam_deploy.device.maps import Maps
from ulsam_deploy.device.parity import Golden
from ulsam_deploy.device.profiles.profile import read_profiles
from ulsam_deploy.load.onnx import reading as onnx_in

SEEDS = Path(__file__).parent / "seeds"


@contextmanager
def _file(data: bytes, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        yield path


def manifest(data: bytes) -> None:
    """What is accepted is written back as it was read."""
    found = Manifest.from_json(data)
    assert Manifest.from_json(found.to_json()) == found


def archive(data: bytes) -> None:
    """A bundle as ``.zip``; what is unpacked is whole."""
    with _file(data, "model.zip") as path:
        read_bundle(path).verify_integrity()


def golden(data: bytes) -> None:
    """A golden set; what is accepted is written back as it was read."""
    with _file(data, "golden.npz") as path:
        found = Golden.load(path)
        found.save(path)
        assert Golden.load(path).probes == found.probes


def maps(data: bytes) -> None:
    """The attention maps of a bundle."""
    with _file(data, "maps.npz") as path:
        Maps.load(path)


def golden_meta(data: bytes) -> None:
    """What a golden set says of its arrays: the arrays are sound, so that more than the zip's checksums is met."""
    golden(_with_meta(SEEDS / "golden" / "dense.npz", data))


def maps_meta(data: bytes) -> None:
    """The same of attention maps."""
    maps(_with_meta(SEEDS / "maps" / "maps.npz", data))


def _with_meta(seed: Path, data: bytes) -> bytes:
    with np.load(seed) as file:
        arrays = {name: file[name] for name in file.files}
    stream = io.BytesIO()
    np.savez(stream, **{**arrays, "meta": np.frombuffer(data, np.uint8)})
    return stream.getvalue()


def onnx(data: bytes) -> None:
    """An ONNX model as MODEL."""
    with _file(data, "model.onnx") as path:
        onnx_in.read(path)


def locations(data: bytes) -> None:
    """Where the bytes of an ONNX file say that its weights lie; what onnx reads as a model says the same."""
    try:
        found = stored_locations(data)
    except ValueError as error:
        raise RefusedError(str(error)) from error
    message = ModelProto()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return
    assert found >= set(external_data.locations(message))


def results(data: bytes) -> None:
    """A benchmark's result with all of its samples."""
    for measured in result.Result.from_json(data).measured:
        for process in measured.processes:
            result.unpack_samples(process.samples, process.count)


def signature(data: bytes) -> None:
    """A signature, before and after the key is compared."""
    signed_files(data, KEY)


def key(data: bytes) -> None:
    """A public key."""
    PublicKey.from_pem(data.decode("ascii", "replace"))


def settings(data: bytes) -> None:
    """``--config`` of an export."""
    with _file(data, "words.toml") as path:
        config.merged(build_parser(COMMANDS), ["export", "--config", str(path)])


def devices(data: bytes) -> None:
    """A file of device profiles."""
    read_profiles(toml.parse(data.decode("utf-8", "replace"), "devices.toml"), "devices.toml")


CURVE = CURVES[0]
KEY = PublicKey(CURVE, *CURVE.g)
PARSERS: dict[str, Callable[[bytes], None]] = {
    parser.__name__: parser
    for parser in (
        manifest,
        archive,
        golden,
        golden_meta,
        maps,
        maps_meta,
        locations,
        onnx,
        results,
        signature,
        key,
        settings,
        devices,
    )
}


def judge(parser: Callable[[bytes], None], data: bytes) -> bool:
    """Whether ``parser`` accepts ``data``; whatever it raises but an error in words is a find and goes on its way."""
    try:
        with np.errstate(all="ignore"):
            parser(data)
    except UlsamError as error:
        if "\x1b" in str(error):
            raise ValueError("a terminal would obey what the error says") from error
        return False
    return True
