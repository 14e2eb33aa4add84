"""Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, expect, sync_playwright

WITHOUT_IT = "there is no chromium: apt-get install chromium"
NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_MS = 30_000


def find_chromium() -> str | None:
    """Return the path of a Chromium, None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def started_chromium(path: str) -> Iterator[Browser]:
    """Run this Chromium during the block; what is expected of its pages has ``PATIENCE_MS`` to come."""
    # Chromium's sandbox does not work as root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=path, args=arguments) as browser:
        yield browser
