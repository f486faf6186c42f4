"""The page in a real browser: it draws, answers to clicks, follows dark mode, and asks the network for nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_report_files import CHARTS

from veriquant.report import ReportPaths

BROWSER, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1400,1000",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip

pytestmark = pytest.mark.skipif(
    not (BROWSER.exists() and DRIVER.exists()), reason=f"needs Chromium: {BROWSER} and {DRIVER}"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs the Python package selenium")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


def opened(browser: Any, paths: ReportPaths) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(paths.html.as_uri())
    WebDriverWait(browser, 120).until(
        lambda b: b.execute_script("return document.documentElement.dataset.charts === 'drawn'")
    )
    return browser


def requested(browser: Any, paths: ReportPaths) -> list[str]:
    """What the report asked for since this was last called (the browser's own start page asks for much)."""
    events = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [each["request"]["url"] for each in sent if each["documentURL"].startswith(paths.html.as_uri())]


@pytest.fixture(scope="module")
def page(browser: Any, paths: ReportPaths) -> Any:
    """The browser with the report drawn. The test of a hostile name, which opens another page, comes last."""
    return opened(browser, paths)


def test_the_page_draws_every_chart_and_loads_nothing(page: Any, paths: ReportPaths) -> None:
    assert requested(page, paths) == [paths.html.as_uri()]
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert [entry for entry in page.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    drawn = page.execute_script(
        "return Array.from(document.querySelectorAll('.chart')).filter(c => c.querySelector("
        "'svg .scatterlayer .trace, svg .barlayer .trace, svg .boxlayer .trace')).length"
    )
    assert drawn == CHARTS


def test_a_click_in_the_legend_hides_a_variant(page: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    found = (
        "const chart = Array.from(document.querySelectorAll('.chart')).find(c => c.layout.title.text.includes('DET'));"
    )
    assert page.execute_script(f"{found} return chart._fullData[0].visible") is True
    toggle = page.execute_script(
        f"{found} chart.scrollIntoView({{block: 'center', behavior: 'instant'}});"
        "return chart.querySelector('.legendtoggle')"
    )
    from selenium.webdriver import ActionChains

    ActionChains(page).move_to_element(toggle).click().perform()
    WebDriverWait(page, 20).until(
        lambda b: b.execute_script(f"{found} return chart._fullData[0].visible") == "legendonly"
    )
    assert page.execute_script(f"{found} return chart._fullData[1].visible") is True


def test_no_button_sends_data_away(page: Any) -> None:
    titles = set(
        page.execute_script("return Array.from(document.querySelectorAll('.modebar-btn'), b => b.dataset.title || '')")
    )
    assert titles
    assert not any(word in title.lower() for title in titles for word in ("cloud", "share", "send", "link", "edit"))


def test_charts_follow_dark_mode(page: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    def paper(b: Any) -> str:
        return str(b.execute_script("return document.querySelector('.chart')._fullLayout.paper_bgcolor"))

    light = paper(page)
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    try:
        WebDriverWait(page, 60).until(lambda b: paper(b) != light)
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_mixed_precision_is_drawn_and_fits(browser: Any, mixed: ReportPaths) -> None:
    opened(browser, mixed)
    assert requested(browser, mixed) == [mixed.html.as_uri()]
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    drawn = browser.execute_script(
        "const inside = id => Array.from(document.querySelectorAll('#' + id + ' .chart'));"
        "return ['network-1-mixed', 'network-2-mixed', 'sensitivity'].map(id => inside(id).filter(c => c.querySelector("
        "'svg .scatterlayer .trace, svg .barlayer .trace, svg .boxlayer .trace')).length)"
    )
    assert drawn == [2 + 2 * 3, 1 + 3, 1]


@pytest.mark.parametrize("width", [1400, 390])
def test_many_groups_scroll_in_their_chart_and_not_the_page(browser: Any, mixed: ReportPaths, width: int) -> None:
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        opened(browser, mixed)
        wider = browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
        assert wider <= 0
        scrolled = browser.execute_script(
            "return Array.from(document.querySelectorAll('#network-2-mixed .sideways'), "
            "box => [box.scrollWidth > box.clientWidth, box.querySelector('svg').clientWidth])"
        )
        along = [drawn for overflows, drawn in scrolled if overflows and drawn > 130 * 15]
        assert len(along) == 2
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_hostile_name_runs_nothing(browser: Any, hostile: ReportPaths) -> None:
    opened(browser, hostile)
    assert browser.execute_script("return window.hacked === undefined")
    assert requested(browser, hostile) == [hostile.html.as_uri()]
    assert browser.execute_script("return document.images.length") == 0
    assert "SYNTHETIC DATA" in browser.find_element("css selector", ".banner").text
    title = browser.execute_script("return document.querySelector('.chart .gtitle').textContent")
    assert "<script>window.hacked" in title
    assert "SYNTHETIC DATA" in title
