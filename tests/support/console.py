"""Open a page in a headless Chromium and say what its console says."""

import os
import re
import shutil
import subprocess
import sys


def chromium():
    """Return the browser's path, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def console(browser, page, profile, picture=None):
    """Return the lines that a page writes to the console; optionally draw it into a PNG."""
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        f"--user-data-dir={profile}", "--enable-logging=stderr", "--window-size=1100,4200",
        f"--screenshot={picture or profile / 'page.png'}", page.resolve().as_uri(),
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=True, env=dict(os.environ)
    )
    assert (picture or profile / "page.png").stat().st_size > 10_000, done.stderr
    return re.findall(r":CONSOLE.*", done.stderr)


if __name__ == "__main__":
    from pathlib import Path

    print(console(chromium(), Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])))
