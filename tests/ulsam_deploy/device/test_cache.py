"""The cache: it may forget, it never lies, and it is never the user's problem."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device import cache
from ulsam_deploy.device.cache import Cache, key, source_digest
from ulsam_deploy.device.errors import ExportError


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / "artifact"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"m" * 1000)
    (folder / "sub" / "weights.bin").write_bytes(b"w" * 2000)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_was_put_is_got(store: Cache, artifact: Path) -> None:
    assert store.get(key("a")) is None
    store.put(key("a"), artifact)
    found = Cache(store.root).get(key("a"))
    assert found is not None
    assert contents(found) == contents(artifact)
    assert store.get(key("b")) is None
    assert [path.name for path in store.root.iterdir()] == [key("a")]


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "extra", "link", "index", "no index"])
def test_a_damaged_entry_is_a_miss_and_goes(
    store: Cache, artifact: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.put(key("a"), artifact)
    model = store.root / key("a") / "files" / "model.onnx"
    index = store.root / key("a") / "index.json"
    if damage == "flip":
        model.write_bytes(b"n" + b"m" * 999)
    elif damage == "cut":
        model.write_bytes(b"m" * 10)
    elif damage == "missing":
        model.unlink()
    elif damage == "extra":
        (model.parent / "evil.so").touch()
    elif damage == "link":
        model.unlink()
        model.symlink_to(artifact / "model.onnx")
    elif damage == "index":
        index.write_bytes(b"\xff[]")
    else:
        index.unlink()
    assert store.get(key("a")) is None
    assert "is damaged" in caplog.text
    assert list(store.root.iterdir()) == []
    store.put(key("a"), artifact)
    assert store.get(key("a")) is not None


def test_the_least_recently_used_go_first(tmp_path: Path, artifact: Path) -> None:
    store = Cache(tmp_path / "cache", limit=12_000)  # room for three entries of 3,000 bytes and their indices
    for number in range(3):
        store.put(key(number), artifact)
        os.utime(store.root / key(number), (number, number))
    Cache(store.root).get(key(0))
    store.put(key(3), artifact)
    assert [number for number in range(4) if (store.root / key(number)).exists()] == [0, 2, 3]


def test_an_entry_in_use_is_not_evicted(tmp_path: Path, artifact: Path) -> None:
    reader, writer = Cache(tmp_path / "cache", limit=5000), Cache(tmp_path / "cache", limit=5000)
    writer.put(key("old"), artifact)
    found = reader.get(key("old"))
    writer.put(key("new"), artifact)
    assert found is not None
    assert contents(found) == contents(artifact)
    reader.release(key("old"))
    writer.put(key("newer"), artifact)
    assert writer.get(key("old")) is None
    assert writer.get(key("newer")) is not None


def test_what_is_larger_than_the_whole_cache_is_not_kept(tmp_path: Path, artifact: Path) -> None:
    store = Cache(tmp_path / "cache", limit=2000)
    store.put(key("a"), artifact)
    assert store.get(key("a")) is None


def test_a_place_that_cannot_be_used_is_a_miss_and_a_note(artifact: Path, caplog: pytest.LogCaptureFixture) -> None:
    for root in (Path("/proc/no/such/cache"), artifact / "model.onnx"):
        caplog.clear()
        store = Cache(root)
        store.put(key("a"), artifact)
        assert store.get(key("a")) is None
        assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_cache_that_everybody_can_write_to_is_not_trusted(
    store: Cache, artifact: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.put(key("a"), artifact)
    store.root.chmod(0o777)
    assert store.get(key("a")) is None
    assert "every user can write to it" in caplog.text
    store.root.chmod(0o700)
    assert store.get(key("a")) is not None


def test_many_processes_at_once(tmp_path: Path, artifact: Path) -> None:
    """Four processes put and get the same few keys in a cache with room for two: nobody fails, nobody reads rubbish."""
    code = (
        "import sys; from pathlib import Path; from ulsam_deploy.device.cache import Cache, key\n"
        "root, artifact = map(Path, sys.argv[1:])\n"
        "for number in range(60):\n"
        "    store = Cache(root, limit=7000)\n"
        "    store.put(key(number % 4), artifact)\n"
        "    found = store.get(key(number % 4))\n"
        "    assert found is None or (found / 'model.onnx').read_bytes() == (artifact / 'model.onnx').read_bytes()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache"), str(artifact)]
    crowd = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    assert [process.communicate(timeout=120)[1] for process in crowd] == [b""] * 4
    assert len(list((tmp_path / "cache").iterdir())) <= 4


def test_keys_tell_everything_apart_and_nothing_else() -> None:
    assert key("a", {"x": 1, "y": [2, None]}) == key("a", {"y": [2, None], "x": 1})
    parts = [(), ("a",), ("a", ""), ("", "a"), (["a"],), (1,), (1.5,), ("1",), (True,), (None,), ({"a": 1},)]
    assert len({key(*part) for part in parts}) == len(parts)
    with pytest.raises(ExportError, match=r"cache key: at \$\[0\]"):
        key(object())


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ULSAM_DEPLOY_CACHE", "/somewhere")
    assert Cache().root == Path("/somewhere")
    monkeypatch.delenv("ULSAM_DEPLOY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert Cache().root == Path("/xdg/ulsam-deploy")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert Cache().root == Path.home() / ".cache" / "ulsam-deploy"


def test_the_source_digest_follows_the_code_of_core_and_wings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert source_digest() == source_digest()
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "__init__.py").write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(cache, "_PACKAGES", ("one",))
    before = source_digest()
    (tmp_path / "one" / "more.py").write_text("")
    between = source_digest()
    (tmp_path / "one" / "more.py").write_text("y = 2")
    assert len({before, between, source_digest()}) == 3
    monkeypatch.setattr(cache, "_PACKAGES", ("no_such_package",))
    with pytest.raises(ExportError, match="--no-cache"):
        source_digest()


def test_the_source_digest_imports_no_wing() -> None:
    code = (
        "import sys; from ulsam_deploy.device.cache import source_digest; source_digest()\n"
        "print([name for name in sys.modules if name.startswith('ulsam_deploy.') and name.split('.')[1] in "
        "('models', 'exporters', 'runtimes', 'program')] + [name for name in ('torch', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_clearing_leaves_what_a_run_is_using(tmp_path: Path, artifact: Path) -> None:
    store, other = Cache(tmp_path / "cache"), Cache(tmp_path / "cache")
    assert (store.held(), store.clear()) == ((0, 0), (0, 0))
    for name in ("a", "b"):
        store.put(name, artifact)
    count, size = store.held()
    assert (count, size > 2 * sum(len(content) for content in contents(artifact).values())) == (2, True)
    assert other.get("a")
    assert store.clear() == (1, size // 2)
    assert store.get("a")
    assert store.get("b") is None


def test_the_command_says_what_there_is_and_clears(
    tmp_path: Path, artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ULSAM_DEPLOY_CACHE", str(tmp_path / "cache"))
    Cache().put("a", artifact)
    assert main(["cache"]) == 0
    assert f"{tmp_path / 'cache'}: 1 entries" in capsys.readouterr().out
    assert main(["cache", "--clear", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["removed"], found["entries"], found["bytes"]) == (1, 0, 0)
    assert found["freed"] > 0
