"""One file that a command leaves: whole or absent, never in place of what isn't ours, never inside a bundle."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ulsam_deploy.boards.runner import runner_bytes
from ulsam_deploy.device.bundle import Bundle, kinds, output, pack
from ulsam_deploy.device.bundle.kinds import Kind
from ulsam_deploy.device.bundle.output import Output, check_outputs
from ulsam_deploy.device.checks import Check
from ulsam_deploy.device.commands.junit import junit
from ulsam_deploy.device.commands.markdown import markdown
from ulsam_deploy.device.commands.sarif import sarif
from ulsam_deploy.device.errors import ExportError, UsageError
from ulsam_deploy.device.findings import Verdict

from ..bench.results import measured, noisy, result

THEIRS = b"years of work"
KNOWN_AGAIN = {
    "result": (kinds.RESULT, lambda: result(measured(noisy(12, 1))).to_json().encode()),
    "SARIF": (kinds.SARIF, lambda: sarif(Path("net"), [Check("onnx", "run", Verdict.FAIL)])),
    "JUnit": (kinds.JUNIT, lambda: junit("net", [Check("onnx", "run", Verdict.PASS)])),
    "summary": (kinds.MARKDOWN, lambda: markdown("net", "All holds.", ("a",), [("b",)], []).encode()),
    "runner": (kinds.RUNNER, runner_bytes),
}


@pytest.mark.parametrize(("kind", "make"), KNOWN_AGAIN.values(), ids=KNOWN_AGAIN)
def test_what_an_earlier_run_left_is_replaced_and_nothing_else(
    kind: Kind, make: Callable[[], bytes], tmp_path: Path
) -> None:
    place, ours = tmp_path / "file", make()
    assert Output(place, kind).write(ours) == place
    Output(place, kind).check()
    for theirs in (THEIRS, b"{}", b"\x00\xff", b"PK\x03\x04", b"<testsuites/>", ours[: len(ours) // 2][::-1]):
        place.write_bytes(theirs)
        for act in (Output(place, kind).check, lambda: Output(place, kind).write(ours)):
            with pytest.raises(UsageError, match=r"is there already, and isn't .* that ulsam-deploy wrote") as caught:
                act()
            assert "--force" in caught.value.todo
        assert place.read_bytes() == theirs
    Output(place, kind, force=True).write(ours)
    assert place.read_bytes() == ours
    place.write_bytes(b"")  # touch, mktemp: there is nothing to lose
    Output(place, kind).write(ours)


@pytest.mark.parametrize("kind", [kinds.CHECKPOINT, kinds.CONFIG, kinds.ENGINE], ids=lambda kind: kind.name)
def test_what_people_go_on_working_with_is_never_taken_for_ours(kind: Kind, tmp_path: Path) -> None:
    place = tmp_path / "file"
    Output(place, kind).write(b"as it was made")
    Output(place, kind).write(b"as it was made")
    place.write_bytes(b"as it was made, and trained for a week")
    with pytest.raises(UsageError, match="isn't replaced without --force"):
        Output(place, kind).write(b"as it was made")
    Output(place, kind, force=True).write(b"as it was made")


def test_a_file_that_turns_up_while_we_work_is_kept(tmp_path: Path) -> None:
    place = Output(tmp_path / "r.json", kinds.RESULT)
    place.check()
    with pytest.raises(UsageError, match="is there already"):
        place.fill(lambda partial: (partial.write_bytes(b"ours"), place.path.write_bytes(THEIRS)))
    assert place.path.read_bytes() == THEIRS
    assert list(tmp_path.iterdir()) == [place.path]


def _folder(path: Path) -> None:
    path.mkdir()


def _socket(path: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)


def _loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("", None, "is a folder"),
        (".", None, "is a folder"),
        ("/", None, "is a folder"),
        ("sub", _folder, "is a folder"),
        ("socket", _socket, "is a special file"),
        ("loop", _loop, "can't be written"),
        ("none/file", None, "does not exist"),
        ("taken/file", lambda path: path.parent.write_bytes(THEIRS), "can't be written"),
        ("a" * 300, None, "can't be written"),
        ("nul\0byte", None, "can't be written"),
        ("/proc/file", None, "can't be written to"),
    ],
)
def test_a_place_that_no_file_can_be_written_to(
    name: str,
    make: Callable[[Path], None] | None,
    words: str,
    force: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if make:
        make(tmp_path / name)
    place = Output(Path(name), kinds.RESULT, force)
    for act in (place.check, lambda: place.write(b"ours")):
        with pytest.raises(UsageError, match=words):
            act()


def test_nothing_is_put_into_a_bundle_by_whatever_road(bundle: Bundle, tmp_path: Path) -> None:
    inside = tmp_path / "link"
    inside.symlink_to(bundle.root / "onnx")
    (tmp_path / "page.html").symlink_to(bundle.root / "report.html")
    places = [bundle.root / "r.html", bundle.root / "report.html", inside / "r.html", tmp_path / "page.html"]
    for path in [*places, bundle.root / "onnx" / ".." / "new.html"]:
        with pytest.raises(UsageError, match="would be inside the bundle"):
            Output(path, kinds.PAGE, force=True).write(b"ours")
    with pytest.raises(UsageError, match="would be inside the bundle"):
        pack(bundle, inside / "b.zip", force=True)
    bundle.verify_integrity()
    (tmp_path / "manifest.json").write_text('{"name": "somebody\'s web page"}')  # which makes no bundle of a folder
    Output(tmp_path / "r.html", kinds.PAGE).write(b"ours")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    Output(tmp_path / "link", kinds.CONFIG).write(b"one")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"one"


def test_a_device_is_written_to_and_stays_one(tmp_path: Path) -> None:
    before = Path(os.devnull).stat()
    assert Output(Path(os.devnull), kinds.RESULT).write(b"ours") == Path(os.devnull)
    assert os.path.samestat(Path(os.devnull).stat(), before)
    with pytest.raises(ExportError, match="No space left"):
        Output(Path("/dev/full"), kinds.RESULT).write(b"ours")


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    Output(pipe, kinds.RESULT).write(b"ours")
    reader.join(10)
    assert read == [b"ours"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.timeout(20)
def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(output, "_PATIENCE", 0.3)
    with pytest.raises(ExportError, match="nobody reads this pipe"):
        Output(pipe, kinds.RESULT).write(b"ours")


def test_stdout_is_written_to_where_it_is_a_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    print("before", flush=True)
    Output(Path("/dev/stdout"), kinds.RESULT).write(b"ours\n")
    assert capfd.readouterr().out == "before\nours\n"


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Output(tmp_path / "j.xml", kinds.JUNIT)
    old = junit("old", [])
    place.write(old)

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(output, "sync", full)
    with pytest.raises(ExportError, match="couldn't be written: No space left"):
        place.write(junit("new", []))
    assert place.path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [place.path]


def test_outputs_of_one_command_do_not_get_into_each_others_way(tmp_path: Path) -> None:
    one = Output(tmp_path / "one", kinds.JUNIT)
    check_outputs([one, Output(tmp_path / "two", kinds.MARKDOWN)])
    with pytest.raises(UsageError, match="two files were to be written"):
        check_outputs([one, Output(tmp_path / "." / "one", kinds.MARKDOWN)])
    check_outputs([Output(Path(os.devnull), kind) for kind in (kinds.JUNIT, kinds.MARKDOWN)])
    (tmp_path / "new.bundle").mkdir()
    with pytest.raises(UsageError, match="would be inside the bundle"):
        check_outputs([Output(tmp_path / "new.bundle" / "j.xml", kinds.JUNIT)], tmp_path / "new.bundle")
