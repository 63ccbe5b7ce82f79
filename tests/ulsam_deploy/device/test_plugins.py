"""Entry points that lead nowhere: named with whoever announces them and what to do, and in nobody else's way."""

from __future__ import annotations

from importlib.metadata import EntryPoint, PathDistribution
from pathlib import Path

import pytest

from ulsam_deploy._version import __version__
from ulsam_deploy.cli import main
from ulsam_deploy.device import plugins
from ulsam_deploy.device.engines import runtime_for
from ulsam_deploy.device.errors import UnavailableError, UsageError

ROOT = Path(plugins.__file__).parents[2]


def announced(folder: Path, distribution: str, value: str) -> EntryPoint:
    """An entry point called ``odd`` of an installed distribution, as :mod:`importlib.metadata` gives it."""
    info = folder / "info" / f"{distribution.replace('-', '_')}-0.0.9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.0.9\n")
    (info / "entry_points.txt").write_text(f"[{plugins.RUNTIMES}]\nodd = {value}\n")
    (point,) = PathDistribution(info).entry_points
    return point


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> EntryPoint:
    """One more runtime beside those that there are."""
    (tmp_path / "odd_needs.py").write_text("import no_such_library\n")
    (tmp_path / "odd_names.py").write_text("from ulsam_deploy.device.errors import NoSuchError\n")
    monkeypatch.syspath_prepend(tmp_path)
    point = announced(tmp_path, *request.param)
    known = plugins.registered

    def with_it(group: str) -> dict[str, EntryPoint]:
        return {**known(group), **({"odd": point} if group == plugins.RUNTIMES else {})}

    monkeypatch.setattr(plugins, "registered", with_it)
    return point


@pytest.mark.parametrize(
    ("odd", "found", "todo"),
    [
        (("ulsam-deploy", "ulsam_deploy.runtimes.odd:Odd"), f"isn't in the ulsam-deploy {__version__}", f"'{ROOT}'"),
        (("ulsam-deploy", "ulsam_deploy.runtimes.tflite:Odd"), "the installed ulsam-deploy 0.0.9", f"'{ROOT}'"),
        (("toy", "toy.odd:Odd"), "toy.odd:Odd by toy 0.0.9, and isn't there", "install toy again"),
        (("toy", "odd_needs:Odd"), "needs the package 'no_such_library'", "install what has 'no_such_library'"),
        (("ulsam-deploy", "odd_needs:Odd"), "needs the package 'no_such_library'", "'ulsam-deploy[export]"),
        (("toy", "odd_names:Odd"), "of toy 0.0.9 cannot be imported", f"fits ulsam-deploy {__version__}"),
    ],
    indirect=["odd"],
)
def test_a_plug_in_that_cannot_be_had(
    odd: EntryPoint, found: str, todo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UnavailableError) as error:
        plugins.load(plugins.RUNTIMES, "odd")
    assert found in error.value.found
    assert todo in error.value.todo
    assert "doctor" not in error.value.todo, "doctor itself says this"
    assert "odd" not in plugins.loaded(plugins.RUNTIMES)
    assert runtime_for("onnx").target == "onnx", "it stopped another one"
    assert main(["doctor"]) == 0
    assert error.value.todo in capsys.readouterr().out


def test_where_none_can_be_had_the_first_one_s_reason_is_raised(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    point = announced(tmp_path, "toy", "toy.odd:Odd")
    monkeypatch.setattr(plugins, "registered", lambda _group: {"odd": point})
    with pytest.raises(UnavailableError, match="announced as toy"):
        plugins.loaded(plugins.RUNTIMES)


def test_where_nothing_is_announced_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "registered", lambda _group: {})
    with pytest.raises(UsageError) as error:
        plugins.load(plugins.EXPORTERS, "onnx")
    assert f"pip install '{ROOT}'" in error.value.todo
