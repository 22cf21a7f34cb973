# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11. Masks and QUAG
#
# **Recap.** {doc}`08_controls` and {doc}`09_noise` told of a trained model by what it answers when a modality
# fails. {doc}`10_every_way_to_fuse` compared fusions by their accuracy alone.
#
# **The question.** What has a fusion *learned* of each modality, whatever its attention makes of it? Two
# operations on a trained model answer that, and need no training. A **mask** takes a modality away from attention
# (the paper's Table 8). **QUAG** leaves every modality its mass, and takes away what attention knows *within* it
# (its Table 9).
#
# You will learn
#
# - to mask a modality, and why a masked model is no unimodal model,
# - to tell what attention costs under noise from what the fusion can't do at all,
# - QUAG's four averages on a matrix that you can check with a pencil,
# - why on one layer two of the four do nothing.
#
# **What it takes.** A CPU and less than a minute. All training was done before; each record names its command.

# %% tags=["hide-cell"]
from importlib.util import find_spec

if find_spec("rollingq_core") is None:  # on Colab: install the book's package
    from IPython import get_ipython

    package = "rollingq-core[data,plots]"
    url = "https://github.com/rollingq-book/rollingq-book"
    get_ipython().run_line_magic("pip", f'install -q "{package} @ git+{url}"')

# %% [markdown]
# ## A mask, by hand
#
# A masked token has the logit minus infinity. The softmax gives it no mass, and what it had goes to the others in
# proportion:
#
# $$
# p_i \;\to\; \frac{p_i\,[i \text{ is seen}]}{\sum_j p_j\,[j \text{ is seen}]} .
# $$ (eq-mask)
#
# Take two audio tokens $[1, 0]$ and $[0, 1]$, three visual ones $[1, 1]$, $[-1, 0]$ and $[0, 0]$, a class token
# $[1, 0]$ that is a key, too, as in the published code, and identity maps. The logits are the tokens' first
# numbers over $\sqrt 2$.

# %%
import torch

from rollingq_core import AttentionFusion

audio = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
visual = torch.tensor([[[1.0, 1.0], [-1.0, 0.0], [0.0, 0.0]]])
layer = AttentionFusion(2, 2, output_projection=False, cls_self_key=True)

# %%
with torch.no_grad():
    for projection in (layer.q_proj, layer.k_proj, layer.v_proj):
        projection.weight.copy_(torch.eye(2))
    layer.cls.copy_(torch.tensor([1.0, 0.0]))


# %%
def attention_where(*hidden):
    """Attention on the five tokens where these modalities (0: audio, 1: visual) are padding."""
    masks = [
        torch.full(z.shape[:2], m in hidden) for m, z in enumerate((audio, visual))
    ]
    return layer([audio, visual], masks).attention[0, 0]


# %% tags=["nbval-check-output"]
torch.set_printoptions(precision=3, sci_mode=False)
whole, no_visual = attention_where().detach(), attention_where(1).detach()
print("all       ", whole)
print("no vision ", no_visual)
print("no audio  ", attention_where(0).detach())
own = 1 - float(whole.sum())  # of the class token itself
torch.testing.assert_close(no_visual[:2], whole[:2] / (whole[:2].sum() + own))

# %% [markdown]
# Each row lacks what the class token gives to itself. Nothing else has changed: the values, the map after attention and
# the classifier are those that were trained with both modalities. That is why a masked model is *not* a unimodal
# one. It answers from one modality with maps that were made for two, and was never trained to.
#
# `hidden` does it to any model of this book, in every layer; the encoders see everything.

# %%
from rollingq_core.evaluation import hidden, masked_accuracy
from rollingq_core.runs import train

run = train("mt", "digits", seed=0)

# %% tags=["nbval-check-output"]
with hidden(run.model, ["audio"]):
    output = run.model(run.data.test.inputs).fusion
print("audio's share while it is hidden:", float(output.share[:, 0].detach().max()))
told = masked_accuracy(run.model, run.data.test)
rates = {"both": told.accuracy} | told.alone
print("accuracy, %:", {name: round(100 * rate) for name, rate in rates.items()})
assert told.alone["visual"] < told.alone["audio"]

# %% [markdown]
# ## QUAG, by hand
#
# In self-attention each token has a row of attention over all tokens. Sort rows and columns by modality, and the
# matrix falls into four blocks: audio's rows over audio's keys (AA), over vision's (AV), and the same for vision
# (VA, VV). QUAG {cite}`rawal2024dissecting` replaces each row's weights inside some blocks by their mean. The sum over
# the block stays, so each modality keeps its mass; what goes is *which* of its tokens the row looked at.
#
# | operation | blocks | what is lost |
# |---|---|---|
# | unimodal | AA, VV | whom a token knows in its own modality |
# | crossmodal | AV, VA | whom it knows in the other |
# | average audio | AA, VA | all that anyone knows within audio |
# | average visual | AV, VV | all that anyone knows within vision |
#
# Two audio and two visual tokens are enough to check that with a pencil.

# %%
from rollingq_core.evaluation.quag import averaged, blocks_of

weights = torch.tensor(
    [
        [0.4, 0.2, 0.3, 0.1],
        [0.1, 0.1, 0.2, 0.6],
        [0.25, 0.25, 0.4, 0.1],
        [0.0, 0.6, 0.1, 0.3],
    ]
)
group = torch.tensor([0, 0, 1, 1])  # audio, audio, visual, visual

# %% tags=["nbval-check-output"]
torch.set_printoptions(precision=2)
for operation in ("unimodal", "crossmodal", "average audio", "average visual"):
    made = averaged(
        weights, group, group, blocks_of(operation, ["audio", "visual"])
    )
    print(operation, "\n", made)
    torch.testing.assert_close(made.sum(dim=1), weights.sum(dim=1))

# %% [markdown]
# The class token belongs to neither modality, and QUAG does not say what becomes of it. Here its row and column are a
# group of their own. The two averages over one modality's keys act on its row, too, as they are meant for all who
# ask; the first two leave it alone.
#
# It follows that with *one* layer of attention, whose only row that is read is the class token's, the first two
# operations do nothing at all. The paper's Table 9 is of the model with two layers. In the second of these the same
# holds; it is in the first that tokens read each other.

# %% tags=["nbval-check-output"]
from rollingq_core.evaluation import quag

told = quag(run.model, run.data.test)
print("one layer, accuracy in %:", round(100 * told.accuracy))
print(
    "  unimodal, crossmodal:",
    round(100 * told.unimodal),
    round(100 * told.crossmodal),
)
assert told.unimodal == told.crossmodal == told.accuracy

# %% [markdown]
# ## Table 8: one modality alone
#
# Eight models on three data sets: one layer of attention with and without RollingQ, its control and uniform attention, and the same
# with two layers, which Table 9 needs. Six seeds each. Noise and masks are in the test samples only.

# %%
from rollingq_core.methods import METHODS
from rollingq_core.records import read_record

NAMES = {"digits-P": "digits, P", "avmnist-P": "speech, P", "mosi-P": "CMU-MOSI, P"}
masks = {label: read_record(f"table8-{name}") for name, label in NAMES.items()}
averages = {label: read_record(f"table9-{name}") for name, label in NAMES.items()}
EVERYONE = list(dict.fromkeys(run["method"] for run in masks["digits, P"]["runs"]))

# %% tags=["nbval-check-output"]
seeds = {
    tuple(r["seeds"]) for records in (masks, averages) for r in records.values()
}
(reporting,) = seeds
print("reported on seeds:", *reporting)
assert min(reporting) > 9
for record in (*masks.values(), *averages.values()):
    print(record["command"])

# %% tags=["hide-input"]
from rollingq_core.plots import BookFigure, masked_dots

BookFigure(
    masked_dots(
        masks, EVERYONE, "The neglected modality is known better than it is used"
    ),
    caption="Test accuracy on all modalities, and on each alone with the others masked out of attention: mean and 95 % interval over six "
    "seeds.",
    alt="Three panels of dots, eight rows each.",
)

# %%
from rollingq_core.plots import paired_difference, starred
from rollingq_core.statistics import holm, paired_p_value


def alone(modality):
    return lambda run: 100 * run["alone"][modality]


PAIRS = {
    "one layer": ("mt+rollingq", "mt"),
    "one layer, random turn": ("mt+random_matched", "mt"),
    "two layers": ("mt2+rollingq", "mt2+progressive"),
}
NEGLECTED = {"digits, P": "visual", "speech, P": "visual", "CMU-MOSI, P": "audio"}

# %% tags=["nbval-check-output"]
found = {
    (name, pair): (
        paired_difference(record["runs"], *methods, alone(NEGLECTED[name])),
        paired_p_value(record["runs"], *methods, alone(NEGLECTED[name])),
    )
    for name, record in masks.items()
    for pair, methods in PAIRS.items()
}
corrected = holm([p for _, p in found.values()])
print("what a turn adds to the neglected modality alone, points")
for ((name, pair), (difference, _)), p in zip(
    found.items(), corrected, strict=True
):
    print(f"  {name:12} {pair:23} {starred(*difference)} {'Holm' * (p < 0.05)}")

# %% [markdown]
# ## What attention costs under noise
#
# With audio all noise, the best a model could do is to turn away from it: what it answers from vision alone. What is missing to that is
# attention's fault, for everything else is the same model.

# %%
deciding = {
    "digits, P": read_record("controls-digits-P"),
    "new speaker, P": read_record("controls-avmnist-new-speaker-P"),
}

# %% tags=["nbval-check-output"]
print("accuracy in %: vision alone | audio all noise | lost by attention")
for name, record in deciding.items():
    for method in ("mt", "mt+rollingq", "uniform"):
        runs = [run for run in record["runs"] if run["method"] == method]
        could = sum(100 * run["alone"]["visual"] for run in runs) / len(runs)
        does = sum(100 * run["accuracy"][-1] for run in runs) / len(runs)
        label = METHODS[method].label
        print(f"  {name:15} {label:9} {could:5.1f} {does:5.1f} {could - does:5.1f}")

# %% [markdown]
# ## Table 9: averages

# %% tags=["hide-input"]
from rollingq_core.plots import averaged_dots

TWO = ["mt2", "mt2+progressive", "mt2+rollingq", "mt2+random_matched"]
BookFigure(
    averaged_dots(
        averages, TWO, "What is lost when attention within a modality is averaged"
    ),
    caption="Accuracy with some blocks of attention averaged minus accuracy as it is, in points: mean and 95 % interval over six seeds, two "
    "layers.",
    alt="Three panels of intervals.",
)
