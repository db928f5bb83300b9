"""The report of a small scale, in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from asymgrpo import report
from asymgrpo.config import Study

from .example import write_example

PATIENCE = 120_000
"""Milliseconds until something that does not come is a failure: for machines with other work."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def example(tmp_path_factory) -> Study:
    """A small finished scale whose responses mean harm."""
    return write_example(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def page_file(example) -> Path:
    return report.make(example)


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    """A browser that is installed; nothing is downloaded."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.fail(f"none of {', '.join(BROWSERS)} is installed; Debian: apt-get install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Watched:
    """What a page does that it must not: requests, errors on the console, dialogs of scripts."""

    def __init__(self, page) -> None:
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: message.type in ("error", "warning") and self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: (self.errors.append(dialog.message), dialog.dismiss()))

    def left_the_page(self, page_file: Path) -> list[str]:
        return [url for url in self.requests if not url.startswith((page_file.as_uri(), "data:"))]


@pytest.fixture
def open_page(chromium, page_file) -> Iterator:
    """A function that opens the report in a new context; at the end nothing may have gone wrong on any page."""
    opened = []

    def open_it(fragment: str = "", path: Path = page_file, **options):
        context = chromium.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        watched = Watched(page)
        page.goto(path.as_uri() + fragment)
        opened.append((context, page, watched))
        return page

    yield open_it
    for context, page, watched in opened:
        harmed = page.evaluate("window.harmed")
        context.close()
        assert harmed is None
        assert watched.errors == []
        assert watched.left_the_page(page_file) == []
