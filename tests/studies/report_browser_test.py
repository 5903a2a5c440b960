"""The report in a real browser: no word on the console, every image loads, it fits a phone."""

import html
import json
import re
import shutil
import subprocess

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")

# Inside the page; the page around it holds the answer.
PROBE = """<script>
addEventListener("load", () => {
  const root = document.documentElement, images = [...document.images];
  parent.document.body.dataset.found = JSON.stringify({
    images: images.length,
    loaded: images.filter((image) => image.complete && image.naturalWidth > 0).length,
    overflow: root.scrollWidth - root.clientWidth,
    width: root.clientWidth,
  });
});
</script>"""


def look_at(page, width, folder):
    """Opens a page in a frame of `width` pixels.

    Returns:
        A tuple of what the probe found and the lines of the console.
    """
    outside = folder / "outside.html"
    frame = f'<iframe width="{width}" height="800" style="border: 0" srcdoc="%s"></iframe>'
    outside.write_text(
        "<!doctype html><title>frame</title><body>" + frame % html.escape(page + PROBE), "utf-8"
    )
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={folder / 'profile'}",
            "--dump-dom",
            outside.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(found[1])), console


@pytest.mark.parametrize("width", [390, 1200])
def test_report(finished, tmp_path, width):
    page = (finished[0] / "report.html").read_text("utf-8")
    found, console = look_at(page, width, tmp_path)
    assert console == []
    assert width - 20 <= found.pop("width") <= width  # the bar for scrolling takes some
    assert found == {"images": 2, "loaded": 2, "overflow": 0}


def test_a_bad_page_is_found_out(tmp_path):
    page = (
        '<!doctype html><img src="missing.png"><div style="width: 900px">wide</div>'
        "<script>console.error('oh')</script>"
    )
    found, console = look_at(page, 390, tmp_path)
    assert found["images"] == 1 and found["loaded"] == 0 and found["overflow"] > 400
    assert any("oh" in line for line in console)
