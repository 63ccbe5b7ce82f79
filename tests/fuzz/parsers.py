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
from ulsam_deploy.device import codec, external_data, images, npz, toml
from ulsam_deploy.device.accuracy.labelled import open_labelled
from ulsam_deploy.device.bench import result
from ulsam_deploy.device.bundle import Manifest, json_schema, read_bundle
from ulsam_deploy.device.bundle.ecdsa import CURVES, PublicKey
from ulsam_deploy.device.bundle.signature import signed_files
from ulsam_deploy.device.commands import config
from ulsam_deploy.device.commands.documents import VerifyDocument
from ulsam_deploy.device.errors import RefusedError, UlsamError
from ulsam_deploy.device.external_data import stored_locations
from ulsam_deploy.device.maps import Maps
from ulsam_deploy.device.parity import Golden
from ulsam_deploy.device.preprocessing import Preprocessing
from ulsam_deploy.device.profiles.profile import decode_profile, read_profiles
from ulsam_deploy.device.types import TensorSpec
from ulsam_deploy.exporting import budget as budgets
from ulsam_deploy.exporting.search import recipes
from ulsam_deploy.gate.budgets import read_budgets
from ulsam_deploy.inputs import probes
from ulsam_deploy.load.checkpoint import reading as checkpoint_in
from ulsam_deploy.load.onnx import reading as onnx_in
from ulsam_deploy.load.onnx import unfolding
from ulsam_deploy.load.onnx.operators import OPERATORS

from .commands import TARGETS
from .structure import Form

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
        unfolded = unfolding.unfolded(unfolding.OnnxFile(str(path), tuple(OPERATORS)))  # here, where it is watched
        onnx_in.graph_of(unfolded, path)


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
    """A file of device profiles, each of them decoded."""
    found = read_profiles(toml.parse(data.decode("utf-8", "replace"), "devices.toml"), "devices.toml")
    for name, table in found.items():
        decode_profile(name, table, "devices.toml")


def checkpoint(data: bytes) -> None:
    """MODEL as a checkpoint of any format."""
    with _file(data, "m.pt") as path:
        checkpoint_in.read(path)


def picture(data: bytes) -> None:
    """A picture of a calibration set, as a network with one colour input gets it."""
    with _file(data, "p.png") as path:
        images.read_image(path, (3, 8, 8), Preprocessing())


def inputs(data: bytes) -> None:
    """``bench --inputs`` and ``--probes``: arrays of the user."""
    with _file(data, "x.npz") as path:
        try:
            npz.read_arrays(path, own=True)
        except npz.UnsoundArraysError as error:
            raise RefusedError(str(error)) from error
        probes.read(path, {"x": (2, 2)})


def labelled(data: bytes) -> None:
    """``verify --data``."""
    with _file(data, "x.npz") as path:
        for _ in open_labelled(path, [TensorSpec("x", (None, 2, 2))], 4).batches(1):
            pass


def budget(data: bytes) -> None:
    """``export --precision auto --budget``."""
    with _file(data, "b.toml") as path:
        budgets.read_budget(path)


def gate(data: bytes) -> None:
    """``compare --budget``."""
    with _file(data, "b.toml") as path:
        read_budgets(path)


def recipe(data: bytes) -> None:
    """``export --recipe``; what is accepted is written back as it was read."""
    with _file(data, "recipe.toml") as path:
        found = recipes.read_recipes(path)
        path.write_text(recipes.recipes_text(found))
        assert recipes.read_recipes(path) == found


def preprocessing(data: bytes) -> None:
    """``--preprocessing``."""
    with _file(data, "p.toml") as path:
        images.read_preprocessing(str(path))


CURVE = CURVES[0]
KEY = PublicKey(CURVE, *CURVE.g)
PARSERS: dict[str, Callable[[bytes], object]] = {
    **{parser.__name__: parser for parser in (
        manifest, archive, golden, golden_meta, maps, maps_meta, locations, onnx, results, signature, key, settings,
        devices, checkpoint, picture, inputs, labelled, budget, gate, recipe, preprocessing,
    )},
    **TARGETS,
}  # fmt: skip
_BUNDLE, _TOML = Form(json_schema()), Form(toml=True)
_RESULT = Form(result.json_schema())
#: How the documents that are text are built, by parser.
FORMS: dict[str, Form] = {
    **dict.fromkeys(("manifest", "inspect_bundle", "report_bundle", "compare_bundles"), _BUNDLE),
    **dict.fromkeys(("results", "report_result", "compare_results"), _RESULT),
    **dict.fromkeys(("settings", "devices", "budget", "gate", "recipe", "compare_budget", "sweep_plan"), _TOML),
    "preprocessing": Form(codec.schema(Preprocessing, "p"), toml=True),
    "compare_answers": Form(codec.schema(VerifyDocument, "v")),
    **dict.fromkeys(("golden_meta", "maps_meta", "signature"), Form()),
}


def judge(parser: Callable[[bytes], object], data: bytes) -> bool:
    """Whether ``parser`` accepts ``data``; whatever it raises but an error in words is a find and goes on its way."""
    try:
        with np.errstate(all="ignore"):
            return parser(data) is not False
    except UlsamError as error:
        if "\x1b" in str(error):
            raise ValueError("a terminal would obey what the error says") from error
        return False
