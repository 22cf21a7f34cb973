# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 16. Put it into your own model
#
# **Recap.** {doc}`15_full_training` trained the paper's model at full size, by the same few calls that trained the
# small ones. All those models were this book's own, with a fusion layer that was made to be turned.
#
# **The question.** Your model is written already, and its attention layer is not ours. What do you
# have to write to turn its query, in which order, and how do you know that it does what it should?
#
# An idea that needs a new model is tried by few. One that is five lines beside the old model can be
# tried by anyone, and taken out again.
#
# You will learn
#
# - to put a rotation into the attention layers that most models are made of, and to check it,
# - why a turn comes before validation, and validation before saving,
# - what checkpoints, averages of weights, adapters and several processes make of a rotation,
# - to bring your own arrays, and to train every method of this book on them.
#
# **What it takes.** A CPU and less than a minute. {doc}`05_rolling` comes first.

# %% tags=["hide-cell"]
from importlib.util import find_spec

if find_spec("rollingq_core") is None:  # on Colab: install the book's package
    from IPython import get_ipython

    package = "rollingq-core[data,plots]"
    url = "https://github.com/rollingq-book/rollingq-book"
    get_ipython().run_line_magic("pip", f'install -q "{package} @ git+{url}"')

# %% [markdown]
# ## Five lines
#
# Here is a model as you may have it: a map for each modality, a class token, one
# `nn.MultiheadAttention` over all tokens, and a classifier that reads the class token's row. It knows
# nothing of RollingQ.

# %%
import torch
from torch import nn


class Yours(nn.Module):
    def __init__(self, dim=32, heads=4, classes=10):
        super().__init__()
        self.cls = nn.Parameter(torch.randn(1, 1, dim))
        self.audio, self.visual = nn.Linear(32, dim), nn.Linear(32, dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.head = nn.Linear(dim, classes)

    def forward(self, audio, visual):
        row = self.cls.expand(len(audio), -1, -1)
        tokens = torch.cat([row, self.audio(audio), self.visual(visual)], dim=1)
        return self.head(self.attention(tokens, tokens, tokens)[0][:, 0])


# %% [markdown]
# Its sequence is the class token, then 8 tokens of audio, then 8 of vision. `attach` needs to know
# that: which places belong to which modality, and the place of the class token (`row=0` unless you
# say otherwise). Until the first turn the outputs must be what they were, to the last bit.

# %%
from rollingq_core import RollingQ, attach  # line 1
from rollingq_core.data import load_dataset

data = load_dataset("synthetic", seed=0, train_samples=1000)
spans = {"audio": (1, 9), "visual": (9, 17)}

torch.manual_seed(0)
model = Yours()
before = model(**data.test.inputs)

# %% tags=["nbval-check-output"]
handle = attach(model.attention, spans)
change = (model(**data.test.inputs) - before).abs().max()
assert torch.equal(model(**data.test.inputs), before)
print(f"{len(before)} samples, largest change of a logit: {change:.10f}")

# %% [markdown]
# Two small helpers, which your own loop has in one form or another: batches in a new order each
# epoch, and accuracy on the validation split.

# %%
from torch.nn.functional import cross_entropy


def batches(epoch):
    order = torch.Generator().manual_seed(epoch)
    for chosen in torch.randperm(1000, generator=order).split(50):
        inputs, labels = data.train[:]
        yield {name: x[chosen] for name, x in inputs.items()}, labels[chosen]


# %%
@torch.no_grad()
def accuracy(model):
    inputs, labels = data.validation[:]
    right = model.eval()(**inputs).argmax(dim=1) == labels
    return 100 * float(right.float().mean())


# %% [markdown]
# Now the loop. It turns once, after the fourth epoch, whatever the lean is (`beta=0`), so that we can
# look at one turn. The two calls of `accuracy` are for the next section; a loop of yours has one of
# them. Lines 2 to 5 are RollingQ, and line 1 was the import.


# %%
def train_yours(seed, epochs=8):
    torch.manual_seed(seed)
    model, seen = Yours(), []
    handle = attach(model.attention, spans)  # 2
    rolling = RollingQ(handle, rho=3, beta=0, max_rotations=1, start_epoch=3)  # 3
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(epochs):
        model.train()
        for inputs, labels in batches(epoch):
            loss = cross_entropy(model(**inputs), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rolling.observe(handle.output)  # 4
        early = accuracy(model)
        rolling.end_epoch()  # 5
        seen.append((early, accuracy(model)))
    return model, handle, rolling, seen


# %%
from rollingq_core.runs.run import one_thread

with one_thread():  # matrices this small gain nothing from a second core
    runs = {seed: train_yours(seed) for seed in range(3)}

# %% tags=["nbval-check-output"]
for seed, (_, handle, rolling, _) in runs.items():
    (event,) = rolling.events
    lead = "audio" if event.air > 0 else "vision"
    print(f"seed {seed}: turned after epoch {event.epoch + 1}, away from {lead}")
    assert event.angle > 0.5
    assert int(handle.rotation.count) == 1

# %% [markdown]
# ## Turn, validate, save
#
# A turn changes the model. What does that do to validation accuracy? Figure 16.1 has it just before
# the turn, just after it, and in the epochs around.

# %%
import numpy as np

early, late = np.transpose([seen for *_, seen in runs.values()], (2, 0, 1))
turned = 4

# %% tags=["hide-input"]
around = np.concatenate([late[:, : turned - 1], early[:, [turned - 1]]], axis=1)
around = np.concatenate([around, late[:, turned - 1 :]], axis=1)
epochs = [1, 2, 3, 4, 4, 5, 6, 7, 8]

# %% tags=["hide-input"]
from rollingq_core.plots import BookFigure, cost_of_turn

BookFigure(
    cost_of_turn(
        epochs,
        {"validation accuracy, %": around},
        turned,
        "A turn costs accuracy at once, and an epoch later it is back",
    ),
    caption="Validation accuracy of the model above on synthetic tokens, 1000 training samples: mean "
    "and one standard deviation of three seeds. At epoch 4 there are two values, before the turn and "
    "after it.",
    alt="A curve that rises to about 92 percent by epoch 4, drops straight down there, "
    "and is back above its old height at epoch 5.",
)

# %% tags=["nbval-check-output"]
lost = early[:, turned - 1] - late[:, turned - 1]
regained = late[:, turned] - early[:, turned - 1]
print(f"lost at the turn, to the next ten points: {round(lost.mean(), -1):.0f}")
print(
    "runs that lose 3 points or more at the turn:", int((lost >= 3).sum()), "of 3"
)
print("runs within 2 points an epoch later:", int((regained > -2).sum()), "of 3")
assert (lost >= 3).all()
assert (regained > -2).all()

# %% [markdown]
# So there are two accuracies at an epoch with a turn, and the order of your calls decides which of
# them is told. Validate first, then turn, then save: the file holds a model that nobody has
# validated, and the number beside it belongs to another one. The right order is **turn, validate,
# save**. Whoever then chooses an epoch by its validation accuracy sees what a turn costs.
#
# In Lightning, `on_train_epoch_end` runs *after* validation, and saves after it: the wrong order. The
# package has a callback for it, and one for Hugging Face's `Trainer`, which close the epoch at the
# right place: `rollingq_core.callbacks.lightning.RollingQCallback` and
# `rollingq_core.callbacks.huggingface.RollingQCallback`.
#
# ## Which module do you have?
#
# `attach` knows the attention layers that most models are made of. Does it turn the right thing? Each
# layer below is compared with the same textbook form, in which nothing is fused or skipped, and only
# the first query is turned.


# %%
def textbook(queries, keys, values, turn, hidden=None, heads=2):
    """Output of attention before the output map; `hidden` [B, L] is True at padding."""
    queries = torch.cat([queries[:, :1] @ turn, queries[:, 1:]], dim=1)
    q, k, v = (
        x.unflatten(-1, (heads, -1)).transpose(1, 2)
        for x in (queries, keys, values)
    )
    logits = q @ k.mT / q.shape[-1] ** 0.5
    if hidden is not None:
        logits = logits.masked_fill(hidden[:, None, None], -torch.inf)
    return (logits.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)


# %% [markdown]
# Three samples of nine tokens: a class token, four of audio, four of vision. The first sample lacks two
# tokens of audio, the second has no vision at all. And a turn, in 16 dimensions.

# %%
from rollingq_core import minimal_rotation

generator = torch.Generator().manual_seed(1)
tokens = torch.randn(3, 9, 16, generator=generator)
turn = minimal_rotation(*torch.randn(2, 16, generator=generator))
places = {"audio": (1, 5), "visual": (5, 9)}
padded = torch.zeros(3, 9, dtype=torch.bool)
padded[0, 3:5] = padded[1, 5:] = True

# %%
apart = {}


def compare(name, found, expected):
    apart[name] = float((found - expected).detach().abs().max())
    assert apart[name] < 1e-6


# %% [markdown]
# **`nn.MultiheadAttention`.** It holds its three maps in one tensor, and hears of padding by itself.

# %%
layer = nn.MultiheadAttention(16, 2, batch_first=True)
handle = attach(layer, places)
handle.rotation.rotate(turn)

# %%
from torch.nn.functional import linear

q, k, v = linear(tokens, layer.in_proj_weight, layer.in_proj_bias).chunk(3, dim=-1)
compare(
    "nn.MultiheadAttention",
    layer(tokens, tokens, tokens, key_padding_mask=padded)[0],
    layer.out_proj(textbook(q, k, v, turn, padded)),
)

# %% [markdown]
# What `rolling.observe(handle.output)` will see are the turned query and the average keys of the last
# *training* batch. A sample without a modality has a row of zeros there, and does not count.

# %% tags=["nbval-check-output"]
layer.train()(tokens, tokens, tokens, key_padding_mask=padded)
print("query:", list(handle.output.query.shape))
print("average keys:", list(handle.output.mean_keys.shape))
lacks = handle.output.mean_keys.eq(0).all(dim=-1)
print("lacks [audio, vision]:", lacks.tolist())

# %% [markdown]
# **`nn.MultiheadAttention` that a class token asks.** The queries are then the class token alone, and
# the keys' places begin at 0.

# %%
layer = nn.MultiheadAttention(16, 2, batch_first=True)
attach(layer, {"audio": (0, 4), "visual": (4, 8)}).rotation.rotate(turn)
asking, rest = tokens[:, :1], tokens[:, 1:]

# %%
maps = layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3)
q, k, v = map(linear, (asking, rest, rest), *maps)
compare(
    "nn.MultiheadAttention, one query",
    layer(asking, rest, rest)[0],
    layer.out_proj(textbook(q, k, v, turn)),
)

# %% [markdown]
# **`nn.TransformerEncoderLayer`.** Give `attach` the whole layer. In evaluation PyTorch has a fast path
# for it, which would pass its attention by; after a turn it is not taken. Of several layers take the last,
# whose class token the classifier reads. `nn.TransformerEncoder` copies the layer that it is given, so
# build it first (with `enable_nested_tensor=False`), then attach to `encoder.layers[-1]`.

# %%
block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True).eval()
attach(block, places).rotation.rotate(turn)

# %%
inner = block.self_attn
q, k, v = linear(tokens, inner.in_proj_weight, inner.in_proj_bias).chunk(3, dim=-1)
mixed = block.norm1(tokens + inner.out_proj(textbook(q, k, v, turn, padded)))
expected = block.norm2(mixed + block.linear2(block.linear1(mixed).relu()))

# %%
with torch.no_grad():
    found = block(tokens, src_key_padding_mask=padded)
compare("nn.TransformerEncoderLayer", found, expected)

# %% [markdown]
# **timm's `Attention`**, here in a vision transformer's block. One map makes queries, keys and values
# side by side. It does not hear of padding, so tell the handle, before each batch.

# %%
from timm.models.vision_transformer import VisionTransformer

sizes = {"img_size": 8, "patch_size": 4, "depth": 1}
vit = VisionTransformer(**sizes, embed_dim=16, num_heads=2)
fused = vit.blocks[0].attn
for layer in (
    fused.qkv,
    fused.proj,
):  # they start so small that no fault would show
    nn.init.xavier_normal_(layer.weight)

# %%
handle = attach(fused, places)
handle.rotation.rotate(turn)
handle.padding = padded

# %%
q, k, v = linear(tokens, fused.qkv.weight, fused.qkv.bias).chunk(3, dim=-1)
expected = fused.proj(textbook(q, k, v, turn))
compare("timm's Attention (qkv)", fused.train()(tokens), expected)
assert handle.output.mean_keys[1, 1].eq(0).all()

# %% [markdown]
# Some of these layers normalise queries and keys head by head after their map (`qk_norm`). A turn of
# the whole query moves length between heads ({doc}`06_open_questions`), and the norm would take that away
# again and scale what is left: the query would no longer be $q R$ ({ref}`Eq. 13 <eq-paper-13>`). So `attach`
# refuses. In your own code, put a `QueryRotation` behind the norm, and observe the keys behind theirs.

# %%
import textwrap

normed = VisionTransformer(**sizes, embed_dim=16, num_heads=2, qk_norm=True)

# %% tags=["nbval-check-output"]
try:
    attach(normed.blocks[0].attn, places)
except ValueError as refusal:
    print(textwrap.fill(str(refusal), 78))


# %% [markdown]
# **A BERT-style self-attention**, as Hugging Face's models have it: a map each, called `query`, `key`
# and `value`. In `transformers` it is the module `layer.attention.self`.


# %%
class BertStyle(nn.Module):
    def __init__(self, dim=16, heads=2):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))

    def forward(self, x):
        q, k, v = (
            m(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for m in (self.query, self.key, self.value)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return mixed.transpose(1, 2).flatten(2)


# %%
bert = BertStyle()
q, k, v = bert.query(tokens), bert.key(tokens), bert.value(tokens)
attach(bert, places).rotation.rotate(turn)
compare("BERT-style self-attention", bert(tokens), textbook(q, k, v, turn))

# %% [markdown]
# **This book's `AttentionFusion`** has its rotation already: give it to `RollingQ` as it is.

# %%
from rollingq_core import AttentionFusion

fusion = AttentionFusion(16, num_classes=3, num_heads=2)
fusion.rotation.rotate(turn)

# %%
output = fusion([tokens[:, 1:5], tokens[:, 5:]])
q = fusion.q_proj(fusion.cls).expand(3, -1, -1)
k, v = fusion.k_proj(tokens[:, 1:]), fusion.v_proj(tokens[:, 1:])
expected = fusion.head(fusion.out_proj(textbook(q, k, v, turn)[:, 0]))
compare("AttentionFusion", output.logits, expected)

# %% [markdown]
# **Anything else.** Put the rotation in by hand, between the query's map and the product with the keys,
# and pass query and average keys by name.

# %%
from rollingq_core import QueryRotation
from rollingq_core.attach import mean_keys

rotation = QueryRotation(16)  # in __init__
rotation.rotate(turn)

# %%
query = rotation(q[:, 0])  # in forward
means = mean_keys(k, [(0, 4), (4, 8)])
RollingQ(rotation, 3, 0, 1).observe(query=query, mean_keys=means)
compare("your own code", query, q[:, 0] @ turn)

# %% tags=["nbval-check-output"]
for name, difference in apart.items():
    print(f"{name:33} {difference:.6f}")

# %%
WRITE = {
    "nn.MultiheadAttention": "attach(layer, spans)",
    "nn.MultiheadAttention, one query": "attach(layer, spans from 0)",
    "nn.TransformerEncoderLayer": "attach(block, spans), the whole layer",
    "timm's Attention (qkv)": "attach(block.attn, spans), and handle.padding = mask",
    "BERT-style self-attention": "attach(bert_self, spans)",
    "AttentionFusion": "RollingQ(fusion, …), and observe(output)",
    "your own code": "QueryRotation(d), and observe(query=…, mean_keys=…)",
}
assert set(apart) == set(WRITE)

# %% tags=["hide-input"]
from rollingq_core.plots import Table

Table(
    ["your module", "what to write"],
    [[name, WRITE[name]] for name in WRITE],
    "What turns the class token's query, by the module that computes it. Each was compared above with the "
    "textbook form: 3 samples of 9 tokens, d = 16, two heads, float32, after a turn.",
)

# %% [markdown]
# Table 16.1 is the reference of this chapter: your module on the left, what to write on the right. All
# differences above it are those of rounding.
#
# ## What your tools make of it
#
# ### Checkpoints
#
# The rotation is a submodule with four buffers, so it is part of the model's `state_dict`: $R$, the
# number of turns, and the schedule. A file that `torch.save` wrote, or `safetensors`, holds all of it.

# %%
import io

model, handle, rolling, _ = runs[0]
file = io.BytesIO()
torch.save(model.state_dict(), file)

# %% tags=["nbval-check-output"]
for name, value in model.state_dict().items():
    if "rotation" in name:
        print(f"{name:34} {list(value.shape)}")

# %% [markdown]
# To load it, `attach` first. Without it these four names are unexpected, and `load_state_dict` says so.
# The other way round, a file from before RollingQ lacks them, and is loaded with `strict=False`.

# %%
file.seek(0)
saved = torch.load(file, weights_only=True)
fresh = Yours()
again = RollingQ(attach(fresh.attention, spans), rho=3, beta=0, max_rotations=1)
missing, unexpected = fresh.load_state_dict(saved)

# %% tags=["nbval-check-output"]
gap = (fresh(**data.test.inputs) - model(**data.test.inputs)).abs().max()
assert gap == 0 and not missing and not unexpected
print(f"difference of the logits: {gap:.10f}")
print(
    "turns:", int(fresh.attention.rotation.count), "| epochs closed:", again.epoch
)

# %% [markdown]
# The new `RollingQ` knows the epoch, and that its one turn is used up. Only in the middle of an epoch
# there is more to save: `rolling.state_dict()` has the sums so far, and the list of events.
#
# ### An average of the weights
#
# An exponential average (EMA) trains along as a copy. Parameters are averaged; buffers should be
# *copied*, as PyTorch's `AveragedModel` does by default. With `use_buffers=True` it would average $R$
# too, and a mean of two rotations is none: it shortens the query.

# %%
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

torch.manual_seed(0)
source = Yours()
handle = attach(source.attention, spans)
average = get_ema_multi_avg_fn(0.5)
copies = {
    use: AveragedModel(source, multi_avg_fn=average, use_buffers=use)
    for use in (False, True)
}

# %% tags=["nbval-check-output"]
for copy in copies.values():
    copy.update_parameters(source)  # the first one copies
handle.rotation.rotate(minimal_rotation(*torch.eye(32)[:2]))
for use, copy in copies.items():
    copy.update_parameters(source)
    matrix = copy.module.attention.rotation.matrix
    error = (matrix @ matrix.T - torch.eye(32)).abs().max()
    print(f"use_buffers={use!s:5}  largest entry of R R' − I: {error:.2f}")

# %% [markdown]
# Even so the average lags behind: at a turn its $R$ is the new one, and its $W_Q$ is still a mean of old
# ones. That mends itself within the average's own memory, as after any sudden change of the weights.
#
# ### Adapters
#
# A low-rank adapter (LoRA) adds a small trained map beside a frozen one:
# $x W_Q + x B A$. The rotation must turn the *sum*. So the adapter comes first, then `attach`.


# %%
class Adapted(nn.Module):
    """A frozen linear map, and a trained one of low rank beside it."""

    def __init__(self, base, rank=2):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.out_features = base.out_features
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


# %%
torch.manual_seed(0)
bert = BertStyle()
bert.query = Adapted(bert.query)
q, k, v = bert.query(tokens), bert.key(tokens), bert.value(tokens)
expected = textbook(q, k, v, turn)

# %% tags=["nbval-check-output"]
handle = attach(bert, places)
handle.rotation.rotate(turn)
gap = (bert(tokens) - expected).abs().max()
assert gap < 1e-6
print(f"adapter first, then attach: difference {gap:.6f}")

# %% [markdown]
# The other order raises no error, and is wrong: exercise 3 measures it. `attach` takes any adapter that
# tells its `out_features`, as this one does. In `AttentionFusion` the order does not matter: its `q_proj`
# may be replaced at any time.
#
# ### Gradient checkpointing
#
# It runs a layer twice, the second time while the gradients are computed. The handle then writes down
# the same batch twice; you observe it once, after the step.

# %%
from torch.utils.checkpoint import checkpoint

layer = nn.MultiheadAttention(16, 2, batch_first=True)
handle = attach(layer, places)
handle.rotation.rotate(turn)

# %%
results = []
for run in (layer, lambda *x: checkpoint(layer, *x, use_reentrant=False)):
    layer.zero_grad()
    run(tokens, tokens, tokens)[0].square().sum().backward()
    results.append((layer.in_proj_weight.grad.clone(), *handle.output))

# %% tags=["nbval-check-output"]
gaps = [float((a - b).abs().max()) for a, b in zip(*results, strict=True)]
assert max(gaps) < 1e-5
for name, gap in zip(("gradient", "query", "average keys"), gaps, strict=True):
    print(f"{name:12} differs by {gap:.4f}")

# %% [markdown]
# If you call `observe` inside `forward`, as code of your own may, a checkpointed forward counts each
# batch twice. All of them twice is no harm: the expectation is a mean.
#
# ### Several processes
#
# Each process sees its part of every batch. What RollingQ needs of an epoch are *sums*: of queries, of
# average keys, of cosines, and a count. `end_epoch` adds them up over all processes, so that each
# turns by the same bits. What to do: call `observe` in each process on its own part, and `end_epoch` in
# **each** process at the same place; one that does not call leaves the others waiting.
#
# No process group is needed to see that sums are enough: two halves of a batch, and the whole.

# %%
from rollingq_core.air import RunningExpectation

keys = torch.randn(6, 2, 16, generator=generator)
asked = torch.randn(6, 16, generator=generator)
whole, left, right = (RunningExpectation() for _ in range(3))

# %%
whole.update(asked, keys)
left.update(asked[:2], keys[:2])
right.update(asked[2:], keys[2:])
left.sums = {name: left.sums[name] + right.sums[name] for name in left.sums}

# %% tags=["nbval-check-output"]
found, expected = left.compute(), whole.compute()
assert abs(found.air - expected.air) < 1e-6
print("summed:", ", ".join(whole.sums))
print(f"AIR of parts and whole differ by {abs(found.air - expected.air):.6f}")

# %% [markdown]
# The repository's tests do the same with two processes and PyTorch's gloo. In this package's own loop
# it is `fit(…, machine=Machine(devices=2))`.
#
# ### Export, and the way back
#
# `torch.export` writes the model down as a graph, the turn with it.

# %% tags=["nbval-check-output"]
inputs = {name: x[:4] for name, x in data.test.inputs.items()}
program = torch.export.export(model.eval(), (), inputs).module()
gap = (program(**inputs) - model(**inputs)).detach().abs().max()
assert gap < 1e-5
print(f"exported and own logits differ by {gap:.4f}")

# %% [markdown]
# `handle.detach()` takes the rotation out, and leaves the layer as it was before `attach`: same class,
# same names. The model answers without its turn then, which it was trained with, so this is for going
# back, not for shipping. To be rid of $R$ at no cost, `fold_into` moves it into a query map that only the class
# token uses ({doc}`06_open_questions`). In self-attention all tokens share the map, and $R$ has to stay.

# %%
model, handle, _, _ = runs[1]
turned_logits = model(**inputs)
handle.detach()

# %% tags=["nbval-check-output"]
moved = (model(**inputs) - turned_logits).detach().abs().max()
assert type(model.attention) is nn.MultiheadAttention
assert list(model.state_dict()) == list(Yours().state_dict())
assert moved > 1
print("class:", type(model.attention).__name__)
print("names with rotation:", sum("rotation" in n for n in model.state_dict()))

# %% [markdown]
# ## Your own data, through every method
#
# So far it was your model and our loop's ideas. The other way round: your data, and the methods of this
# book. `from_arrays` takes one array a modality, `[N, L, p]` tokens or `[N, p]` vectors, and masks
# that say what is padding. Here are three modalities, of which a fifth of the samples lack the third.

# %%
from rollingq_core.data import from_arrays

rng = np.random.default_rng(0)
labels = rng.integers(4, size=600)


def modality(strength, length, width):
    prototypes = rng.normal(size=(4, width))
    noise = rng.normal(size=(600, length, width))
    return strength * prototypes[labels][:, None] + noise


# %%
lacking = np.repeat(rng.random((600, 1)) < 0.2, 5, axis=1)
arrays = {
    "audio": modality(0.25, 6, 16),
    "visual": modality(0.2, 4, 12),
    "text": modality(0.2, 5, 8),
}
own = from_arrays(arrays, labels, masks={"text": lacking}, splits=(0.6, 0.1, 0.3))

# %% [markdown]
# `methods_for` names the methods that these modalities can train. Each is one call of `train`; the
# random controls follow the turns of the RollingQ run of their seed.

# %%
from dataclasses import replace

from rollingq_core.methods import DECIDING, METHODS, methods_for
from rollingq_core.models.predictions import predict
from rollingq_core.runs import train
from rollingq_core.settings import SETTINGS

quick = replace(SETTINGS["T"], training=replace(SETTINGS["T"].training, epochs=6))

# %%
able = methods_for([*own.train.inputs])
left_out = {
    *DECIDING,
    *(name for name in able if "random" in name or "joint" in name),
}
left_out -= {"mt", "mt+rollingq", "mt+random_matched", "uniform"}
tested = {name: [] for name in able if name not in left_out}
for seed in range(3):
    runs = {}
    for name in tested:
        leader = runs.get(METHODS[name].follows)
        schedule = leader.schedule_for(name) if leader else None
        run = runs[name] = train(
            name, own, setting=quick, seed=seed, schedule=schedule
        )
        tested[name].append(100 * predict(run.model, own.test).accuracy)

# %% tags=["hide-input"]
Table(
    ["method", "name", "accuracy, %"],
    [
        [METHODS[name].label, name, f"{np.mean(x):.0f} ± {np.std(x, ddof=1):.0f}"]
        for name, x in tested.items()
    ],
    "Test accuracy on three modalities of made-up arrays, 360 training and 180 test samples: mean ± sd "
    "over three seeds of weights and order, one split. The name is what `train` and the command line take.",
)

# %% tags=["nbval-check-output"]
means = {name: np.mean(x) for name, x in tested.items()}
best = max(x for name, x in means.items() if METHODS[name].modalities)
above = [x > best for name, x in means.items() if not METHODS[name].modalities]
print(
    f"chance 25 %, best single modality, to the next ten: {round(best, -1):.0f} %"
)
print(f"methods of all three that are above it: {100 * np.mean(above):.0f} %")
assert best > 50
assert np.mean(above) > 0.5

# %% [markdown]
# Read Table 16.2 as a check that all of it runs, not as a ranking: one split, 180 test samples, three
# seeds. A comparison takes paired seeds and intervals, as in {doc}`07_training`, and a real one has
# its settings chosen on the validation split.
#
# The same from the command line, with a file that `numpy.savez` wrote: the arrays by name, `labels`, and
# `text_padding`. The run's folder notes the file's SHA-256, and a file that has changed since is refused.
#
# ```text
# python -m rollingq_core train --data mine.npz --method pmr --out runs/mine
# python -m rollingq_core evaluate runs/mine --test noise
# ```
#
# ## What to conclude, and what not
#
# - **Conclude**: a rotation goes into the common attention layers from outside. Before the first turn
#   nothing changes, to the last bit; after it the class token's row is that of the turned query, and no other.
# - **Conclude**: the order is turn, validate, save. In all three runs the turn cost accuracy at once, and an
#   epoch later it was back.
# - **Conclude**: adapters come before `attach`, buffers are not averaged, and `end_epoch` is called by every
#   process.
# - **Don't conclude** that RollingQ made this chapter's model better. Nothing here compares it with a run that
#   does not turn; {doc}`07_training` to {doc}`09_noise` do.
# - **Don't conclude** from Table 16.2 which method suits your data.
# - **Don't conclude** that a layer is safe because it takes `attach`. One whose class token is not the only row
#   that is read has more queries than the one that is turned.
#
# ## Exercises
#
# ```{exercise} Code: three modalities
# :label: ex-own-1
# Give an `nn.MultiheadAttention` of 16 dimensions three spans, and let it observe one training batch of random
# tokens. Close the epoch. Do the weights of the anchor add up to 1, and which modality gets the largest?
# ```
#
# ```{solution-start} ex-own-1
# :class: dropdown
# ```

# %%
torch.manual_seed(0)
layer = nn.MultiheadAttention(16, 2, batch_first=True)
handle = attach(layer, {"audio": (1, 4), "visual": (4, 7), "text": (7, 9)})
rolling = RollingQ(handle, rho=3, beta=0, max_rotations=1)

# %% tags=["nbval-check-output"]
layer(tokens, tokens, tokens)
rolling.observe(handle.output)
event = rolling.end_epoch()
assert np.argmax(event.weights) == np.argmin(event.cosines)
print(f"the weights add up to {sum(event.weights):.4f}")
print("the largest is that of the smallest cosine")

# %% [markdown]
# The largest weight goes to the modality that the query leans on least, as Eq. 6.2 of {doc}`06_open_questions` says.
#
# ```{solution-end}
# ```
#
# ```{exercise} Code: a turn too late
# :label: ex-own-2
# Take `early` and `late` of the three runs. By how many points on average would the accuracy that is told be wrong for
# the model that is saved, if the order were validate, turn, save?
# ```
#
# ```{solution-start} ex-own-2
# :class: dropdown
# ```

# %% tags=["nbval-check-output"]
wrong = np.mean(early[:, turned - 1] - late[:, turned - 1])
others = np.delete(early - late, turned - 1, axis=1)
print(f"told too high, to the next ten points: {round(wrong, -1):.0f}")
print(f"in epochs without a turn: {np.abs(others).max():.1f}")
assert wrong > 3

# %% [markdown]
# Between turns the order makes no difference, so that a wrong one is easily overlooked: it shows only in the few
# epochs that turn.
#
# ```{solution-end}
# ```
#
# ```{exercise} Code: attach first, adapter later
# :label: ex-own-3
# Put the adapter of this chapter around `bert.query` *after* `attach`. How far is the output from the textbook form,
# and why?
# ```
#
# ```{solution-start} ex-own-3
# :class: dropdown
# ```

# %%
torch.manual_seed(0)
later = BertStyle()
base = later.query
attach(later, places).rotation.rotate(turn)
later.query = Adapted(base)

# %% tags=["nbval-check-output"]
added = later.query.up(later.query.down(tokens))
q = linear(tokens, base.weight, base.bias) + added
expected = textbook(q, later.key(tokens), later.value(tokens), turn)
wrong = float((later(tokens) - expected).detach().abs().max())
print(f"largest difference: {wrong:.2f}")
assert wrong > 0.05

# %% [markdown]
# The hook sits on the inner map, so the query is $x W_Q R + x B A$: the adapter's part is not turned.
#
# ```{solution-end}
# ```
#
# ```{exercise} A decoder's last token
# :label: ex-own-4
# In a decoder the last token is read, not a class token at the front. Sequences are padded on the right. What do you
# give as `row`?
# ```
#
# ```{solution} ex-own-4
# :class: dropdown
# There is no such number: `row` is one place for the whole batch, and with padding on the right the last token's place
# differs between samples. Pad on the left, and `row` is L − 1 for all; or put a `QueryRotation` into your own code,
# and turn the query of each sample's last token.
# ```
#
# ```{exercise} What a second process must not do
# :label: ex-own-5
# Two processes train. The first alone calls `end_epoch`, for only the first writes files. What happens?
# ```
#
# ```{solution} ex-own-5
# :class: dropdown
# The first waits for the sums of the second, which never come, until the process group's time is over. If it did not
# wait, it would be worse: the first would turn its model and the second would not, and from then on their gradients
# would be averaged over two different models.
# ```
#
# ## Summary
#
# - Five lines: the import, `attach`, `RollingQ`, `observe` after each batch, `end_epoch` after the last one.
# - Table 16.1: what to write for which module, each checked against the textbook form.
# - Turn, validate, save.
# - The rotation is four buffers of the model. Copy them with an average of weights, load them after `attach`.
# - Adapters first. `observe` each part, `end_epoch` everywhere.
# - `from_arrays` and `methods_for` bring your own data to every method.
#
# ## Further reading
#
# - {doc}`../book/api`: `attach`, `RollingQ`, `from_arrays` and `train`, with all their options.
# - {cite:t}`ni2025rollingq`, section 3 and appendix B, for the method that was put into your model.
# - {cite:t}`vaswani2017attention`, for the attention that all of these modules compute.
# - {doc}`../book/troubleshooting`, when something does not work.
