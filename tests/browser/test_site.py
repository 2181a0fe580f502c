"""The documentation's site in a real browser, Debian's chromium, from a folder and without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

import documentation
from required_programs import require
from run_connbench import wait_until

FLAGS = ("--headless=new", "--no-sandbox", "--no-first-run", "--disable-background-networking", "--disable-sync")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site."""
    folder = tmp_path_factory.mktemp("documentation") / "site"
    documentation.build(folder)
    return folder


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """A chromium that reaches no host."""
    options = webdriver.ChromeOptions()
    options.binary_location = require("chromium")
    for flag in (*FLAGS, "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options, Service(executable_path=require("chromedriver")))
    yield chrome
    chrome.quit()


def test_search_finds_pages(site: Path, driver: webdriver.Chrome) -> None:
    """A word of a page, and an option of a command."""
    listed = "return [...document.querySelectorAll('#search-results a')].map((one) => one.href).join(' ')"
    for word, page in (("masquerades", "docs/behind-a-nat.html"), ("--reuse-address", "commands/run.html")):
        driver.get(f"{(site / 'search.html').as_uri()}?q={word}")
        wait_until(lambda page=page: page in driver.execute_script(listed), f"the search lists {page}")  # type: ignore[misc]  # a default binds the loop's variable


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_phone_and_a_desktop(site: Path, driver: webdriver.Chrome, scheme: str) -> None:
    """No page is wider than the screen; the scheme is the reader's; the browser has nothing to complain of."""
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    grounds = set()
    for width in (390, 1280):
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == 390}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        for page in ("index", "docs/figures", "docs/how-connect-picks-a-port", "docs/many-hosts", "commands/run"):
            driver.get((site / f"{page}.html").as_uri())
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width, page
            grounds.add(driver.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 1
    assert (grounds == {"rgb(255, 255, 255)"}) is (scheme == "light")
    assert driver.get_log("browser") == []  # type: ignore[no-untyped-call]  # selenium's
