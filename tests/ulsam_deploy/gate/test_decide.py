"""The gate: each limit passes, fails and doubts as it should; what can't be compared says why."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.device.bench.result import Condition, Energy, Parity
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.gate import FIGURES, DeviceBudget, LimitFinding, decide, of_result, read_budgets

from ..device.bench.results import BUSY, NO_CLOCKS, PI, THROTTLED, measured, noisy, result

OLD = noisy(16, 0)


#: The name of the finding of each key; a comparison of times that is not possible names all of them together.
NAMES = {
    "max_error": "largest error",
    "min_retention": "least retention",
    "max_size_mb": "size",
    "max_rss_mb": "memory",
    "max_energy_mj": "energy",
    "max_p90_ms": "p90",
}


def decided(old: Any, new: Any, *budgets: DeviceBudget, **more: Any) -> list[LimitFinding]:
    return decide(of_result(old), of_result(new), budgets, **more)


def one(old: Any, new: Any, budget: DeviceBudget, **more: Any) -> LimitFinding:
    """What the one limit of ``budget`` gave."""
    (name,) = (name for key, name in NAMES.items() if getattr(budget, key) is not None)
    found = decided(old, new, budget, **more)
    (finding,) = (each for each in found if each.limit in (name, "measured") and not each.baseline)
    return finding


def time(old: Any, new: Any, percent: float = 5.0, **more: Any) -> LimitFinding:
    found = decided(old, new, DeviceBudget(losses={"max_regression_percent": percent}), **more)
    (finding,) = (each for each in found if each.limit.split(",")[0] == "time")
    return finding


def regression(scale: float, percent: float = 5.0, rounds: int = 16) -> LimitFinding:
    old, new = result(measured(noisy(rounds, 0))), result(measured(noisy(rounds, 1, scale)), session="1" * 16)
    return time(old, new, percent)


def test_a_regression_fails_an_equal_build_passes_and_between_nobody_knows() -> None:
    assert regression(1.0).verdict is Verdict.PASS
    slower = regression(1.12)
    assert slower.verdict is Verdict.FAIL
    assert "times as long" in slower.text
    assert "at most 5 % longer is allowed" in slower.text
    assert "at different times" in slower.found
    doubt = regression(1.05)
    assert doubt.verdict is Verdict.INCONCLUSIVE
    assert "measure more rounds" in doubt.text
    assert regression(0.5).verdict is Verdict.PASS


def test_too_few_rounds_decide_nothing() -> None:
    assert regression(2.0, rounds=5).verdict is Verdict.INCONCLUSIVE


def test_rounds_in_turns_cancel_what_hits_both() -> None:
    """A drift of 30 % over the session hides 5 % when the two are taken apart, and not in turns."""
    drift = [1 + 0.3 * turn / 15 for turn in range(16)]
    old = [(times * d).astype("int64") for times, d in zip(noisy(16, 0), drift)]
    new = [(times * d).astype("int64") for times, d in zip(noisy(16, 1, 1.06), drift)]
    apart = time(result(measured(old)), result(measured(new), session="1" * 16), 1.0)
    in_turns = time(result(measured(old)), result(measured(new)), 1.0)
    assert apart.verdict is Verdict.INCONCLUSIVE
    assert in_turns.verdict is Verdict.FAIL
    assert in_turns.found.endswith("in turns")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"machine": dataclasses.replace(PI, board="Raspberry Pi 4 Model B Rev 1.4")}, "The board differs"),
        ({"machine": dataclasses.replace(PI, cores=2)}, "The cores differs: 4 in the baseline, 2 now."),
        ({"machine": dataclasses.replace(PI, memory=4 << 30)}, "The memory differs"),
        ({"threads": 4}, "number of threads differs"),
        ({"cpus": (0, 1)}, "set of processors differs"),
    ],
)
def test_another_device_or_other_settings_are_not_comparable(change: dict[str, Any], words: str) -> None:
    new = result(measured(OLD), session="1" * 16, **change)
    finding = time(result(measured(OLD)), new)
    assert (finding.verdict, finding.found) == (Verdict.INCONCLUSIVE, "not comparable")
    assert words in finding.text


@pytest.mark.parametrize("side", ["Baseline", "Current"])
@pytest.mark.parametrize("reason", [THROTTLED, NO_CLOCKS, BUSY])
def test_what_the_watchers_saw_is_an_obstacle_on_either_side(side: str, reason: Any) -> None:
    clean, seen = measured(OLD), measured(OLD, reason)
    old, new = (seen, clean) if side == "Baseline" else (clean, seen)
    finding = time(result(old), result(new, session="1" * 16))
    assert finding.found == "not comparable"
    assert f"{side}: {reason.text}" in finding.text


def test_unknown_clocks_can_be_waived_and_throttling_can_not() -> None:
    for reason, verdict in ((NO_CLOCKS, Verdict.PASS), (THROTTLED, Verdict.INCONCLUSIVE)):
        old, new = result(measured(OLD, reason)), result(measured(OLD, reason), session="1" * 16)
        assert time(old, new, allow_unknown=True).verdict is verdict


def test_load_is_no_obstacle_in_turns_because_it_hits_both() -> None:
    busy = result(measured(OLD, BUSY))
    assert time(busy, busy).verdict is Verdict.PASS
    throttled = result(measured(OLD, THROTTLED))
    assert time(throttled, throttled).found == "not comparable"


def test_another_governor_is_not_comparable() -> None:
    new = measured(OLD)
    other = dataclasses.replace(new.processes[0].watch, governors={"policy0": "powersave"})
    processes = tuple(dataclasses.replace(process, watch=other) for process in new.processes)
    changed = dataclasses.replace(new, processes=processes)
    finding = time(result(measured(OLD)), result(changed, session="1" * 16))
    assert "The governor differs" in finding.text


def test_an_artifact_that_the_baseline_lacks() -> None:
    gone, new = decided(result(measured(OLD, target="tflite")), result(measured(OLD)))
    assert (gone.label, gone.verdict) == ("tflite fp32", Verdict.FAIL)
    assert (new.label, new.verdict) == ("onnx fp32", Verdict.INCONCLUSIVE)
    assert "baseline has no such artifact" in new.text


@pytest.mark.parametrize(
    ("budget", "holds", "words"),
    [
        ({"max_error": 3.0}, True, ""),
        ({"max_error": 2.0}, False, "largest error is 2.5 noise floors; at most 2 noise floors is allowed"),
        ({"min_retention": 0.9}, True, ""),
        ({"min_retention": 0.995}, False, "least retention is 0.99; at least 0.995 is allowed"),
        ({"max_size_mb": 1.5}, True, ""),
        ({"max_size_mb": 1.49}, False, "size is 1.5 MB"),
        ({"max_rss_mb": 50}, True, ""),
        ({"max_rss_mb": 49}, False, "memory is 50 MB"),
        ({"max_energy_mj": 2.0}, True, ""),
        ({"max_energy_mj": 1.9}, False, "energy is 2 mJ"),
        ({"max_p90_ms": 1.2}, True, ""),
        ({"max_p90_ms": 0.9}, False, "p90 is 1.0"),
    ],
)
def test_every_limit_holds_and_breaks(budget: dict[str, float], holds: bool, words: str) -> None:
    now = result(measured(OLD))
    finding = one(now, now, DeviceBudget(**budget))
    assert finding.verdict is (Verdict.PASS if holds else Verdict.FAIL)
    assert words in finding.text


def test_a_p90_that_lies_about_at_the_limit_is_inconclusive() -> None:
    now = result(measured(OLD))
    limit = now.measured[0].latency.p90
    assert limit is not None
    assert one(now, now, DeviceBudget(max_p90_ms=limit)).verdict is Verdict.INCONCLUSIVE


def test_what_was_not_measured_is_inconclusive_and_an_endless_error_fails() -> None:
    blank = measured(OLD, parity=None, peak_rss=None, energy=None)
    now = result(blank)
    for name in ("max_error", "min_retention", "max_rss_mb", "max_energy_mj"):
        finding = one(now, now, DeviceBudget(**{name: 1e9}))
        assert (finding.verdict, finding.found) == (Verdict.INCONCLUSIVE, "not measured")
    broken = result(measured(OLD, parity=Parity(Verdict.FAIL, None, None)))
    assert one(broken, broken, DeviceBudget(max_error=1e9)).verdict is Verdict.FAIL


def test_a_disturbed_machine_can_show_that_a_limit_holds_and_not_that_it_does_not() -> None:
    now = result(measured(OLD, THROTTLED))
    assert one(now, now, DeviceBudget(max_p90_ms=1.2)).verdict is Verdict.PASS
    doubt = one(now, now, DeviceBudget(max_p90_ms=0.9))
    assert doubt.verdict is Verdict.INCONCLUSIVE
    assert "Throttled happened once." in doubt.text
    energy = result(measured(OLD, NO_CLOCKS, energy=Energy("s", 1.0, 2.0, 9.0, 1.0, 2)))
    assert one(energy, energy, DeviceBudget(max_energy_mj=1)).verdict is Verdict.INCONCLUSIVE
    assert one(energy, energy, DeviceBudget(max_energy_mj=1), allow_unknown=True).verdict is Verdict.FAIL


def test_budgets_choose_by_target_precision_and_device() -> None:
    now = result(measured(OLD), measured(noisy(16, 2), target="tflite"))
    chosen = [
        DeviceBudget(target="onnx", max_size_mb=1),
        DeviceBudget(target="t*", max_rss_mb=1),
        DeviceBudget(device="Raspberry Pi 5*", max_energy_mj=1),
        DeviceBudget(device="*Orin*", target="trt", max_p90_ms=1),
        DeviceBudget(precision="int8", device="*Orin*", max_error=1),
    ]
    found = [(each.label, each.limit) for each in decided(now, now, *chosen) if not each.baseline]
    assert found == [
        ("onnx fp32", "size"), ("onnx fp32", "energy"), ("tflite fp32", "memory"), ("tflite fp32", "energy"),
    ]  # fmt: skip


def test_a_budget_whose_artifact_was_not_measured_is_not_forgotten() -> None:
    now = dataclasses.replace(result(measured(OLD)), left_out={"openvino fp32": "not installed"})
    finding = one(now, now, DeviceBudget(target="openvino", max_p90_ms=1))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "nothing of that kind was measured. not installed" in finding.text


def write(folder: Path, text: str) -> Path:
    (folder / "budgets.toml").write_text(text)
    return folder / "budgets.toml"


def test_budgets_are_read(tmp_path: Path) -> None:
    text = '[[budget]]\ntarget = "onnx"\nmax_p90_ms = 5\n[[budget]]\ndevice = "*Pi 5*"\nmin_retention = 0.9\n'
    assert read_budgets(write(tmp_path, text)) == (
        DeviceBudget(target="onnx", max_p90_ms=5.0),
        DeviceBudget(device="*Pi 5*", min_retention=0.9),
    )


def test_of_the_budgets_that_fit_the_strictest_decides_what_may_be_lost() -> None:
    old, new = result(measured(OLD)), result(measured(OLD, size=1_560_000))  # 4 % more

    def size(*budgets: DeviceBudget) -> Verdict:
        (found,) = (each.verdict for each in decided(old, new, *budgets) if each.limit == "size")
        return found

    loose, strict = (DeviceBudget(losses={"max_size_percent": percent}) for percent in (5, 3))
    assert size() is Verdict.FAIL, "2 % by default"
    assert size(loose) is Verdict.PASS
    assert size(loose, strict) is Verdict.FAIL
    assert size(DeviceBudget(target="tflite", losses={"max_size_percent": 5})) is Verdict.FAIL


def test_a_figure_can_be_left_out(tmp_path: Path) -> None:
    (budget,) = read_budgets(write(tmp_path, "[[budget]]\nmax_size_percent = inf\n"))
    found = decided(result(measured(OLD)), result(measured(OLD, size=10**9)), budget)
    assert "size" not in [each.limit for each in found]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[budget]]\nmax_p9_ms = 1\n", "unknown key 'max_p9_ms'"),
        ("[[budget]]\nmax_p9_ms = 1\n", "nearest: 'max_p90_ms'"),
        ("[[budget]]\nmax_size_prcent = 1\n", "nearest: 'max_size_percent'"),
        ("[[budget]]\nmax_size_percent = 'little'\n", "a number"),
        ("[[budget]]\nmax_size_percent = -1\n", "too small"),
        ("[[budget]]\nlosses = {}\n", "unknown key 'losses'"),
        ("[[budgets]]\nmax_p90_ms = 1\n", "did you mean 'budget'"),
        ("[other]\nx = 1\n", "unknown key 'other'"),
        ("[[budget]]\nmax_p90_ms = 'fast'\n", "a number"),
        ("[[budget]]\nmax_p90_ms = -1\n", "too small"),
        ("[[budget]]\nmax_p90_ms = true\n", "a number"),
        ("[[budget]]\ntarget = 'onnx'\n", "limits nothing"),
        ("[budget]\nmax_p90_ms = 1\n", "not a list of tables"),
        ("[budget]\ndrop = 1\n", r"max_p90_ms(.|\n)*a single \[budget\] is what 'export --precision auto' takes"),
        ("budget = [1]\n", "not a list of tables"),
        ("", "holds no budget"),
        ("[[budget]", "isn't valid TOML"),
    ],
)
def test_a_wrong_budget_says_what_is_wrong(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"budgets\.toml") as error:
        read_budgets(write(tmp_path, text))
    assert re.search(words, str(error.value))


def test_the_documented_budget_is_one_and_names_every_key(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "gate.md").read_text()
    text = page.partition("```toml\n")[2].partition("```")[0]
    (budget,) = read_budgets(write(tmp_path, text))
    assert None not in dataclasses.astuple(budget)
    assert set(budget.losses) == {figure.key for figure in FIGURES}


def test_the_documented_table_is_that_of_the_figures() -> None:
    page = (Path(__file__).parents[3] / "docs" / "gate.md").read_text()
    rows = [f"| {figure.name} | {figure.allowed(figure.default)} | `{figure.key}` |" for figure in FIGURES]
    assert "\n".join(rows) in page


def test_a_missing_file_of_budgets(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read: No such file"):
        read_budgets(tmp_path / "none.toml")


def test_the_condition_of_the_made_up_results_is_what_their_reasons_say() -> None:
    assert measured(OLD, NO_CLOCKS).condition is Condition.UNKNOWN
    assert measured(OLD, NO_CLOCKS, THROTTLED).condition is Condition.DISTURBED


def test_a_budget_names_things_as_people_do(tmp_path: Path) -> None:
    text = '[[budget]]\ntarget = "TensorRT"\nprecision = "half"\nmax_p90_ms = 5\n'
    text += '[[budget]]\ntarget = "t*"\nmax_size_mb = 1\n'
    assert read_budgets(write(tmp_path, text)) == (
        DeviceBudget(target="trt", precision="fp16", max_p90_ms=5.0),
        DeviceBudget(target="t*", max_size_mb=1.0),
    )
