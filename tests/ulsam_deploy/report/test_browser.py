"""The page in a real Chromium: it runs without a complaint, fetches nothing, reacts, and needs no mouse."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.report import page
from ulsam_deploy.report.comparison import comparison
from ulsam_deploy.report.subject import BundlePart
from ulsam_deploy.report.timed import TimedPart

from ... import needs
from .conftest import golden, manifest, maps
from .results import result

pytestmark = pytest.mark.browser
WORDS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
SCREENS = [(1200, "light"), (1200, "dark"), (390, "light"), (390, "dark")]

#: Ratio of luminances of every visible text to what is behind it (WCAG 2.2, 1.4.3), and the element.
CONTRAST = """
const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
const linear = (c) => c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4;
const light = (colour) => colour.slice(0, 3).map(linear)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const found = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  const unseen = ["SCRIPT", "STYLE", "TITLE"].includes(element.tagName.toUpperCase());
  if (!own || unseen || !element.getClientRects().length) continue;
  const svg = element instanceof SVGElement;
  const ink = parse(getComputedStyle(element)[svg ? "fill" : "color"]);
  let behind = element, paper = [255, 255, 255];
  for (; behind; behind = behind.parentElement) {
    const colour = parse(getComputedStyle(behind).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) { paper = colour; break; }
  }
  const [high, low] = [light(ink), light(paper)].sort((a, b) => b - a);
  found.push([(high + 0.05) / (low + 0.05), element.tagName + ": " + element.textContent.trim().slice(0, 40)]);
}
return found;
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    subject = BundlePart("digits", manifest(), maps(), golden())
    parts = [subject, TimedPart("old", result()), TimedPart("new", result(1.5))]
    texts = {
        "one": page.page("digits", [subject]),
        "several": page.page("three", parts, comparison([(part.name, part.figures()) for part in parts])),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: (folder / f"{name}.html").as_uri() for name in texts}


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(needs.where("chromium"))
    for word in (*WORDS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(str(needs.where("chromedriver"))))
    yield browser
    browser.quit()


@pytest.fixture
def opened(driver: Any, files: dict[str, str]) -> Iterator[Any]:
    """``opened(name, width, scheme)``; in the end the console must be empty and nothing else fetched."""
    shown = set()

    def open_page(name: str = "one", width: int = 1200, scheme: str = "light") -> Any:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get(files[name])
        shown.add(files[name])
        return driver

    driver.get_log("browser"), driver.get_log("performance")
    yield open_page
    assert driver.get_log("browser") == []
    requests = [
        entry["message"] for entry in driver.get_log("performance") if "Network.requestWillBeSent" in entry["message"]
    ]
    assert requests, "the log of requests is not there"
    assert [
        text for text in requests if not any(f'"url":"{uri}' in text for uri in shown) and '"url":"data:' not in text
    ] == []


def captions(driver: Any) -> list[str]:
    found: list[str] = driver.execute_script(
        "return [...document.querySelectorAll('.panels figcaption')].map((caption) => caption.textContent)"
    )
    return found


def pictures(driver: Any) -> list[str]:
    found: list[str] = driver.execute_script(
        "return [...document.querySelectorAll('.panels canvas')].map((canvas) => canvas.toDataURL())"
    )
    return found


def choose(driver: Any, what: str, value: int) -> None:
    driver.find_element("css selector", f'input[data-choice="{what}"][value="{value}"]').click()


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
@pytest.mark.parametrize("name", ["one", "several"])
def test_nothing_is_wider_than_the_screen_and_every_text_can_be_read(
    opened: Any, name: str, width: int, scheme: str
) -> None:
    driver = opened(name, width, scheme)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    found = driver.execute_script(CONTRAST)
    assert len(found) > 100
    assert [(round(ratio, 2), what) for ratio, what in found if ratio < 4.5] == []


def test_the_viewer_shows_what_is_chosen(opened: Any) -> None:
    driver = opened()
    first, told = pictures(driver), captions(driver)
    assert len(set(first)) == len(first) - 2, "tflite's map is onnx's here, and so is its difference"
    assert told[0] == "The probe natural-0"
    row, column = divmod(int(maps().reference["stage.1"][0, 0].argmax()), 16)
    assert f"at row {row + 1}, column {column + 1}" in told[1]
    choose(driver, "probe", 1)
    assert all(before != after for before, after in zip(first, pictures(driver)))
    assert captions(driver)[0] == "The probe natural-1"
    choose(driver, "probe", 0)
    assert pictures(driver) == first
    choose(driver, "subspace", 3)
    assert pictures(driver)[1] != first[1]
    assert pictures(driver)[0] == first[0], "the probe itself stays"


def test_a_block_with_fewer_subspaces_and_without_an_engines_map(opened: Any) -> None:
    driver = opened()
    choose(driver, "subspace", 3)
    choose(driver, "block", 1)
    hidden = driver.execute_script(
        "return [...document.querySelectorAll('[data-subspace]')].map((label) => label.hidden)"
    )
    assert hidden == [False, False, True, True]
    chosen = driver.execute_script("return document.querySelector('input[data-choice=subspace]:checked').value")
    assert chosen == "0"
    assert "was not found among its tensors" in captions(driver)[4]


def test_stretching_and_strength_change_the_pictures(opened: Any) -> None:
    driver = opened()
    before = pictures(driver)
    driver.find_element("css selector", "[data-amplify]").click()
    after = pictures(driver)
    assert [a == b for a, b in zip(before, after)] == [True, True, True, False, True, False]
    driver.execute_script(
        "const slider = document.querySelector('[data-strength]'); slider.value = 0;"
        "slider.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    assert len(set(pictures(driver)[1:])) == 1, "without strength only the grey probe is left"


def test_it_can_be_used_with_the_keyboard_alone(opened: Any) -> None:
    from selenium.webdriver import ActionChains, Keys

    driver = opened()
    reached: list[str] = []
    for _ in range(40):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        where = driver.execute_script(
            "const e = document.activeElement; return e.dataset.choice || e.tagName.toLowerCase() + (e.type || '')"
        )
        if where == "body":  # behind the last element
            break
        outline = driver.execute_script(
            "const e = document.activeElement, seen = e.closest('label:has(input[type=radio])') || e;"
            "return getComputedStyle(seen).outlineStyle"
        )
        assert outline != "none", f"{where} has the focus and doesn't show it"
        reached.append(where)
        if where == "probe":
            before = captions(driver)[0]
            ActionChains(driver).send_keys(Keys.ARROW_RIGHT).perform()
            assert captions(driver)[0] != before
    assert {"a", "summary", "probe", "block", "subspace", "inputrange", "inputcheckbox", "div"} <= set(reached)


@pytest.mark.parametrize("name", ["one", "several"])
def test_it_has_what_a_screen_reader_needs(opened: Any, name: str) -> None:
    driver = opened(name)
    levels = driver.execute_script(
        "return [...document.querySelectorAll('h1,h2,h3,h4')].map((h) => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), "a heading level is left out"
    nameless = driver.execute_script(
        "const named = (e) => e.getAttribute('aria-label') || [...e.labels || []].some((l) => l.textContent.trim());"
        "const all = [...document.querySelectorAll('[role=img], [role=region], [role=group], input, nav')];"
        "return all.filter((e) => e.getClientRects().length && !named(e)).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert nameless == []
    assert driver.execute_script("return document.documentElement.lang") == "en"
    tables = driver.execute_script("return [...document.querySelectorAll('table')].map((t) => !!t.caption)")
    assert all(tables)
    said = driver.execute_script("return document.querySelector('[aria-live]').textContent")
    assert said.startswith("Probe natural-0, block stage.1, subspace 1 of 4.")


def test_it_says_so_without_scripts(files: dict[str, str], driver: Any) -> None:
    text = Path(files["one"].removeprefix("file://")).read_text(encoding="utf-8")
    assert "<noscript>" in text
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        driver.get(files["one"])
        body = driver.find_element("tag name", "body").text
        assert "The viewer needs JavaScript" in body
        assert "91.00 of 8 noise floors" in body
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
