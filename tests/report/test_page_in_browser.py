"""The report in a real browser: it is whole, asks for nothing, fits every width, and keys reach it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import Browser, needs_chromium

pytestmark = needs_chromium

#: What of the drawn elements that are not folded away has no size, or lies beyond the window's right edge.
UNSEEN = """[...document.querySelectorAll('img, svg')].filter((e) => !e.closest('details'))
  .filter((e) => { const b = e.getBoundingClientRect(); return !(b.width > 0 && b.height > 0); }).length"""
NOT_LOADED = "[...document.images].filter((i) => !(i.complete && i.naturalWidth > 0)).length"
BEYOND = """[...document.querySelectorAll('main *, header *, nav *, footer *')]
  .filter((e) => !e.closest('.box, pre, svg') && e.getBoundingClientRect().right > innerWidth + 1)
  .map((e) => e.tagName + '.' + e.className).join()"""
CONTRAST = """(() => {
  const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number)
    .map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const ratio = (e) => { const own = light(getComputedStyle(e).color);
    return (Math.max(own, paper) + 0.05) / (Math.min(own, paper) + 0.05); };
  return Math.min(...['p', '.lede', '.spread', 'figcaption', 'a', '.reject .effect', '.select .effect',
    '.votes dt'].flatMap((s) => [...document.querySelectorAll(s)]).map(ratio)); })()"""


@pytest.fixture(scope="module")
def address(report_html: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report_html, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def show(browser: Browser, address: str, width: int, scheme: str) -> None:
    browser.resize(width, 900)
    browser.emulate(scheme)
    browser.open(address)
    browser.wait_for("document.readyState", "complete")
    browser.wait_for(NOT_LOADED, 0)


def of_kind(browser: Browser, *methods: str) -> list[dict[str, Any]]:
    return [event["params"] for event in browser.events if event["method"] in methods]


def test_nothing_is_asked_for_and_nothing_goes_wrong(browser: Browser, address: str) -> None:
    browser.watch()
    show(browser, address, 1600, "light")
    asked = [event["request"]["url"] for event in of_kind(browser, "Network.requestWillBeSent")]
    assert address in asked
    assert all(url == address or url.startswith("data:") for url in asked)
    assert not of_kind(browser, "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    assert not of_kind(browser, "Network.loadingFailed", "Page.javascriptDialogOpening")
    assert browser.value("document.title").startswith("A report & its <title>")
    assert browser.value("document.scripts.length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 768, 1600])
def test_all_is_seen_and_the_page_does_not_scroll_sideways(
    browser: Browser, address: str, width: int, scheme: str
) -> None:
    show(browser, address, width, scheme)
    assert browser.value("document.images.length") > 50
    assert browser.value(UNSEEN) == 0
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(BEYOND) == ""
    browser.value("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(BEYOND) == ""


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_texts_stand_out_in_light_and_dark(browser: Browser, address: str, scheme: str, dark: bool) -> None:
    show(browser, address, 1600, scheme)
    ground = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (ground != "rgb(255, 255, 255)") is dark
    assert browser.value(CONTRAST) >= 4.5  # WCAG 2.2, 1.4.3
    drawn = "getComputedStyle(document.querySelector('.plot text')).fill"
    assert browser.value(drawn) == browser.value("getComputedStyle(document.querySelector('.lede')).color")


def test_plots_stay_readable_on_a_phone(browser: Browser, address: str) -> None:
    show(browser, address, 380, "light")
    texts = "[...document.querySelectorAll('.plot text')]"
    assert browser.value(f"Math.min(...{texts}.map((t) => t.getBoundingClientRect().height))") >= 10


def test_keys_reach_every_link_in_order_and_the_focus_is_seen(browser: Browser, address: str) -> None:
    show(browser, address, 1600, "light")
    reached = "[...document.querySelectorAll('a, summary, [tabindex=\"0\"]')]"
    folded = "(e) => e.tagName !== 'SUMMARY' && e.closest('details')"
    wanted = browser.value(f"{reached}.filter((e) => !({folded})(e)).length")
    seen = []
    for _ in range(wanted):
        browser.press("Tab")
        assert browser.value("getComputedStyle(document.activeElement).outlineStyle") != "none"
        seen.append(
            browser.value("document.activeElement.getAttribute('href') || document.activeElement.tagName")
        )
    assert seen[:3] == ["#main", "#results", "#tasks"] and "#provenance" in seen
    assert seen.count("SUMMARY") == browser.value("document.querySelectorAll('summary').length")


def test_the_skip_link_leads_past_the_contents(browser: Browser, address: str) -> None:
    show(browser, address, 380, "light")
    browser.press("Tab")
    assert browser.value("document.activeElement.getBoundingClientRect().left") >= 0
    browser.press("Enter")
    browser.wait_for("document.activeElement.id", "main")


def test_a_link_leads_to_its_filter(browser: Browser, address: str) -> None:
    show(browser, address, 1600, "light")
    browser.value("document.querySelector('nav a[href=\"#filter-ensemble\"]').click()")
    browser.wait_for("location.hash", "#filter-ensemble")
    top = "Math.abs(document.getElementById('filter-ensemble').getBoundingClientRect().top) < 60"
    browser.wait_for(top, True)


def test_it_is_small(address: str) -> None:
    assert Path(address.removeprefix("file://")).stat().st_size < 1_000_000
