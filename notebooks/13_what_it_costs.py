# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 13. What it costs
#
# **Recap.** {doc}`10_every_way_to_fuse` counted the weights of five fusions at the paper's size, as the paper counts
# them and as they are. {doc}`06_open_questions` folded a rotation into the query map.
#
# **The question.** The paper's Table 4 says that RollingQ costs next to nothing: about one percent more weights, and
# operations that differ in the fourth digit. Is that so, and what does its counter count? Table 4 is easy to compute
# again, as it needs no data and no training. That makes it a good place to learn how such tables come about.
#
# You will learn
#
# - to count the operations of a map, of attention and of a class token by hand,
# - what a counter that looks at single layers does not see,
# - what a rotation costs in training, in use, and folded away,
# - what a training step of each method takes on a real machine.
#
# **What it takes.** A CPU and less than a minute. Models stand on the *meta* device, which has shapes and no numbers,
# so that nothing large is ever computed; times were measured before, and the record names its command.

# %% tags=["hide-cell"]
from importlib.util import find_spec

if find_spec("rollingq_core") is None:  # on Colab: install the book's package
    from IPython import get_ipython

    package = "rollingq-core[data,plots]"
    url = "https://github.com/rollingq-book/rollingq-book"
    get_ipython().run_line_magic("pip", f'install -q "{package} @ git+{url}"')

# %% [markdown]
# ## Counting by hand
#
# A linear map from $d$ to $C$ numbers takes $d\,C$ multiplications for each row, and about as many additions: $2\,d\,C$
# **operations** (FLOPs). A row is a token, a sample, or whatever the map is applied to. Attention of $N$ rows over $L$
# keys takes a product of queries and keys and one of weights and values:
#
# $$
# \underbrace{2\,N\,d\,d \cdot 2}_{W_Q,\; W_O} + \underbrace{2\,L\,d\,d \cdot 2}_{W_K,\; W_V}
# + \underbrace{2\,N\,L\,d \cdot 2}_{Q K^\top,\; P V} .
# $$ (eq-attention-cost)
#
# PyTorch's own counter watches every product of matrices while a model runs. On a layer of four numbers by eight
# tokens it agrees with a pencil.

# %%
import torch
from torch.utils.flop_counter import FlopCounterMode

from rollingq_core.fusion.layers import Attention

rows, keys, dim = 3, 8, 4
layer = Attention(dim)
with FlopCounterMode(display=False) as counter, torch.no_grad():
    layer(torch.zeros(1, rows, dim), torch.zeros(1, keys, dim))

# %% tags=["nbval-check-output"]
maps = 2 * 2 * (rows + keys) * dim**2
products = 2 * 2 * rows * keys * dim
print(f"maps {maps} + products {products} = {maps + products}")
print("counted:", counter.get_total_flops())
assert counter.get_total_flops() == maps + products

# %% [markdown]
# ## Table 4, twice
#
# Table 4 was taken with a counter of single layers, at a batch of 64: five methods on two ViT-B/16 of four blocks,
# with six classes, at CREMA-D's sizes. Such a counter knows a linear map, a convolution and a layer norm, and adds up
# what each of them does. We count the same way, and then all that there is.

# %% tags=["hide-input"]
from rollingq_core.data import DataSplits, PairedDataset

SHAPES = {"audio": (1, 188, 257), "visual": (3, 224, 224)}


def like_cremad():
    inputs = {name: torch.zeros(6, *shape) for name, shape in SHAPES.items()}
    split = PairedDataset(inputs, torch.arange(6))
    patch = dict.fromkeys(SHAPES, (16, 16))
    return DataSplits(
        "shapes", split, split, split, tuple("abcdef"), patch, "0" * 64
    )


# %%
from rollingq_core.evaluation import (
    operations,
    operations_as_in_table4,
    parameters,
    parameters_as_in_table4,
)
from rollingq_core.methods import METHODS
from rollingq_core.models.paper import build_paper_model
from rollingq_core.records import read_record

CREMAD, BATCH = like_cremad(), 64
quoted = {
    run["method"]: run
    for run in read_record("quoted-cremad")["runs"]
    if "gflops" in run
}


# %%
def built(name):
    with torch.device("meta"):
        return build_paper_model(CREMAD, fusion=METHODS[name].fusion)


models = {name: built(name) for name in quoted}

# %%
GFLOPS, WEIGHTS = {}, {}
for name, model in models.items():
    turned = METHODS[name].turns
    alike = BATCH * operations_as_in_table4(model, SHAPES, turned=turned)
    GFLOPS[name] = {
        "paper": quoted[name]["gflops"],
        "alike": alike / 1e9,
        "true": operations(model, SHAPES, BATCH) / 1e9,
    }
    WEIGHTS[name] = {
        "paper": quoted[name]["parameters"] / 1e6,
        "alike": parameters_as_in_table4(model, turned=turned) / 1e6,
        "true": parameters(model) / 1e6,
    }

# %% tags=["nbval-check-output"]
for name, counts in GFLOPS.items():
    print(f"{name:12} {counts['alike']:.2f} of the paper's {counts['paper']:.2f}")
    assert round(counts["alike"], 2) == counts["paper"]
    assert round(WEIGHTS[name]["alike"], 2) == WEIGHTS[name]["paper"]

# %% tags=["hide-input"]
from rollingq_core.plots import Table

Table(
    ["method", "counted alike", "paper", "all", "all / paper"],
    [
        [
            METHODS[name].label,
            f"{counts['alike']:.2f}",
            f"{counts['paper']:.2f}",
            f"{counts['true']:.2f}",
            f"{counts['true'] / counts['paper']:.3f}",
        ]
        for name, counts in GFLOPS.items()
    ],
    "Operations of a forward pass over 64 samples, in units of 10⁹: counted as in the paper’s Table 4, quoted from it, and "
    "all that this package does.",
    quoted=["paper"],
)

# %% [markdown]
# All five rows agree to the last digit (Table 13.1). So the paper's counter and its models are what we take them for, and where the true
# numbers differ (Figure 13.1), that is due to the counting.

# %% tags=["hide-input"]
from rollingq_core.plots import BookFigure, counted_dots

BookFigure(
    counted_dots(
        {"weights, millions": WEIGHTS, "operations, 10⁹": GFLOPS},
        "The counter misses attention itself",
    ),
    caption="Weights and operations of five methods at the paper's size: quoted from its Table 4, counted in the same "
    "way, and all there are. Operations are those of a forward pass over 64 samples.",
    alt="Two panels, five rows each. The paper's cross lies inside the circle counted alike in every row. The diamond of all "
    "there is lies left of it in operations for vanilla, RollingQ and MMML, and right of it for MBT and JMT; in weights it is "
    "clearly to the right for JMT only.",
)

# %% [markdown]
# ## Where the difference comes from
#
# For vanilla three parts make up the whole difference. Products of queries and keys, and of weights and values, belong to
# no layer, so the counter has none of the encoders' attention. It does count every row of the fusion layer, while only the
# class token's row is read, and this package computes no other ({doc}`02_attention`). And it has four operations for each
# number in a layer norm, which no product of matrices does.

# %%
tokens, width, blocks = {"audio": 177, "visual": 197}, 768, 4
attention = sum(2 * 2 * n**2 * width * blocks for n in tokens.values())
everyone = sum(tokens.values()) + 1  # with the class token
rows_nobody_reads = 2 * 4 * (everyone - 1) * width**2
norms = 2 * 4 * width * sum(tokens.values()) * (2 * blocks + 1)

# %% tags=["nbval-check-output"]
parts = {
    "attention in the encoders": attention,
    "rows of the fusion that nobody reads": -rows_nobody_reads,
    "layer norms": -norms,
}
for name, part in parts.items():
    print(f"{name:38} {BATCH * part / 1e9:+8.2f}")
difference = GFLOPS["mt"]["true"] - GFLOPS["mt"]["alike"]
rest = difference - BATCH * sum(parts.values()) / 1e9
print(f"{'the class token’s row, mean keys':38} {rest:+8.2f}")
assert abs(rest) < 0.01 * abs(difference)

# %% [markdown]
# JMT has the largest difference in both counts. Its cross-attention is PyTorch's own module, and the counter does not look
# inside: it has neither weights nor operations there. In Table 4 JMT is almost as cheap as vanilla; in truth it is not.

# %% tags=["nbval-check-output"]
for unit, counts in (("million weights", WEIGHTS), ("10⁹ operations", GFLOPS)):
    told, true = (
        counts["jmt"][kind] - counts["mt"][kind] for kind in ("alike", "true")
    )
    print(f"JMT − vanilla, {unit}: {told:.1f} by the counter, {true:.1f} in truth")
    assert true > 2 * told

# %% [markdown]
# ## What the rotation costs
#
# Table 4 has RollingQ's rotation as a map of every sample's query: $2 d^2$ operations a sample, and $d^2$ weights. But the
# class token is the same for all samples, hence so is its query, and one product does for the whole batch. And the matrix
# is no weight: it is never trained, it is kept in a buffer beside the weights, and after training it can be folded into
# $W_Q$, where nothing is left of it.

# %%
from torch import nn

plain = models["mt"]
with_rotation = operations(plain, SHAPES, BATCH)
rotation, plain.fusion.rotation = plain.fusion.rotation, nn.Identity()
without = operations(plain, SHAPES, BATCH)
plain.fusion.rotation = rotation

# %% tags=["nbval-check-output"]
table4 = 1e9 * (GFLOPS["mt+rollingq"]["alike"] - GFLOPS["mt"]["alike"])
print(f"by the counter: {table4 / 1e6:.2f} million operations for 64 samples")
print(
    f"in truth:       {(with_rotation - without) / 1e6:.2f} million, once a batch"
)
assert with_rotation - without == 2 * width**2
assert round(table4) == BATCH * 2 * width**2

# %% [markdown]
# In training there is the watching, too: a mean query and mean keys of each batch are added up, and once an epoch two
# vectors span the plane of a turn. {doc}`06_open_questions` has the turn itself, and {doc}`15_full_training` the published
# code's second pass over the training data, which this package does without.
#
# ## Measured
#
# Counts are no seconds. Table 13.2 has a training step of each method, forward and backward with three losses, and a forward
# pass alone. Each took turns with vanilla's, so that a busy machine slows both, and the ratio is what to look at.

# %%
measured = read_record("table4-cpu")
print(measured["command"], "|", measured["hardware"])

# %% tags=["hide-input"]
LABELS = {name: METHODS[name].label for name in quoted}
LABELS["mt+rollingq, folded"] = "RollingQ, folded"
Table(
    ["method", "step, s", "step / vanilla", "forward / vanilla", "peak, MiB"],
    [
        [
            LABELS[row["method"]],
            f"{row['step_seconds']:.2f}",
            f"{row['step_ratio']:.2f}",
            f"{row['forward_ratio']:.2f}",
            f"{row['peak_mib']:.0f}",
        ]
        for row in measured["runs"]
    ],
    f"A step on {measured['config']['batch']} random samples of the paper’s size on a CPU, medians; the peak is what tensors "
    "take during the step, beside weights and optimiser.",
)

# %% tags=["nbval-check-output"]
ratios = {row["method"]: row["step_ratio"] for row in measured["runs"]}
print("RollingQ's step over vanilla's:", f"{ratios['mt+rollingq']:.2f}")
print("MBT's:", f"{ratios['mbt']:.2f}", "| JMT's:", f"{ratios['jmt']:.2f}")
counted = {
    name: counts["true"] / GFLOPS["mt"]["true"] for name, counts in GFLOPS.items()
}
print("MBT's operations over vanilla's:", f"{counted['mbt']:.2f}")
assert abs(ratios["mt+rollingq"] - 1) < 0.1 < ratios["mbt"] - 1

# %% [markdown]
# The order is that of the true counts, though not the ratios: a step has more in it than products of matrices, and other
# layers keep a processor busy differently. Of RollingQ's rotation and its watching nothing is seen that the measurement could
# tell from vanilla.
#
# ## What to conclude, and what not
#
# - **Supported: RollingQ costs next to nothing.** In training a product of one vector and a matrix for each batch, two sums,
#   and a turn in a plane once an epoch; after training, folded, nothing at all. Table 4 even counts more than is needed.
# - **Supported: Table 4 is what its counter says.** All ten numbers come out to the last digit. That also fixes sizes that the
#   paper leaves unsaid ({doc}`10_every_way_to_fuse`).
# - **Not supported: that Table 4 ranks what models cost.** Its counter leaves out all attention between tokens, and the whole of
#   JMT's. Between methods that differ in attention, such a count compares what is left over.
# - **Not measured: a GPU.** The measured table is of a CPU. On a GPU small products cost a launch each, and the ratios differ; the
#   same command measures them there.
# - **Not counted: the search.** A method with settings of its own costs the runs in which they are chosen. RollingQ has three: the
#   strength, the threshold and the limit.
#
# ## Exercises
#
# ```{exercise} By hand: a token more
# :label: ex-cost-1
# One more visual token comes in. How many operations does that add to one ViT block with $d = 768$ and 197 tokens before, by the
# layer counter and in truth?
# ```
#
# ```{solution} ex-cost-1
# :class: dropdown
# By the counter, the maps of one row: $4 d^2$ in attention and $8 d^2$ in the feed-forward part, twice each for operations, which is
# $24 d^2 \approx 14.2$ million, and four for each of the $2 d$ numbers of two layer norms, twice. In truth the maps, too, and the products
# grow from $4 \cdot 197^2 d$ to $4 \cdot 198^2 d$: $4 \cdot 395\, d \approx 1.2$ million more.
# ```
#
# ```{exercise} Code: every row or one
# :label: ex-cost-2
# How many operations does the fusion layer take if it computes every row, as the textbook does, and if it computes the class
# token's alone? Use `Attention` for the one and `AttentionFusion` for the other, at the paper's size and 16 samples.
# ```
#
# ```{solution-start} ex-cost-2
# :class: dropdown
# ```

# %%
from rollingq_core import AttentionFusion


def counted_of(module, *inputs):
    module.requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops()


with torch.device("meta"):
    streams = [torch.empty(16, n, width) for n in tokens.values()]
    everything = torch.empty(16, everyone, width)
    textbook = counted_of(Attention(width), everything, everything)
    ours = counted_of(AttentionFusion(width, 6), streams)

# %% tags=["nbval-check-output"]
print(f"every row {textbook / 1e9:.1f} · 10⁹, one row {ours / 1e9:.2f} · 10⁹")
print(f"{textbook / ours:.0f} times as much")
assert textbook > 50 * ours

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} A rotation for each block
# :label: ex-cost-3
# A stack of Transformer blocks has a rotation in each ({doc}`14_deeper_and_earlier`). What do the rotations cost for a batch of
# $N$ samples, and which of them can be folded away?
# ```
#
# ```{solution} ex-cost-3
# :class: dropdown
# After the first block the class token has read its sample, so that each sample has a query of its own: $2 d^2 N$ operations a block. In the
# first one a single product would do. The last block computes only the class token's row, so there a rotation can be folded into the query
# map. In an earlier block that map makes the queries of all rows, which must not turn.
# ```
#
# ```{exercise} Code: what depth costs
# :label: ex-cost-4
# How do the operations of vanilla with one fusion layer compare with those of two layers (`mt2`), by both counters? Why do the
# two counters disagree on what the second layer adds?
# ```
#
# ```{solution-start} ex-cost-4
# :class: dropdown
# ```

# %% tags=["nbval-check-output"]
deeper = built("mt2")
for kind, count in (("alike", operations_as_in_table4), ("true", operations)):
    one, two = (count(model, SHAPES) / 1e9 for model in (models["mt"], deeper))
    print(f"{kind:6} one layer {one:.2f}, two {two:.2f}: {two / one:.2f} times")

# %% [markdown]
# By the counter two whole Transformer blocks stand in place of one layer of attention. In truth the last block computes one row, so
# that the second model has one block more and little else.
#
# ```{solution-end}
# ```
#
# ## Summary
#
# An operation count is a convention. By the paper's, all of its Table 4 comes out to the last digit; by PyTorch's own, attention
# counts, too, and the order of the methods changes. RollingQ's rotation is one product a batch, and none once it is folded away.
#
# ## Further reading
#
# The paper's Table 4 {cite}`ni2025rollingq`. The Transformer of the encoders {cite}`dosovitskiy2021image`; JMT
# {cite}`waligora2024joint` and MBT {cite}`nagrani2021attention` as published.
