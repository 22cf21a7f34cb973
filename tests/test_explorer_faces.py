"""What a cell shows of an explorer: its live face with any ipywidgets, else its static one."""

import json
import subprocess
import sys
from html.parser import HTMLParser

import ipywidgets
import pytest
from IPython.core.formatters import DisplayFormatter

from rollingq_core.explorer import GeometryExplorer, LoopExplorer, NoiseDial, TrainingMap
from rollingq_core.explorer._chart import Scale, round_step
from rollingq_core.explorer._page import written
from tests.explorers import MAKERS, VIEW, grid_record, noise_record


@pytest.fixture(params=MAKERS)
def explorer(request):
    return MAKERS[request.param]()


@pytest.fixture(params=["as installed", "as in 7.7"])
def widgets(request, monkeypatch):
    """Take from ipywidgets 8 the method that 7.7 does not have."""
    if request.param == "as in 7.7":
        monkeypatch.delattr(ipywidgets.Widget, "_repr_mimebundle_", raising=False)


@pytest.mark.usefixtures("widgets")
def test_a_cell_gets_the_live_face_and_the_static_one(explorer):
    data, _ = DisplayFormatter().format(explorer)
    model = explorer.widget().model_id
    assert model
    assert data[VIEW] == {"version_major": 2, "version_minor": 0, "model_id": model}
    assert data["text/html"].startswith('<figure class="book-figure"')
    assert data["text/plain"] == repr(explorer)
    # Shown again, it is the same face.
    assert DisplayFormatter().format(explorer)[0] == data


def test_the_view_is_what_ipywidgets_itself_asks_for(explorer):
    if not hasattr(ipywidgets.Widget, "_repr_mimebundle_"):
        pytest.skip("ipywidgets 7 shows a widget itself")
    widget = explorer.widget()
    assert explorer._repr_mimebundle_()[VIEW] == widget._repr_mimebundle_()[VIEW]


def test_a_closed_live_face_leaves_the_static_one(explorer):
    before = explorer._repr_mimebundle_()
    explorer.widget().close()
    assert explorer._repr_mimebundle_() == {name: before[name] for name in before if name != VIEW}


def test_without_ipywidgets_the_static_face_is_left(root):
    code = """
import json, sys
sys.modules["ipywidgets"] = None
from tests.explorers import MAKERS, VIEW
told = {}
for name, make in MAKERS.items():
    explorer = make()
    told[name] = explorer._repr_mimebundle_()
    try:
        explorer.widget()
    except ModuleNotFoundError as error:
        told[name]["error"] = str(error)
print(json.dumps(told))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, told in json.loads(done.stdout).items():
        assert told.pop("error") == (
            'ipywidgets is missing; install it with: pip install "rollingq-core[plots]"'
        )
        static = MAKERS[name]()._repr_mimebundle_()
        static.pop(VIEW)
        assert told == static


class Inputs(HTMLParser):
    """The controls of a page, by name: what each of them is made of."""

    def __init__(self, html):
        super().__init__()
        self.sliders, self.lists, self.open = {}, {}, None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == "input":
            names = ("min", "max", "step", "value")
            self.sliders[given["name"]] = [float(given[name]) for name in names]
        elif tag == "select":
            self.open = self.lists.setdefault(given["name"], [])
        elif tag == "option":
            self.open.append([given["value"], "selected" in given])

    def handle_data(self, data):
        if self.open and len(self.open[-1]) == 2:
            self.open[-1].append(data)


def test_both_faces_have_the_same_controls():
    several = {"digits": noise_record(), "avmnist": noise_record(1)}
    for explorer in (GeometryExplorer(lean=-12, rho=2.5), LoopExplorer(), NoiseDial(several, 0.5)):
        page = Inputs(explorer._html())
        *widgets, picture = explorer.widget().children
        assert isinstance(picture, ipywidgets.HTML)
        for control, widget in zip(explorer._controls(), widgets, strict=True):
            assert widget.description == control.title
            if control.name in page.lists:
                shown = [
                    [str(index), index == widget.value, text] for text, index in widget.options
                ]
                assert page.lists[control.name] == shown
                continue
            assert widget.layout.max_width == "34rem"
            assert widget.style.description_width == "initial"
            low, high, step, value = page.sliders[control.name]
            assert widget.value == value
            if control.stops:
                assert [index for _, index in widget.options] == [*range(int(low), int(high) + 1)]
                assert [text for text, _ in widget.options] == [*control.stops]
                assert step == 1
            else:
                assert (widget.min, widget.max, widget.step) == (low, high, step)
                assert widget.readout_format == f".{control.digits}f"


def test_where_the_controls_stand_at_first():
    geometry, loop = GeometryExplorer(), LoopExplorer()
    assert geometry.start == {"lean": 30, "rho": 1, "spread": 90}
    assert (geometry.query_norm, geometry.key_norm, geometry.tokens) == (2, 2, (7, 8))
    assert loop.start == {"gain": 1.6, "head_start": 0.04, "share": 0.5, "turn": -1}
    assert loop.pace == 1
    shown = TrainingMap(grid_record())
    assert (shown.rho, shown.beta, shown.data) == (3, 0.1, None)
    assert NoiseDial(noise_record()).level == 0
    sliders = shown.widget().children[:2]
    assert [(s.value, s.min, s.max, s.step, s.readout_format) for s in sliders] == [
        (3, 0.1, 10, 0.1, ".2f"),
        (0.1, 0, 1, 0.01, ".2f"),
    ]


@pytest.mark.parametrize(
    ("make", "ends"),
    [
        (GeometryExplorer, {"lean": (-180, 180), "rho": (0.1, 10), "spread": (30, 150)}),
        (
            LoopExplorer,
            {"gain": (0.2, 2.5), "head_start": (-0.4, 0.4), "share": (0.1, 0.9), "turn": (-2, 1)},
        ),
        (lambda **given: TrainingMap(grid_record(), **given), {"rho": (0.1, 10), "beta": (0, 1)}),
    ],
)
def test_a_slider_goes_to_both_its_ends_and_not_beyond(make, ends):
    for name, (low, high) in ends.items():
        for value in (low, high):
            make(**{name: value})
        for value in (low - 1e-6, high + 1e-6, "1", True, None, float("nan")):
            with pytest.raises(ValueError, match=f"^{name}: got"):
                make(**{name: value})


@pytest.mark.parametrize(
    ("value", "digits", "sign", "text"),
    [
        (1.25, 1, False, "1.2"),
        (-1.26, 1, False, "−1.3"),
        (1.26, 1, True, "+1.3"),
        (0.04, 1, True, "0.0"),
        (-0.04, 1, True, "0.0"),
        (-0.0, 0, False, "0"),
    ],
)
def test_a_number_is_written_with_a_true_minus_and_zero_without_a_sign(value, digits, sign, text):
    assert written(value, digits, sign=sign) == text


def test_scales_hold_all_values_between_round_numbers():
    scale = Scale.around([0.13, 0.86], 100)
    assert (scale.low, scale.high, scale.step) == pytest.approx((0, 1, 0.5))
    assert scale.ticks() == [(0, "0.0"), (50, "0.5"), (100, "1.0")]
    below = Scale.around([-3, 1], 60, steps=4)
    assert [text for _, text in below.ticks()] == ["−3", "−2", "−1", "0", "1"]
    # What lies outside is drawn at the edge.
    assert [below.at(value) for value in (-9, -3, -1, 1, 9)] == [0, 0, 30, 60, 60]
    # One value has a scale, too.
    assert Scale.around([2, 2], 10).low <= 2 < Scale.around([2, 2], 10).high


@pytest.mark.parametrize(
    ("span", "parts", "step"),
    [(1, 1, 1), (1, 2, 0.5), (1, 3, 0.5), (1, 5, 0.2), (1, 9, 0.2), (40, 3, 20), (0.03, 3, 0.01)],
)
def test_steps_are_one_two_or_five(span, parts, step):
    assert round_step(span, parts) == pytest.approx(step)
