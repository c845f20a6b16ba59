"""Takes the pictures of the page that the documentation shows: `make pictures`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import sample_ledger
from browser import Browser

from llm_toll_autopatch.page.document import document
from llm_toll_autopatch.page.snapshot import Asked, encoded, look

_WIDTH, _HEIGHT = 1280, 1290


def main(target: Path) -> None:
    """Write `page-light.png` and `page-dark.png` into a directory."""
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        asked = Asked(sample_ledger.make(here / "ledger.db"))
        (here / "page.html").write_bytes(document(encoded(asked, look(asked, sample_ledger.NOW))))
        browser = Browser(here / "profile")
        try:
            browser.open((here / "page.html").as_uri())
            browser.driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": _WIDTH, "height": _HEIGHT, "deviceScaleFactor": 1, "mobile": False},
            )
            browser.driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
            for theme in ("light", "dark"):
                browser.emulate(dark=theme == "dark")
                browser.driver.save_screenshot(str(target / f"page-{theme}.png"))
        finally:
            browser.driver.quit()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
