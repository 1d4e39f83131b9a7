"""Headless Chromium, offline, for tests of pages; tests are skipped where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
FOUND = next((path for name in NAMES if (path := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(
    FOUND is None and not os.environ.get("NEULIG_BROWSER_REQUIRED"),
    reason=f"no browser is installed; any of {', '.join(NAMES)} will do",
)


@dataclass
class Opened:
    """A page, and what it said and asked for.

    Attributes:
        page: playwright's.
        said: warnings and errors of its scripts.
        asked: addresses that are neither a file nor in the page.
    """

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def drawn(self) -> dict[str, str]:
        """Each figure's state, by its name."""
        script = (
            "figures => Object.fromEntries(figures.map(f => [f.dataset.figure, f.dataset.drawn]))"
        )
        found: dict[str, str] = self.page.eval_on_selector_all("figure[data-figure]", script)
        return found

    def faults(self) -> list[str]:
        """What axe-core calls serious or critical."""
        import axe_playwright_python

        code = Path(axe_playwright_python.__file__).with_name("axe.min.js")
        self.page.evaluate(code.read_text(encoding="utf-8"))
        found = self.page.evaluate("axe.run()")["violations"]
        grave = [each for each in found if each["impact"] in ("serious", "critical")]
        return [f"{each['id']}: {each['nodes'][0]['html']}" for each in grave]


@contextmanager
def opened(file: Path, width: int = 1400, scheme: str = "light") -> Iterator[Opened]:
    """Open a page without any network, and wait until its figures are drawn.

    Args:
        file: the page.
        width: pixels of the window.
        scheme: light or dark.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=FOUND, args=["--no-sandbox"])
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            offline=True,
            accept_downloads=True,
        )
        found = Opened(context.new_page())
        found.page.on(
            "console",
            lambda m: found.said.append(m.text) if m.type in ("error", "warning") else None,
        )
        found.page.on("pageerror", lambda error: found.said.append(str(error)))
        found.page.on("request", lambda r: _note(found.asked, r.url))
        found.page.goto(file.as_uri())
        found.page.wait_for_selector("html[data-drawn]", timeout=120_000)
        yield found
        browser.close()


def _note(asked: list[str], url: str) -> None:
    if not url.startswith(("file:", "data:", "blob:")):
        asked.append(url)
