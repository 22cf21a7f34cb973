"""The explorers' live faces in JupyterLab: a real server, a real kernel, a real browser."""

import os
import re
import secrets
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import nbformat
import pytest

from rollingq_core.explorer import GeometryExplorer, NoiseDial
from tests.explorers import LEVELS, Shown, noise_record

pytest.importorskip("jupyterlab")
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# Milliseconds after which a slow machine counts as a stuck one.
PATIENCE = 180_000
CELLS = [
    "from dataclasses import replace\n"
    "from rollingq_core.explorer import GeometryExplorer, NoiseDial, TrainingMap\n"
    "from tests.explorers import grid_record, noise_record\n"
    "from tests.small import SETTING, small_data\n"
    "longer = replace(SETTING, training=replace(SETTING.training, epochs=12))\n"
    "data = small_data(train_samples=1200)",
    "GeometryExplorer()",
    "NoiseDial(noise_record())",
    "TrainingMap(grid_record(epochs=12), setting=longer, data=data)",
]
# Notes each text that a paragraph goes through.
WATCH = """
p => {
  window.heard = [];
  const area = p.closest('.widget-vbox');
  new MutationObserver(() => window.heard.push([
    area.querySelector('[data-text=live]').textContent,
    area.querySelector('.progress-bar').style.width,
  ])).observe(area, { subtree: true, childList: true, attributes: true, characterData: true });
}
"""


@pytest.fixture(scope="module")
def lab(root, tmp_path_factory):
    """Serve a notebook with all explorers, and return its address."""
    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    (folder / "notebooks").mkdir()
    nbformat.write(notebook, folder / "notebooks" / "live.ipynb")
    # Nothing of the user's own settings takes part, and nothing is left behind.
    names = ("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    own = {name: str(folder / name.lower()) for name in (*names, "IPYTHONDIR")}
    search = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    token = secrets.token_hex(16)
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser"),
        *("--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", "--ServerApp.allow_root=True"),
        f"--ServerApp.root_dir={folder / 'notebooks'}",
        f"--IdentityProvider.token={token}",
        "--LabApp.extension_manager=readonly",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    with (
        subprocess.Popen(
            command,
            env={**os.environ, **own, "PYTHONPATH": search},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        try:
            port = port_of(server)
            # Somebody must read on, or the server stops when the pipe is full.
            pool.submit(server.stdout.read)
            yield f"http://127.0.0.1:{port}/doc/tree/live.ipynb?token={token}"
        finally:
            # On this signal it ends its kernels, too.
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()


def port_of(server):
    """Return the port once the server listens; one that stays silent is ended."""
    said, stuck = "", threading.Timer(PATIENCE / 1000, server.kill)
    stuck.start()
    try:
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/", said)):
            line = server.stdout.readline()
            assert line, said
            said += line
    finally:
        stuck.cancel()
    return found[1]


@pytest.fixture(scope="module")
def page(browser, lab):
    """Return the notebook's page once all cells ran."""
    # Tall enough that JupyterLab leaves no cell out.
    context = browser.new_context(viewport={"width": 1280, "height": 3600})
    host = lab.split("/doc")[0]
    context.route(
        lambda url: not url.startswith((host, "data:", "blob:")), lambda route: route.abort()
    )
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(lab)
    page.locator(".jp-Notebook .jp-CodeCell").last.wait_for()
    # Without a kernel, to run a cell does nothing.
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.locator(".widget-vbox .progress").wait_for()
    yield page
    context.close()


def explorer(page, label):
    """Return the view whose drawing's label starts so."""
    drawing = page.locator(f"svg[aria-label^='{label}']")
    return page.locator(".widget-vbox").filter(has=drawing)


def text(area, name):
    return area.locator(f"[data-text={name}]")


def press(slider, key):
    """Press a key on a slider, and return the value it then has."""
    before = slider.get_attribute("aria-valuetext")
    slider.press(key)
    expect(slider).not_to_have_attribute("aria-valuetext", before, timeout=PATIENCE)
    return float(slider.get_attribute("aria-valuetext"))


def test_every_cell_shows_its_live_face(page):
    expect(page.locator(".jp-OutputArea-output .widget-vbox")).to_have_count(3, timeout=PATIENCE)
    assert page.locator(".jp-RenderedText[data-mime-type*=error]").count() == 0
    # The face of a page without Python has native sliders.
    assert page.locator("input[type=range]").count() == 0


def test_geometry_follows_its_sliders_through_the_kernel(page):
    area = explorer(page, "In a plane")
    settings = {"lean": 30.0, "rho": 1.0, "spread": 90.0}
    for index, name in enumerate(settings):
        for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
            settings[name] = press(area.get_by_role("slider").nth(index), key)
            expected = Shown(GeometryExplorer()._picture(settings))
            expect(text(area, "readout")).to_have_text(expected.texts["readout"], timeout=PATIENCE)
            shown = Shown(area.inner_html())
            assert shown.drawing[: len(expected.drawing)] == expected.drawing
            assert expected.texts.items() <= shown.texts.items()
    assert settings != {"lean": 30.0, "rho": 1.0, "spread": 90.0}


def test_noise_dial_steps_through_the_levels(page):
    area, dial = explorer(page, "Above, curves"), NoiseDial(noise_record())
    for level in (1, 2, 3):
        area.get_by_role("slider").press("ArrowRight")
        expected = Shown(dial._picture({"level": level}))
        expect(text(area, "readout")).to_have_text(expected.texts["readout"], timeout=PATIENCE)
        assert f"level {LEVELS[level]:g}," in expected.texts["readout"]
        assert Shown(area.inner_html()).paths == expected.paths


def ended(rho, beta):
    return re.compile(rf"^Your run at ρ = {rho:g}, β = {beta:g}, seed 0: \d rotations?\. Test")


def test_training_map_trains_in_the_page(page):
    area = explorer(page, "Four panels")
    own = area.locator(
        "svg path[fill=none][stroke=currentColor][stroke-width='2']:not([data-path])"
    )
    first = text(area, "readout").inner_text()
    beta = area.get_by_role("slider").nth(1)
    for _ in range(8):
        value = press(beta, "ArrowLeft")
    expect(text(area, "readout")).not_to_have_text(first, timeout=PATIENCE)
    assert own.count() == 0

    text(area, "live").evaluate(WATCH)
    area.get_by_role("button", name="Train").click()
    expect(text(area, "live")).to_have_text(ended(3, value), timeout=PATIENCE)
    heard = page.evaluate("window.heard")
    epochs = [int(n) for said, _ in heard for n in re.findall(r"epoch (\d+) of 13", said)]
    assert epochs == sorted(epochs)
    assert len(set(epochs)) > 3, "progress did not move while training went on"
    widths = {width for _, width in heard}
    assert len(widths) > 3
    assert area.locator(".progress-bar").evaluate("bar => bar.style.width") == "100%"
    # A sample in the legend, and a curve of twelve epochs in each panel.
    expect(own).to_have_count(5)
    curve = own.nth(1).get_attribute("d")
    assert curve.count("L") == 11

    # Another run: the first one stays, lightly.
    value = press(beta, "PageUp")
    area.get_by_role("button", name="Train").click()
    expect(text(area, "live")).to_have_text(ended(3, value), timeout=PATIENCE)
    expect(own).to_have_count(5)
    assert own.nth(1).get_attribute("d") != curve
    assert area.locator(f"path[d='{curve}'][stroke-opacity='0.35']").count() == 1
