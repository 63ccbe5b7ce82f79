"""Makes ``docs/report.png``: the report of the reference network on held-out digits, seen by Chromium.

Run python docs/screenshot.py. Needs the extras ``all`` and ``dev``, chromium and chromedriver. A bundle that is there
already can be given instead.
"""

from __future__ import annotations

import argparse
import base64
import io
import shutil
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "report.png"
#: Pixels of the page, and how many of the picture each of them is.
WIDTH, HEIGHT, SCALE = 1100, 1970, 0.7
#: Bytes: a README is read over telephones.
LIMIT = 300_000


def main() -> None:
    """Export, look, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, nargs="?")
    given = parser.parse_args().bundle
    with tempfile.TemporaryDirectory() as folder:
        bundle = given or exported(Path(folder))
        picture = small(screenshot(bundle / "report.html", Path(folder)))
    if len(picture) > LIMIT:
        raise SystemExit(f"the picture has {len(picture)} bytes; {LIMIT} are allowed")
    PICTURE.write_bytes(picture)
    print(f"{PICTURE}: {len(picture)} bytes")


def exported(folder: Path) -> Path:
    """A bundle of the reference network, its own kind of images among the probes."""
    from ulsam_deploy.cli import main as command
    from ulsam_deploy.models.digits import cluttered_digits

    images, _ = cluttered_digits("held-out", 6, seed=4)
    np.savez(folder / "digits.npz", x=images)
    bundle = folder / "cluttered_digits.bundle"
    model = ROOT / "models" / "cluttered_digits.pt"
    words = ["export", model, "--target", "all", "--probes", folder / "digits.npz", "--output", bundle]
    if command([str(word) for word in words]):
        raise SystemExit("the export failed")
    return bundle


def screenshot(page: Path, folder: Path) -> bytes:
    """The top of the page as PNG."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(shutil.which("chromium"))
    for word in ("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "hide-scrollbars",
                 "disable-background-networking", "disable-component-update", "disable-sync",
                 f"user-data-dir={folder / 'profile'}"):  # fmt: skip
        options.add_argument(f"--{word}")
    driver = webdriver.Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
    try:
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get(page.resolve().as_uri())
        driver.find_element("css selector", 'input[data-choice="block"][value="2"]').click()
        driver.execute_script("document.activeElement.blur()")
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT, "scale": SCALE}
        taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
        return base64.b64decode(taken["data"])
    finally:
        driver.quit()


def small(picture: bytes) -> bytes:
    """The same in 128 colours."""
    from PIL import Image

    stream = io.BytesIO()
    image = Image.open(io.BytesIO(picture)).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


if __name__ == "__main__":
    main()
