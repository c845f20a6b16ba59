"""A headless Chromium, which Debian's packages `chromium` and `chromium-driver` install, driven from tests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait
from services import missing

__all__ = ["Browser", "browser", "browser_of_module"]

_PATIENCE_S = 20
_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-device-scale-factor=1",
    "--window-size=1280,1000",
)
_QUIET = ("chrome:", "data:", "about:", "devtools:")


class Browser:
    """What tests do with a browser. Every request that it makes for a page is in `requests()`."""

    def __init__(self, profile: Path) -> None:
        chromium, driver = binaries()
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for argument in (*_ARGUMENTS, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        options.set_capability("unhandledPromptBehavior", "ignore")
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))

    def open(self, url: str) -> None:
        """Open a page from its beginning, and forget what was before."""
        self.emulate(dark=False)
        self.driver.get("about:blank")
        self.requests()
        self.complaints()
        self.driver.get(url)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript on the page and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        """The text of an element as it is seen."""
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def texts(self, selector: str) -> list[str]:
        """The texts of all such elements."""
        found: list[str] = self.run(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector
        )
        return found

    def choose(self, selector: str, value: str) -> None:
        """Choose of a `select`."""
        self.run(
            "const s = document.querySelector(arguments[0]); s.value = arguments[1];"
            "if (s.value !== arguments[1]) throw new Error('no ' + arguments[1]);"
            "s.dispatchEvent(new Event('change', {bubbles: true}))",
            selector,
            value,
        )

    def wait_for(self, script: str) -> Any:
        """Wait until JavaScript returns what is true."""
        return WebDriverWait(self.driver, _PATIENCE_S, poll_frequency=0.05).until(lambda _: self.run(script))

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def emulate(self, *, dark: bool) -> None:
        """Have a system that is dark, or light."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def requests(self) -> list[str]:
        """The URLs asked for since the last time."""
        messages = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith(_QUIET)]

    def complaints(self) -> list[str]:
        """What the browser has complained about since the last time: errors, refused scripts."""
        return [entry["message"] for entry in self._log("browser")]

    def _log(self, kind: str) -> list[Any]:
        entries: list[Any] = self.driver.get_log(kind)  # type: ignore[no-untyped-call]
        return entries


def binaries() -> tuple[str, str]:
    """Return Chromium and its driver; end the test when there is none."""
    chromium, driver = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
    if chromium and driver:
        return chromium, driver
    return missing("Chromium and its driver", "Debian: apt-get install chromium chromium-driver")


@pytest.fixture(scope="module")
def browser_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The one browser of a module."""
    made = Browser(tmp_path_factory.mktemp("chromium"))
    yield made
    made.driver.quit()


@pytest.fixture
def browser(browser_of_module: Browser) -> Iterator[Browser]:
    """The browser, in which nothing may go wrong that the test does not look at itself."""
    yield browser_of_module
    assert browser_of_module.complaints() == []
