"""The HTML page in a real browser, Debian's chromium: switches, hovering, zooming, phone, dark mode, print."""

from __future__ import annotations

import base64
import errno
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib import image
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from connbench.model import PortRange, StrategySpec
from connbench.report.html.page import html_page
from connbench.results.result import Result, Round
from factories import PLAIN, PLAN, WINDOW, result_of, round_of, samples_of
from required_programs import require
from run_connbench import HANG_S

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # the tests may run as root
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",  # WebGL without a graphics card
    "--enable-unsafe-swiftshader",
    "--window-size=1280,900",
)

ATTEMPTS = 3000
SLOW_S, FAST_S, FAILED_S = 1e-3, 10e-6, 100e-6
"""Latencies that differ by factors of ten: each makes a line of its own across the scatter."""

EVAL = " &#39;unsafe-eval&#39;"
"""A word of the page's policy, as it stands in the page."""

HOSTILE = "</script><script>hacked=1</script><img src=x onerror=hacked=2><b>%{x}</b>"
PLAYFUL = "<b>%{x}</b><a href='javascript:hacked=3'>&lt;</a><br>"
"""Words in plotly's own markup."""


def measured() -> Result:
    """Plain at 1 ms, window at 10 µs with every tenth attempt failed at 100 µs."""
    failed = [errno.EADDRNOTAVAIL if i % 10 == 9 else 0 for i in range(ATTEMPTS)]
    window = samples_of([100_000 if number else 10_000 for number in failed], errno=failed)
    result = result_of({PLAIN: [round_of(samples_of([1_000_000] * ATTEMPTS))], WINDOW: [round_of(window)]})
    result.environment |= {"command": "connbench run --window 500", "a very long setting " * 5: "value " * 50}
    return result


class Browser:
    """A chromium with one of connbench's pages in it."""

    def __init__(self, profile: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = require("chromium")
        for flag in (*FLAGS, f"--user-data-dir={profile}", "about:blank"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, Service(executable_path=require("chromedriver")))
        self.driver.get("about:blank")  # away from the browser's own first page, which asks for a lot

    def open(self, path: Path, width: int = 1280, *, phone: bool = False, dark: bool = False) -> None:
        """Load a page on a screen of this kind, and wait until its charts are drawn."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", media="", features=[scheme])
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=phone)
        self.command("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.driver.get(path.as_uri())
        self.wait(lambda: self.run("return document.documentElement.dataset.drawn"))

    def command(self, name: str, **parameters: object) -> dict[str, Any]:
        """A command of the DevTools protocol."""
        answer: dict[str, Any] = self.driver.execute_cdp_cmd(name, parameters)
        return answer

    def run(self, script: str, *arguments: object) -> Any:  # noqa: ANN401  # whatever the script returns
        """Run a function's body in the page."""
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> WebElement:
        """The one element of a CSS selector."""
        return self.driver.find_element("css selector", selector)

    def click(self, name: str, value: str) -> None:
        """Click on a switch of the page with the mouse."""
        self.find(f'input[name="{name}"][value="{value}"]').click()

    def wait(self, condition: Callable[[], object]) -> None:
        """Poll until a condition holds; fail the test if it does not hold before the limit for a hang."""
        WebDriverWait(self.driver, HANG_S, poll_frequency=0.05).until(lambda _: condition())

    def wait_for_axes(self, kind: str) -> None:
        """Wait until the latency axes of both charts are linear or log."""
        self.wait(
            lambda: {self.chart("chart._fullLayout.yaxis.type", name) for name in ("scatter", "utilisation")} == {kind}
        )

    def chart(self, expression: str, chart: str = "scatter") -> Any:  # noqa: ANN401  # as `run`
        """A value of a chart, `chart` in the expression."""
        return self.run(f"const chart = document.getElementById('{chart}'); return {expression}")

    def drawn(self, chart: str = "scatter") -> list[str]:
        """Kind and series of the traces that are visible."""
        found: list[str] = self.chart(
            "chart.data.filter((t) => t.visible !== false).map((t) => `${t.meta.series} ${t.meta.group}`)", chart
        )
        return found

    def point_at(self, x: float, y: float) -> None:
        """Move the mouse from beside a point of the scatter onto it."""
        self.run("document.getElementById('scatter').scrollIntoView({block: 'center'})")
        place = self.chart(
            "(() => { const { xaxis, yaxis } = chart._fullLayout; const box = chart.getBoundingClientRect(); return ["
            f"box.left + xaxis._offset + xaxis.d2p({x}), box.top + yaxis._offset + yaxis.d2p({y})]; }})()"
        )
        self.command("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])

    def label_at(self, x: float, y: float) -> list[str]:
        """Lines of the label that appears when the mouse moves onto a point; empty where none appears."""
        self.point_at(x, y)
        lines: list[str] = self.run(
            "return [...document.querySelectorAll('.hovertext tspan')].map((line) => line.textContent)"
        )
        return lines

    def screenshot(self, selector: str) -> npt.NDArray[np.float32]:
        """An element as it looks, as an array of rows of RGB pixels."""
        x, y, width, height = self.run(
            "const box = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return [box.left + scrollX, box.top + scrollY, box.width, box.height]",
            selector,
        )
        clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
        png = self.command("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
        return np.asarray(image.imread(io.BytesIO(base64.b64decode(png))))[..., :3]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One chromium for all tests, with an empty profile."""
    started = Browser(tmp_path_factory.mktemp("profile"))
    try:
        yield started
    finally:
        started.driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of `measured`."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(html_page([measured()]), encoding="utf-8")
    return path


ALL = ["0 even", "0 odd", "1 even", "1 odd", "1 failed"]


def test_page_opens_without_errors_and_without_the_network(browser: Browser, page: Path) -> None:
    """From file://, the page prints nothing on the console and requests nothing."""
    browser.driver.get_log("performance")  # type: ignore[no-untyped-call]  # selenium's own gap
    browser.open(page)
    said = [entry["message"] for entry in browser.driver.get_log("browser")]  # type: ignore[no-untyped-call]  # as above
    assert [text for text in said if not text.startswith("chrome://")] == []  # of its own first page
    messages = [json.loads(entry["message"])["message"] for entry in browser.driver.get_log("performance")]  # type: ignore[no-untyped-call]  # as above
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}
    assert browser.drawn() == ALL


def test_policy_allows_no_more_than_the_charts_need(browser: Browser, page: Path, tmp_path: Path) -> None:
    """Without 'unsafe-eval' regl, which draws plotly's points, cannot start; once it can, the policy drops the word."""
    strict = tmp_path / "strict.html"
    text = page.read_text(encoding="utf-8")
    assert text.count(EVAL) == 1
    strict.write_text(text.replace(EVAL, ""), encoding="utf-8")
    browser.open(strict)
    assert "WebGL is not supported" in browser.find("#scatter").text  # plotly.js takes what regl raises for that


def test_policy_holds_what_is_no_script_of_the_page(browser: Browser, page: Path) -> None:
    """The policy refuses further scripts, event handlers and network requests, whatever adds them."""
    browser.open(page)
    refused = browser.run(
        "const refused = []; addEventListener('securitypolicyviolation', (e) => refused.push(e.effectiveDirective));"
        "const script = document.createElement('script'); script.textContent = 'window.hacked = 1';"
        "const picture = document.createElement('img'); picture.setAttribute('onerror', 'window.hacked = 2');"
        "picture.src = 'http://192.0.2.1/x.png'; document.body.append(script, picture);"
        "window.refused = refused; return 0;"
    )
    assert refused == 0
    browser.wait(lambda: {"script-src-elem", "img-src"} <= set(browser.run("return window.refused")))
    assert browser.run("return window.hacked ?? 0") == 0
    browser.driver.get_log("browser")  # type: ignore[no-untyped-call]  # what was refused is no other test's fault


def test_click_on_a_strategy_hides_it_in_both_charts(browser: Browser, page: Path) -> None:
    """A strategy's switch hides its points and lines, and shows them again."""
    browser.open(page)
    before = browser.screenshot("#scatter")
    browser.click("series", "0")
    browser.wait(lambda: browser.drawn() == ["1 even", "1 odd", "1 failed"])
    browser.wait(lambda: browser.drawn("utilisation") == ["1 median", "1 p99"])
    assert (browser.screenshot("#scatter") != before).any()
    browser.click("series", "0")
    browser.wait(lambda: browser.drawn() == ALL)
    browser.wait(lambda: np.array_equal(browser.screenshot("#scatter"), before))


def test_click_on_a_parity_hides_its_points(browser: Browser, page: Path) -> None:
    """Even, odd and failed have a switch each."""
    browser.open(page)
    browser.click("group", "odd")
    browser.wait(lambda: browser.drawn() == ["0 even", "1 even", "1 failed"])
    browser.click("group", "failed")
    browser.wait(lambda: browser.drawn() == ["0 even", "1 even"])


def test_points_are_coloured_by_strategy_or_by_parity(browser: Browser, page: Path) -> None:
    """At first colours distinguish the strategies; a switch makes them distinguish the parities."""
    browser.open(page)
    colours = "chart.data.map((t) => t.marker.color)"
    plain_even, plain_odd, window_even, _, failed = browser.chart(colours)
    assert plain_even == plain_odd != window_even
    browser.click("colour", "parity")
    browser.wait(lambda: browser.chart(colours)[0] != plain_even)
    even, odd, *others = browser.chart(colours)
    assert (others[0], others[1], others[2]) == (even, odd, failed)
    assert len({even, odd, failed}) == 3


@pytest.mark.parametrize(
    ("connection", "latency", "said"),
    [
        (2001, SLOW_S, ["plain", "connection: 2,001", "port: 11024", "latency: 1.000ms", "errno: 0, connected"]),
        (2010, FAILED_S, ["window 500", "connection: 2,010", "port: none", "errno: 99 EADDRNOTAVAIL"]),
    ],
    ids=["connected", "failed"],
)
def test_hovering_tells_of_the_attempt(
    browser: Browser, page: Path, connection: int, latency: float, said: list[str]
) -> None:
    """With the mouse over a point the label shows strategy, connection, port, latency and errno."""
    browser.open(page)
    browser.chart("void Plotly.relayout(chart, {'xaxis.range[0]': 1990, 'xaxis.range[1]': 2030})")
    browser.wait(lambda: browser.chart("chart.data[0].x.length") == 60)  # in sight, and as far again on both sides
    browser.wait(lambda: set(said) <= set(browser.label_at(connection, latency)))


def test_scale_is_switched_between_logarithmic_and_linear(browser: Browser, page: Path) -> None:
    """Both charts' latency axes follow the switch, from zero when linear."""
    browser.open(page)
    for scale in ("linear", "log"):
        browser.click("scale", scale)
        browser.wait_for_axes(scale)
        ticks = browser.run("return [...document.querySelectorAll('#scatter .ytick')].map((e) => e.textContent)")
        assert ("1ms" in ticks, "0s" in ticks) == (True, scale == "linear")
        assert all(tick.endswith("s") for tick in ticks), "a figure without a unit"


def test_dragging_zooms_in_until_attempts_come_apart(browser: Browser, page: Path) -> None:
    """A drag zooms to what it framed, with every attempt there; the house button shows everything again."""
    browser.open(page)
    all_shown = browser.chart("[...chart.layout.xaxis.range]")
    assert browser.chart("chart.data[0].x.length") < ATTEMPTS / 2
    browser.run("document.getElementById('scatter').scrollIntoView({block: 'center'})")
    pane = browser.find("#scatter .nsewdrag")
    ActionChains(browser.driver).move_to_element_with_offset(pane, -50, -100).click_and_hold().move_by_offset(
        60, 150
    ).move_by_offset(40, 100).release().perform()
    browser.wait(lambda: browser.chart("chart.layout.xaxis.range") != all_shown)
    left, right = browser.chart("chart.layout.xaxis.range")
    assert right - left < ATTEMPTS / 8
    browser.wait(lambda: set(np.diff(browser.chart("[...chart.data[0].x]"))) == {2})
    browser.find('#scatter [data-title="Show all"]').click()
    browser.wait(lambda: browser.chart("chart.layout.xaxis.range") == all_shown)


WORDS_OF_KNEES = """
const chart = document.getElementById('utilisation');
const box = (element) => {
  const { left, right, top, bottom } = element.getBoundingClientRect();
  return [left, right, top, bottom];
};
const { l, t, w, h } = chart._fullLayout._size;
const [left, , top] = box(chart);
return {
  within: [left + l, left + l + w, top + t, top + t + h],
  words: [...chart.querySelectorAll('.textpoint text')].map((e) => [e.textContent, box(e)]),
  marks: chart.querySelectorAll('.points path').length,
};
"""
"""Boxes of the labels beside the knees and of the plot area: left, right, top and bottom in pixels."""


def turning(at: int, ns: int) -> list[Round]:
    """A round whose attempts take ten times as long from attempt `at` on."""
    return [round_of(samples_of([ns if i < at else 10 * ns for i in range(ATTEMPTS)]))]


@pytest.mark.parametrize("width", [1280, 390], ids=["desk", "phone"])
def test_words_beside_knees_do_not_lie_over_each_other(browser: Browser, tmp_path: Path, width: int) -> None:
    """Of several knees in one place the page labels as many as have room, and cuts off no label near an end."""
    ends = {StrategySpec("bind"): turning(200, 10_000), StrategySpec("range"): turning(ATTEMPTS - 100, 20_000)}
    crowd = {StrategySpec("window", window=100 + i): turning(1500, 10_000 + 200 * i) for i in range(8)}
    path = tmp_path / "knees.html"
    full = replace(PLAN, port_range=PortRange(9024, 9023 + ATTEMPTS), strategies=(*ends, *crowd))
    path.write_text(html_page([result_of(ends | crowd, full)]), encoding="utf-8")
    browser.open(path, width, phone=width < 500)
    found = browser.run(WORDS_OF_KNEES)
    left, right, top, bottom = found["within"]
    boxes = [box for _, box in found["words"]]
    assert all(left <= a and b <= right and top <= c and d <= bottom for a, b, c, d in boxes)
    assert not [(one, two) for one, two in combinations(boxes, 2) if meet(one, two)]
    names = {words.partition(":")[0] for words, _ in found["words"]}
    assert names >= {"bind", "range"}
    assert len(names - {"bind", "range"}) >= (3 if width > 1000 else 1)
    assert found["marks"] == len(ends | crowd) > len(boxes)


def meet(one: Sequence[float], two: Sequence[float]) -> bool:
    """Whether boxes of left, right, top and bottom overlap."""
    return one[0] < two[1] and two[0] < one[1] and one[2] < two[3] and two[2] < one[3]


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)], ids=["desk", "dark", "phone"])
def test_charts_are_seen(browser: Browser, page: Path, width: int, *, dark: bool) -> None:
    """On a desktop, in dark mode and on a phone the scatter has points in each strategy's colour on its background."""
    browser.open(page, width, phone=width < 500, dark=dark)
    pixels = browser.screenshot("#scatter")
    assert (pixels[2, 2].mean() < 0.2) == dark
    for red, green, blue in ((0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E)):
        distance = np.abs(pixels - np.array([red, green, blue]) / 255).max(axis=2)
        assert (distance < 0.25).sum() > 300
    assert (np.abs(pixels - (0.9 if dark else 0.1)).max(axis=2) < 0.1).sum() > 100, "axis labels are not legible"


def test_phone_scrolls_wide_tables_in_their_own_box(browser: Browser, page: Path) -> None:
    """Nothing is wider than a phone's screen except what scrolls by itself."""
    browser.open(page, 390, phone=True)
    assert browser.run("return document.documentElement.scrollWidth") == 390
    boxes = browser.run("return [...document.querySelectorAll('.scroll')].map((e) => [e.scrollWidth, e.clientWidth])")
    assert any(inner > outer for inner, outer in boxes)
    assert browser.chart("chart._fullLayout.dragmode") is False


def test_paper_is_white_and_holds_the_charts(browser: Browser, page: Path) -> None:
    """Printed from dark mode, the charts turn light and fit the sheet; afterwards they are as before."""
    browser.open(page, dark=True)
    colour = "getComputedStyle(chart.querySelector('.main-svg')).backgroundColor"
    dark = browser.chart(colour)
    browser.run("dispatchEvent(new Event('beforeprint'))")  # which comes while the screen's style still holds
    assert browser.chart(colour) == "rgb(255, 255, 255)"
    assert browser.chart("chart.getBoundingClientRect().width") <= 701
    browser.command("Emulation.setEmulatedMedia", media="print")
    assert not any(one.is_displayed() for one in browser.driver.find_elements("css selector", ".controls"))
    browser.run("dispatchEvent(new Event('afterprint'))")
    browser.command(
        "Emulation.setEmulatedMedia", media="", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    browser.wait(lambda: browser.chart(colour) == dark)
    assert base64.b64decode(browser.command("Page.printToPDF")["data"]).startswith(b"%PDF")


def test_hostile_name_is_shown_and_does_nothing(browser: Browser, tmp_path: Path) -> None:
    """A strategy's name full of HTML is text in the page and in the chart's label; none of its scripts runs."""
    samples = samples_of([10_000] * 40)
    result = result_of({StrategySpec(PLAYFUL): [round_of(samples)], StrategySpec(HOSTILE): [round_of(samples)]})
    result.name = HOSTILE
    result.environment = {"kernel": HOSTILE, HOSTILE: HOSTILE}
    path = tmp_path / "hostile.html"
    path.write_text(html_page([result]), encoding="utf-8")
    browser.driver.get_log("browser")  # type: ignore[no-untyped-call]  # selenium's own gap
    browser.open(path)
    browser.wait(lambda: PLAYFUL in browser.label_at(21, FAST_S))
    assert browser.run("return [window.hacked ?? 0, document.querySelectorAll('main img, main script').length]") == [
        0,
        0,
    ]
    assert browser.driver.get_log("browser") == []  # type: ignore[no-untyped-call]  # as above
