"""The report in a real browser: no word on the console, it fits a phone, it shows values."""

import html
import json
import pathlib
import re
import shutil
import subprocess

import pytest

from keras_svag.engine.files import records

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
DARK = ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")
NAMES_OF_SERIES = ["ℓ = 1 (SGD)", "ℓ = 2", "ℓ = 4", "ℓ = 8"]

AXE = pathlib.Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
needs_axe = pytest.mark.skipif(not AXE.exists(), reason="needs `npm install axe-core`")

# Inside the page; the page around it holds the answer.
PROBE = """<script>
addEventListener("load", async () => {
  const root = document.documentElement, images = [...document.images];
  const found = {
    images: images.length,
    loaded: images.filter((image) => image.complete && image.naturalWidth > 0).length,
    overflow: root.scrollWidth - root.clientWidth,
    width: root.clientWidth,
  };
  parent.document.body.dataset.found = JSON.stringify({ ...found, ...await look() });
});
</script>"""
# Points at the middle of the first panel of the last figure; then hides ell = 2 in it.
LOOK = """<script>
const shown = (node) => node.getClientRects().length > 0;
const look = () => {
  const figure = [...document.querySelectorAll("figure")].at(-1);
  const charts = [...figure.querySelectorAll(".chart")].filter(shown);
  const svg = charts[0].querySelector("svg"), frame = svg.getBoundingClientRect();
  const [panel] = JSON.parse(charts[0].querySelector("script").textContent);
  const [x, y, width, height] = panel.box;
  const scale = frame.width / svg.viewBox.baseVal.width;
  const at = {
    clientX: frame.left + scale * (x + width / 2), clientY: frame.top + scale * (y + height / 2),
  };
  const point = () => {
    svg.dispatchEvent(new PointerEvent("pointermove", { ...at, bubbles: true }));
    return [...charts[0].querySelectorAll(".tip > *")].map((line) => line.textContent);
  };
  const before = point(), button = figure.querySelectorAll(".buttons button")[1];
  button.click();
  const drawn = [...svg.querySelectorAll("[data-series]")];
  const cells = [...document.querySelectorAll("td")].filter(shown);
  return {
    charts: charts.map((chart) => chart.className),
    before, after: point(), pressed: button.getAttribute("aria-pressed"),
    hidden: [...new Set(drawn.filter((mark) => !shown(mark)).map((mark) => mark.dataset.series))],
    left: [...new Set(drawn.filter(shown).map((mark) => mark.dataset.series))],
    outside: cells.filter((cell) => cell.getBoundingClientRect().right > root.clientWidth).length,
  };
};
const root = document.documentElement;
</script>"""
CHECK = """<script src="%s"></script><script>
const look = async () => {
  const { violations } = await axe.run();
  return { violations: violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`) };
};
</script>"""


def look_at(page, width, folder, look="<script>const look = () => ({});</script>", flags=()):
    """Opens a page in a frame of `width` pixels, with a script that defines `look`.

    Returns:
        A tuple of what the probe found and the lines of the console.
    """
    outside = folder / "outside.html"
    frame = f'<iframe width="{width}" height="800" style="border: 0" srcdoc="%s"></iframe>'
    page = html.escape(page + look + PROBE)
    outside.write_text("<!doctype html><title>frame</title><body>" + frame % page, "utf-8")
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--virtual-time-budget=60000",
            f"--user-data-dir={folder / 'profile'}",
            *flags,
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


@pytest.fixture(scope="module")
def page(finished):
    return (finished[0] / "report.html").read_text("utf-8")


@pytest.mark.parametrize(("width", "chart"), [(390, "chart narrow"), (1200, "chart wide")])
def test_report(page, finished, tmp_path, width, chart):
    found, console = look_at(page, width, tmp_path, LOOK)
    assert console == []
    assert width - 20 <= found["width"] <= width  # the bar for scrolling takes some
    assert found["overflow"] == found["images"] == 0 and found["charts"] == [chart]
    assert width > 640 or found["outside"] == 0  # on a phone, each row of a table is a card
    # Values under the pointer are those of the records, by seed.
    label, step, *values = found["before"]
    assert label == "test accuracy"
    step = float(step.removeprefix("steps / ℓ: "))
    assert [value.split(":")[0] for value in values] == NAMES_OF_SERIES
    for value, ell in zip(values, (1, 2, 4, 8)):
        runs = [
            records.read_jsonl(finished[0] / f"runs/b128_ell{ell}_seed{seed}/metrics.jsonl")
            for seed in (0, 1)
        ]
        rows = [row for rows in runs for row in rows if row["effective_step"] == step]
        mean = sum(row["test_accuracy"] for row in rows) / 2
        assert float(value.split(": ")[1]) == pytest.approx(mean, rel=1e-3)
    # What a button hides is neither drawn nor listed.
    assert found["pressed"] == "false" and found["hidden"] == ["ℓ = 2"]
    assert "ℓ = 4" in found["left"] and "ℓ = 2" not in found["left"]
    assert found["after"] == [line for line in found["before"] if not line.startswith("ℓ = 2")]


@needs_axe
@pytest.mark.parametrize("flags", [(), DARK], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_report_is_accessible(page, tmp_path, width, flags):
    found, _ = look_at(page, width, tmp_path, CHECK % AXE.as_uri(), flags)
    assert found["violations"] == []


@needs_axe
def test_what_is_not_accessible_is_found_out(tmp_path):
    page = "<!doctype html><html><title>x</title><body><button></button></body></html>"
    found, _ = look_at(page, 390, tmp_path, CHECK % AXE.as_uri())
    assert any(line.startswith("button-name") for line in found["violations"])


def test_a_bad_page_is_found_out(tmp_path):
    page = (
        '<!doctype html><img src="missing.png"><div style="width: 900px">wide</div>'
        "<script>console.error('oh')</script>"
    )
    found, console = look_at(page, 390, tmp_path)
    assert found["images"] == 1 and found["loaded"] == 0 and found["overflow"] > 400
    assert any("oh" in line for line in console)
