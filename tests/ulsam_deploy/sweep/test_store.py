"""Results in a folder and under a URL alike: whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from ulsam_deploy.device.errors import ExportError, UnavailableError, UsageError
from ulsam_deploy.sweep.store import Store, fetched


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    pytest.importorskip("fsspec")
    return Store(str(tmp_path / "out") if request.param == "local" else f"memory://{tmp_path.name}/out")


def test_what_is_written_is_read(store: Store) -> None:
    assert store.read("cells/a/result.json") is None
    assert store.names("cells/a") == []
    store.write("cells/a/result.json", b"1")
    store.write("cells/a/result.json", b"22")
    store.write("cells/a/bundle.zip", b"")
    assert store.read("cells/a/result.json") == b"22"
    assert store.names("cells/a") == ["bundle.zip", "result.json"]


def test_a_half_written_file_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path / "out"))
    store.write("a/x", b"old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ExportError, match="No space left"):
        store.write("a/x", b"new")
    assert store.read("a/x") == b"old"
    assert store.names("a") == ["x"]


def test_a_url_is_fetched_under_its_own_name() -> None:
    Store("memory://nets").write("a.onnx", b"bytes")
    with fetched("memory://nets/a.onnx") as path:
        assert (path.name, path.read_bytes()) == ("a.onnx", b"bytes")
    assert not path.exists()
    with pytest.raises(UsageError, match="no file"), fetched("memory://nets/b.onnx"):
        pass


def test_a_place_that_nobody_knows_is_named() -> None:
    with pytest.raises(UsageError, match="nowhere"):
        Store("nowhere://x")


def test_a_storage_whose_package_is_missing_is_named() -> None:
    from importlib.util import find_spec

    if find_spec("gcsfs"):
        pytest.skip("gcsfs is installed")
    with pytest.raises(UnavailableError, match="gcsfs"):
        Store("gs://bucket/x")
