import numpy as np
import pytest

from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.parity import Floor, explain, noise_floors
from ulsam_deploy.device.parity.noise import as_json, drift, relative, scales


def test_floor_is_the_largest_error_over_runs_and_probes() -> None:
    y = np.full((3, 4), 2.0)
    one, two = y.copy(), y.copy()
    one[1] += 2e-3  # every element of one probe: 1e-3 by both statistics
    two[2, 0] += 4e-3  # one of four elements: l2 1e-3, peak 2e-3
    floor = noise_floors({"logits": y}, [{"logits": two}, {"logits": one}])["logits"]
    assert floor.l2 == pytest.approx(1e-3)
    assert floor.peak == pytest.approx(2e-3)
    assert floor.runs == 2


def test_a_run_that_equals_the_reference_leaves_a_floor_of_float32_roundoff() -> None:
    y = np.array([[1.0, 3.0]])
    floor = noise_floors({"logits": y}, [{"logits": y}])["logits"]
    assert floor.l2 == 4 * 2.0**-24
    assert floor.peak == pytest.approx(4 * 2.0**-24 * 3 / np.sqrt(5))


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_floors_do_not_depend_on_the_unit_of_the_output(factor: float) -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(5, 10))
    z = y + 1e-4 * rng.normal(size=y.shape)
    floor = noise_floors({"o": factor * y}, [{"o": factor * z}])["o"]
    assert floor.l2 == pytest.approx(noise_floors({"o": y}, [{"o": z}])["o"].l2)


def test_a_probe_of_almost_no_output_is_measured_on_the_others() -> None:
    y = np.array([[1.0, -1.0], [1e-12, 0.0], [2.0, 2.0]])
    assert scales(y) == pytest.approx([1.0, 1e-3 * 1.0, 2.0])
    assert scales(np.zeros((2, 3))) == pytest.approx([1.0, 1.0])


def test_peak_sees_what_the_mean_drowns() -> None:
    delta = np.zeros((1, 4096))
    delta[0, 7] = 1.0
    l2, peak = relative(delta, np.ones(1))
    assert (l2[0], peak[0]) == (1 / 64, 1.0)


def test_no_run_and_runs_that_overflow_are_errors() -> None:
    y = {"logits": np.ones((1, 2))}
    with pytest.raises(ExportError, match="no control run"):
        noise_floors(y, [])
    with pytest.raises(ExportError, match="not finite in output 'logits'"):
        noise_floors(y, [{"logits": np.array([[1.0, np.inf]])}])


def test_the_explanation_is_one_sentence_with_its_figures() -> None:
    words = explain("logits", Floor(1e-6, 5e-6, 3), 8.0)
    for figure in ("'logits'", "8 noise floors", "3 control runs", "1.0e-06", "5.0e-06", "8.0e-06", "4.0e-05"):
        assert figure in words
    assert words.count(". ") == 0
    assert words.endswith(".")


def test_drift_counts_what_points_one_way_and_not_what_does_not() -> None:
    scale = np.ones(100)
    same, turns = np.zeros((100, 4)), np.zeros((100, 4))
    same[:, 2], turns[:, 2] = 1e-6, np.where(np.arange(100) % 2 == 0, 1e-6, -1e-6)
    assert drift(same, scale) == pytest.approx(1e-5)
    assert drift(turns, scale) == pytest.approx(0, abs=1e-12)
    assert drift(10 * same, 10 * scale) == pytest.approx(drift(same, scale))


def test_a_run_that_happens_to_cancel_out_makes_no_small_drift_floor() -> None:
    y = np.random.default_rng(0).normal(size=(50, 1))
    noise = 1e-4 * np.where(np.arange(50) % 2 == 0, 1.0, -1.0)[:, None] * np.abs(y)
    floor = noise_floors({"o": y}, [{"o": y + noise}])["o"]
    assert drift(noise, np.abs(y[:, 0])) < 1e-10
    assert floor.drift > 1e-4


def test_the_drift_floor_of_such_a_run_is_what_noise_without_direction_adds_up_to() -> None:
    reference = np.ones((2, 4))
    (floor,) = noise_floors({"o": reference}, [{"o": reference + np.array([[1e-3], [-1e-3]])}]).values()
    assert floor.drift == pytest.approx(1e-3 * np.sqrt(2 * np.log(2 * 4)))


def test_floors_without_a_drift_say_nothing_of_it() -> None:
    floor = Floor(1e-6, 5e-6, 3)
    assert "adds up" not in explain("o", floor)
    assert as_json({"o": floor}) == {"o": {"l2": 1e-6, "peak": 5e-6, "runs": 3}}
    assert Floor(**as_json({"o": floor})["o"]) == floor
