"""Controls as ipywidgets, and what a cell shows of them. Imported where a live face is wanted."""

from collections.abc import Callable, Sequence

import ipywidgets

from rollingq_core.explorer._controls import Choice, Slider

WIDE = {"width": "95%", "max_width": "34rem"}


def slider(control: Slider) -> ipywidgets.Widget:
    """Return a slider as a widget."""
    look = {
        "description": control.title,
        "style": {"description_width": "initial"},
        "layout": ipywidgets.Layout(**WIDE),
    }
    if control.stops:
        return ipywidgets.SelectionSlider(options=options(control), value=control.value, **look)
    return ipywidgets.FloatSlider(
        control.value,
        min=control.low,
        max=control.high,
        step=control.step,
        readout_format=f".{control.digits}f",
        **look,
    )


def choice(control: Choice) -> ipywidgets.Widget:
    """Return a list to choose from as a widget."""
    return ipywidgets.Dropdown(
        options=options(control), value=control.value, description=control.title
    )


def options(control: Slider | Choice) -> list[tuple[str, int]]:
    """Return text and value of each stop."""
    return [(stop, index) for index, stop in enumerate(control.stops)]


def watch(draw: Callable[..., None], *widgets: ipywidgets.Widget) -> None:
    """Draw now, and whenever the value of a widget changes."""
    for widget in widgets:
        widget.observe(draw, names="value")
    draw()


def controls_over_picture(
    controls: Sequence[Slider | Choice], picture: Callable[[dict[str, float]], str]
) -> ipywidgets.Widget:
    """Return the controls, and below them the picture where they stand."""
    widgets = {
        control.name: slider(control) if isinstance(control, Slider) else choice(control)
        for control in controls
    }
    shown = ipywidgets.HTML()

    def draw(_=None):
        shown.value = picture({name: widget.value for name, widget in widgets.items()})

    watch(draw, *widgets.values())
    return ipywidgets.VBox([*widgets.values(), shown])
