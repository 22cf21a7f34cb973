"""Operations as the paper counts them, and as they are (Table 4)."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rollingq_core import RollingQ
from rollingq_core.evaluation import EVALUATIONS, operations, operations_as_in_table4
from rollingq_core.methods import METHODS
from rollingq_core.models.paper import build_paper_model
from rollingq_core.models.small import build_model
from rollingq_core.settings import SETTINGS
from tests.small import small_data, small_model
from tests.test_paper import grids

SHAPES = {"audio": (1, 188, 257), "visual": (3, 224, 224)}
SMALL = {"audio": (4, 8), "visual": (4, 8)}


@pytest.fixture(scope="module")
def of_table4():
    return grids(*SHAPES.values(), samples=6)


@pytest.mark.parametrize(
    ("method", "gigaflops"),
    [
        ("mt", 1489.13),
        ("mt+rollingq", 1489.20),
        ("mbt", 2746.90),
        ("mmml", 1828.29),
        ("jmt", 1494.87),
    ],
)
def test_each_methods_operations_are_those_of_table_4(of_table4, method, gigaflops):
    with torch.device("meta"):
        model = build_paper_model(of_table4, fusion=METHODS[method].fusion)
    turned = METHODS[method].turns
    counted = 64 * operations_as_in_table4(model, SHAPES, turned=turned) / 1e9
    assert round(counted, 2) == gigaflops


def test_what_table_4_leaves_out_and_has_too_much(of_table4):
    with torch.device("meta"):
        model = build_paper_model(of_table4)
    dim, audio, visual = 768, 177, 197
    told, true = operations_as_in_table4(model, SHAPES), operations(model, SHAPES)
    norms = 2 * 4 * dim * (audio + visual) * (2 * 4 + 1)
    maps = 4 * dim**2
    rows_nobody_reads = 2 * maps * (audio + visual + 1) - 2 * maps
    encoders = 2 * 2 * dim * (audio**2 + visual**2) * 4
    # The class token's logits and what it reads, mean keys of both modalities, and the rotation.
    row = 2 * 2 * dim * (audio + visual) + 2 * 2 * dim**2 + 2 * dim**2
    assert true == told - norms - rows_nobody_reads + encoders + row


def test_operations_of_a_small_model_by_hand():
    model = small_model()
    encoders = 2 * 4 * (8 * 16 + 16 * 8)  # two modalities of four tokens
    told = 2 * (encoders + 2 * 4 * 4 * 8 + 4 * 9 * 8 * 8 + 8 * 4 + 2 * 8 * 4)
    assert operations_as_in_table4(model, SMALL) == told
    assert operations_as_in_table4(model, SMALL, turned=True) == told + 2 * 8 * 8


def test_a_turn_costs_one_product_for_a_whole_batch():
    model = small_model()
    plain = operations(model, SMALL, 32)
    rolling = RollingQ(model.fusion, 3.0, 0.0, 1)
    data = small_data()
    rolling.observe(model(data.train.inputs).fusion)
    assert rolling.end_epoch() is not None
    # A query that was never turned is multiplied by the identity.
    assert operations(model, SMALL, 32) == plain
    model.fusion.rotation.fold_into(model.fusion.q_proj)
    model.fusion.rotation = nn.Identity()
    assert operations(model, SMALL, 32) == plain - 2 * 8 * 8


@pytest.mark.parametrize("method", ["mt", "mt2", "mult", "mbt", "jmt", "mmml", "concat"])
def test_operations_are_those_of_real_numbers(method):
    data = small_data()
    model = build_model(data, SETTINGS["T"], 0, fusion=METHODS[method].fusion).eval()
    model.requires_grad_(False)
    inputs = {name: values[:3] for name, values in data.test.inputs.items()}
    with FlopCounterMode(display=False) as counter:
        model(inputs)
    assert operations(model, SMALL, 3) == counter.get_total_flops()
    assert next(model.parameters()).device.type == "cpu"


def test_a_report_of_a_model():
    told = EVALUATIONS["cost"](small_model(), small_data().test, "audio")
    assert told["parameters"] == sum(p.numel() for p in small_model().parameters())
    assert told["gigaflops_as_in_table4"] == operations_as_in_table4(small_model(), SMALL) / 1e9
    assert told["gigaflops"] == operations(small_model(), SMALL) / 1e9


def test_pytorchs_own_attention_is_not_entered():
    model = small_model()
    model.fusion.extra = nn.MultiheadAttention(8, 1)
    assert operations_as_in_table4(model, SMALL) == operations_as_in_table4(small_model(), SMALL)
