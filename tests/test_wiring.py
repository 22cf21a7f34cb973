"""The pictures of who reads whom, held against the layers themselves."""

from itertools import product

import pytest
import torch
from torch import nn

from rollingq_core.fusion import FusionShape
from rollingq_core.fusion.layers import Attention
from rollingq_core.fusion.mbt import BottleneckFusion
from rollingq_core.methods import METHODS
from rollingq_core.plots.wiring import ANSWER, AUDIO, CLS, SHARED, VISUAL, WIRINGS, wiring

# No two sets of streams have as many tokens together.
LENGTHS = {AUDIO: 11, VISUAL: 5, SHARED: 2, CLS: 1}
ATTENTION = ["mult", "mbt", "jmt", "mmml"]


def layer_of(name):
    torch.manual_seed(0)
    shape = FusionShape(8, 3, (AUDIO, VISUAL), "first", 0.3)
    options = {"depth": 2} if name == "mbt" else {}
    made = BottleneckFusion.of_shape if name == "mbt" else METHODS[name].fusion
    return made(shape, **options).eval()


def tokens():
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(2, LENGTHS[name], 8, generator=draw) for name in (AUDIO, VISUAL)]


def streams_of(count):
    """Return the streams that have so many tokens together."""
    for chosen in product((False, True), repeat=len(LENGTHS)):
        picked = [name for name, own in zip(LENGTHS, chosen, strict=True) if own]
        if sum(LENGTHS[name] for name in picked) == count:
            return picked
    raise AssertionError(count)


def readings(layer):
    """Return the number of rows and of keys of each attention layer that is called, in order."""
    calls = []

    def watch(module, inputs, *_):
        rows, source = inputs[:2]
        calls.append((rows.shape[1], source.shape[1]))

    for module in layer.modules():
        if isinstance(module, Attention | nn.MultiheadAttention):
            module.register_forward_pre_hook(watch)
    layer(tokens())
    return calls


def pairs_of(step):
    return {(reader, source) for reader, sources in step.items() for source in sources}


@pytest.mark.parametrize("name", ["mult", "mbt"])
def test_each_step_reads_what_its_picture_says(name):
    calls = readings(layer_of(name))
    for step in WIRINGS[name].steps:
        expected, found = pairs_of(step), set()
        while found != expected:
            rows, keys = calls.pop(0)
            found |= set(product(streams_of(rows), streams_of(keys)))
            assert found <= expected
    assert not calls


def test_first_step_of_both_mmml_is_from_stream_to_stream():
    for name in ("mmml", "mmml-joint"):
        calls = readings(layer_of(name))
        found = {(*streams_of(rows), *streams_of(keys)) for rows, keys in calls[:2]}
        assert found == pairs_of(WIRINGS[name].steps[0])
    # The first token of each stream reads that stream.
    *_, first, second = readings(layer_of("mmml"))
    assert (first, second) == ((1, LENGTHS[AUDIO]), (1, LENGTHS[VISUAL]))
    assert WIRINGS["mmml"].steps[1] == {AUDIO: (AUDIO,), VISUAL: (VISUAL,)}


def test_jmt_has_the_six_readings_of_its_picture():
    names = [AUDIO, VISUAL, SHARED]
    found = {(names[target], names[source]) for target, source in layer_of("jmt").readings}
    assert found == pairs_of(WIRINGS["jmt"].steps[1])
    assert len(readings(layer_of("jmt"))) == 6
    assert WIRINGS["jmt"].fixed == ((0, SHARED),)
    assert layer_of("jmt").joint.in_features == 2 * 8


@pytest.mark.parametrize("name", ["mt", "mt2", "mult-joint", "mmml-joint"])
def test_a_class_token_that_can_be_turned_reads_all_of_its_picture(name):
    drawn = WIRINGS[name]
    seen = layer_of(name)(tokens()).attention.shape[-1]
    read = [stream for stream in drawn.steps[-1][CLS] if stream != CLS]
    assert seen == sum(LENGTHS[stream] for stream in read)
    assert drawn.turned == len(drawn.steps) - 1


@pytest.mark.parametrize("name", ["concat", "mult", "mbt", "jmt", "mmml"])
def test_where_no_class_token_reads_both_nothing_is_turned(name):
    assert layer_of(name)(tokens()).share is None
    assert WIRINGS[name].turned is None


def test_every_row_of_two_layers_reads_every_row():
    rows = torch.randn(1, 7, 8, requires_grad=True)
    first = layer_of("mt2").blocks[0]
    for reader in range(7):
        (gradient,) = torch.autograd.grad(first(rows, None)[0, reader].sum(), rows)
        assert gradient.any(dim=-1).all()
    everyone = (AUDIO, CLS, VISUAL)
    assert WIRINGS["mt2"].steps[0] == dict.fromkeys(everyone, everyone)


def test_the_drawing_has_a_line_for_each_reading():
    axis = wiring("mmml-joint", "title").axes[0]
    lines = [line for line in axis.lines if len(line.get_xdata()) == 2]
    thick = [line for line in lines if line.get_linewidth() == 1.8]
    assert len(thick) == 2 + 2 + 1
    assert [label.get_text() for label in axis.get_xticklabels()][-1] == ANSWER


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="name: got 'nobody', expected one of"):
        wiring("nobody", "title")
