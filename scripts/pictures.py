"""Makes the pictures of README and docs/files.md from real runs, for light and for dark pages: `make pictures`.

    .venv/bin/python scripts/pictures.py                  # all; measures for some minutes, on an idle machine
    .venv/bin/python scripts/pictures.py result.json.gz   # charts and page of this result; plain and window 500

- plain.png, window.png: each connect() of the two strategies, on the same axis, so that a reader can compare them
- profile.svg: a recording of `connbench profile`, as a terminal showed it
- page.png: the HTML page, as chromium shows it

Each has a second file with `-dark` in its name.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib import image
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from connbench.report.charts import picture
from connbench.report.charts.canvas import Options
from connbench.report.html.page import html_page
from connbench.report.series import series_of
from connbench.results.input_file import read
from connbench.units import NS_PER_MS
from terminal_cast import THEMES, record, svg

DOCS = Path(__file__).parent.parent / "docs"
CONNBENCH = str(Path(sys.executable).with_name("connbench"))
CHARTS = {"plain": "plain", "window 500": "window"}
WIDTH, HEIGHT = 1200, 700
COLUMNS, LINES = 80, 60
PAGE = {"width": 1200, "height": 740, "deviceScaleFactor": 1, "mobile": False}
DARKEST = 0.06
"""Lightness of the ground of a dark chart; white is 1."""


def name(stem: str, scheme: str, kind: str) -> Path:
    """The file of a picture."""
    return DOCS / f"{stem}{'-dark' if scheme == 'dark' else ''}.{kind}"


def darkened(png: bytes) -> bytes:
    """A chart for a dark page: what was light is dark and the reverse, and each colour keeps its hue."""
    pixels = image.imread(io.BytesIO(png))[..., :3]
    hsv = rgb_to_hsv(pixels)
    lightness = hsv[..., 2] * (1 - hsv[..., 1] / 2)
    # Saturation and lightness of HSL, of which hue is that of HSV; the lightness is turned round.
    room = np.minimum(lightness, 1 - lightness)
    saturation = np.divide(hsv[..., 2] - lightness, room, out=np.zeros_like(room), where=room > 0)
    turned = DARKEST + (1 - DARKEST) * (1 - lightness)
    value = turned + saturation * np.minimum(turned, 1 - turned)
    hsv[..., 1] = np.divide(2 * (value - turned), value, out=np.zeros_like(value), where=value > 0)
    hsv[..., 2] = value
    file = io.BytesIO()
    image.imsave(file, np.clip(hsv_to_rgb(hsv), 0, 1), format="png", metadata={"Software": ""})
    return file.getvalue()


def write(path: Path, data: bytes) -> None:
    """Write a picture, and say how large it is."""
    path.write_bytes(data)
    print(f"{path}: {len(data) / 1000:.0f} kB")


def draw_charts(source: Path) -> None:
    """Draw both charts from one result.

    Raises:
        SystemExit: A strategy is not in it.
    """
    series = {one.label: one for one in series_of([read(source)])}
    missing = CHARTS.keys() - series.keys()
    if missing:
        raise SystemExit(f"{source} has no {', '.join(sorted(missing))}: measure plain and window 500 in one run")
    latencies = [series[label].strategy.samples.latency_ns / NS_PER_MS for label in CHARTS]
    axis = 0.8 * min(values.min() for values in latencies), 1.7 * max(values.max() for values in latencies)
    for label, stem in CHARTS.items():
        options = Options(width=WIDTH, height=HEIGHT, latency_ms=(float(axis[0]), float(axis[1])))
        data = picture("scatter", [series[label]], options, "png")
        write(name(stem, "light", "png"), data)
        write(name(stem, "dark", "png"), darkened(data))


def show_page(source: Path) -> None:
    """Take a picture of the page of a result."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    drawing = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")  # WebGL without a graphics card
    for flag in ("--headless=new", "--no-sandbox", "--hide-scrollbars", *drawing):
        options.add_argument(flag)
    result = read(source)
    result.name = source.name
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        page.write_text(html_page([result]), encoding="utf-8")
        driver = webdriver.Chrome(options, Service("/usr/bin/chromedriver"))
        try:
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PAGE)
            for scheme in THEMES:
                media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
                driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
                driver.get(page.as_uri())
                driver.execute_async_script(
                    "const done = arguments[0], look = () => document.documentElement.dataset.drawn ? done() : "
                    "setTimeout(look, 50); look()"
                )
                write(name("page", scheme, "png"), driver.get_screenshot_as_png())
        finally:
            driver.quit()


def record_profile() -> None:
    """Record `connbench profile` of four strategies, which fit the width of a terminal."""
    arguments = ["profile", "--strategy", "plain,random,window,range"]
    moments = record([CONNBENCH, *arguments], " ".join(["connbench", *arguments]), COLUMNS, LINES)
    for scheme, theme in THEMES.items():
        text = svg(moments, COLUMNS, theme, "connbench profile in a terminal")
        write(name("profile", scheme, "svg"), text.encode())


def main() -> int:
    """Make all pictures, or those of one result."""
    if len(sys.argv) > 1:
        draw_charts(Path(sys.argv[1]))
        show_page(Path(sys.argv[1]))
        return 0
    record_profile()
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json.gz")
        asked = ["--strategy", "plain,window", "--window", "500", "--port-range", "9024-65535", "-o", str(result)]
        subprocess.run([CONNBENCH, "run", *asked], check=True)
        draw_charts(result)
        show_page(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
