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
# Eight models on three data sets: one layer of attention with and without RollingQ, its control and uniform attention, and the
# same with two layers, which Table 9 needs. Six seeds each.

# %%
from rollingq_core.methods import METHODS
from rollingq_core.records import read_record

NAMES = {"digits-P": "digits, P", "avmnist-P": "speech, P", "mosi-P": "CMU-MOSI, P"}
NEGLECTED = {"digits, P": "visual", "speech, P": "visual", "CMU-MOSI, P": "audio"}
FAVOURED = {"digits, P": "audio", "speech, P": "audio", "CMU-MOSI, P": "text"}


def load(recipe):
    return {label: read_record(f"{recipe}-{name}") for name, label in NAMES.items()}


masks, averages, separate = load("table8"), load("table9"), load("table1")
EVERYONE = list(dict.fromkeys(run["method"] for run in masks["digits, P"]["runs"]))

# %% tags=["nbval-check-output"]
seeds = {
    tuple(r["seeds"]) for records in (masks, averages) for r in records.values()
}
(reporting,) = seeds
print("reported on seeds:", *reporting)
assert min(reporting) > 9  # seeds 0 to 9 were for choosing
for record in (*masks.values(), *averages.values()):
    print(record["command"])

# %% tags=["hide-input"]
from rollingq_core.plots import BookFigure, masked_dots

BookFigure(
    masked_dots(
        masks,
        EVERYONE,
        "After a turn more is answered from the neglected modality alone",
    ),
    caption="Test accuracy on all modalities, and on each alone with the others masked out of attention: mean and 95 % interval "
    "over six seeds.",
    alt="Three panels of dots, eight rows each. Accuracy on all modalities lies at the right, near that on the favoured modality "
    "alone. The neglected modality alone lies far to the left, further right for RollingQ than for vanilla. In CMU-MOSI uniform "
    "attention answers from text alone no better than from sound or pictures.",
)

# %% [markdown]
# Figure 11.1 has them all. Read a row from right to left: what the model answers with everything, and what is left of it when only one
# modality is seen. Between the two lies what the fusion *can* do with a modality, whether or not its attention lets it.
#
# ### Is it clear?
#
# Three pairs on three sets are nine questions. With so many, some interval leaves 0 out by luck; so the p-values are corrected together
# by Holm's method {cite}`holm1979simple`.

# %%
from rollingq_core.plots import starred
from rollingq_core.statistics import paired_differences

PAIRS = {
    "one layer": ("mt+rollingq", "mt"),
    "one layer, random turn": ("mt+random_matched", "mt"),
    "two layers": ("mt2+rollingq", "mt2+progressive"),
}


def alone(modality):
    return lambda run: 100 * run["alone"][modality]


# %%
def asked(records, pairs, value_of):
    """Differences of pairs on each set, with p-values corrected together."""
    return paired_differences(
        {
            (name, label): (record["runs"], *pair, value_of(name))
            for name, record in records.items()
            for label, pair in pairs.items()
        }
    )


def clear_or_not(found):
    return f"{starred(found.mean, found.half)} {'Holm' * found.holds}"


# %% tags=["nbval-check-output"]
print("what a turn adds to the neglected modality alone, points\n")
questions = asked(masks, PAIRS, lambda name: alone(NEGLECTED[name]))
for (name, label), difference in questions.items():
    print(f"{name:12} {label:23} {clear_or_not(difference)}")

# %%
ACCURACY = {"accuracy": lambda run: 100 * run["accuracy"]}

# %% tags=["nbval-check-output"]
print("… and to accuracy on all modalities, points\n")
overall = asked(masks, PAIRS, lambda name: ACCURACY["accuracy"])
for (name, label), difference in overall.items():
    print(f"{name:12} {label:23} {clear_or_not(difference)}")

# %% [markdown]
# ### A masked model is no unimodal model
#
# The paper's table has unimodal models beside its masks. So has this one: encoder and head trained on one modality and nothing else,
# at the same seeds; and the probe, a linear head on what the fused model's own encoder gives.


# %%
def mean(values):
    values = list(values)
    return sum(values) / len(values)


def beside(name, modality, method="mt"):
    """A modality masked out of all else, its probe, and a model trained on it alone, in %."""
    runs = [run for run in masks[name]["runs"] if run["method"] == method]
    own = [
        run
        for run in separate[name]["runs"]
        if run["method"] == f"unimodal-{modality}" and run["seed"] in reporting
    ]
    return [
        100 * mean(run["alone"][modality] for run in runs),
        100 * mean(run["probes"][modality] for run in runs),
        100 * mean(run["accuracy"][0] for run in own),
    ]


# %% tags=["hide-input", "nbval-check-output"]
from rollingq_core.plots import Table

rows = []
for name in masks:
    for modality in masks[name]["runs"][0]["alone"]:
        for method in ("mt", "mt+rollingq", "uniform"):
            numbers = [f"{x:.1f}" for x in beside(name, modality, method)]
            if method != "mt":
                numbers[-1] = ""
            rows.append([f"{name}, {modality}: {METHODS[method].label}", *numbers])
Table(
    ["accuracy, %", "masked", "probe", "trained alone"],
    rows,
    "One modality alone, three ways: the fused model with all else masked out, a linear probe on its encoder, and a model trained on "
    "that modality only. Means over six seeds.",
)

# %% [markdown]
# Compare the columns of Table 11.1. The probe is far above the masked fusion for every neglected modality: the encoder knows more
# than the fusion takes from it. And one row warns against reading masks as knowledge. In CMU-MOSI uniform attention answers from text alone
# as a coin would, although its text encoder's probe is as good as vanilla's. Uniform attention has always given text a share that the
# numbers of tokens fix. Alone, text gets all of it; the pooled vector is of a length that the head has never seen, and its bias no longer fits. The
# mask measures the fusion *together with* the attention that it grew up with.

# %% tags=["nbval-check-output"]
masked, probe, trained = beside("CMU-MOSI, P", "text", "uniform")
print(f"uniform, text alone: masked {masked:.0f}, probe {probe:.0f}")
assert masked < 60 < probe
for name, modality in NEGLECTED.items():
    masked, probe, trained = beside(name, modality)
    print(f"{name:12} {modality}: probe − masked {probe - masked:+.0f} points")

# %% [markdown]
# ## What attention costs under noise
#
# With the favoured modality all noise, the best that a model could do is to turn away from it: then it answers what it answers from the
# others. What is missing to that is attention's fault, for everything else is the same model. The records of {doc}`08_controls` have both
# numbers, over twelve seeds.

# %%
deciding = {
    "digits, P": read_record("controls-digits-P"),
    "new speaker, P": read_record("controls-avmnist-new-speaker-P"),
    "synthetic, T": read_record("controls-synthetic-T"),
}


def could(run):
    return 100 * run["alone"]["visual"]


def does(run):
    return 100 * run["accuracy"][-1]


# %% tags=["nbval-check-output"]
print("accuracy in %: vision alone | audio all noise | lost by attention")
for name, record in deciding.items():
    for method in ("mt", "mt+rollingq", "uniform", "mt+modality_dropout"):
        runs = [run for run in record["runs"] if run["method"] == method]
        best, real = mean(map(could, runs)), mean(map(does, runs))
        label = METHODS[method].label
        print(f"{name:15} {label:17} {best:5.1f} {real:5.1f} {best - real:+6.1f}")

# %% [markdown]
# RollingQ raises the first number more than the second: it learns to see, and goes on listening to the noise. That is where the share of
# attention that {doc}`09_noise` measures would have to move, and does not move far enough. Modality dropout raises the first number most, on the
# synthetic tokens nearly to what an ear and an eye together can tell.
#
# ## Table 9: averages
#
# The fusion of two layers, four ways to train it. Figure 11.2 has what each average costs.

# %% tags=["hide-input"]
from rollingq_core.plots import averaged_dots

TWO = ["mt2", "mt2+progressive", "mt2+rollingq", "mt2+random_matched"]
BookFigure(
    averaged_dots(
        averages, TWO, "Only averages over the favoured modality cost much"
    ),
    caption="Accuracy with some blocks of attention averaged minus accuracy as it is, in points: mean and 95 % interval over six "
    "seeds, two layers. From above: the unimodal blocks, the crossmodal ones, and all blocks over one modality's keys.",
    alt="Three panels of intervals. Unimodal and crossmodal averages lie at 0 within a few points. Averages over audio on digits and "
    "speech, and over text in CMU-MOSI, lie clearly left of 0; those over all modalities at once, further left.",
)


# %%
def cost_of(operation):
    """Points of accuracy that an average costs: of some blocks, or over a modality's keys."""

    def value(run):
        over = operation.removeprefix("over ")
        now = run["average"][over] if over != operation else run[operation]
        return 100 * (run["accuracy"] - now)

    return value


# %%
from rollingq_core.plots import mean_interval


def costs(record, method, operation):
    runs = [run for run in record["runs"] if run["method"] == method]
    return mean_interval([cost_of(operation)(run) for run in runs])


# %% tags=["nbval-check-output"]
print("points lost, two layers: vanilla | RollingQ\n")
for name, record in averages.items():
    for operation in ("unimodal", "crossmodal", f"over {FAVOURED[name]}"):
        found = [
            starred(*costs(record, method, operation))
            for method in ("mt2", "mt2+rollingq")
        ]
        print(f"{name:12} {operation:11}", *found)

# %% [markdown]
# Does RollingQ change any of it? Against the same two layers trained one by one without turns, the difference of what each average costs:

# %% tags=["nbval-check-output"]
PAIR = {"RollingQ − one by one": ("mt2+rollingq", "mt2+progressive")}
OPERATIONS = {
    "unimodal": lambda name: cost_of("unimodal"),
    "crossmodal": lambda name: cost_of("crossmodal"),
    "over favoured": lambda name: cost_of(f"over {FAVOURED[name]}"),
}
for operation, value_of in OPERATIONS.items():
    for (name, _), found in asked(averages, PAIR, value_of).items():
        print(f"{operation:14} {name:12} {clear_or_not(found)}")

# %% [markdown]
# (Holm's correction here is over the three sets of each row.) The unimodal and crossmodal averages are the ones that QUAG was made for:
# they tell whether a model needs to know *which* token of the other modality a token looks at. Here hardly so. These encoders have
# already mixed each modality's tokens; what the first fusion layer's tokens read of each other is of little use to the class token after it. What the
# class token needs is its own choice among the favoured modality's tokens, and that is what the average over them takes away.
#
# ## What to conclude, and what not
#
# - **Supported: an encoder knows more than the fusion takes from it.** On all three sets the probe of the neglected modality is far above
#   what vanilla's fusion answers from it alone.
# - **Supported in part: a turn teaches the fusion to use the neglected modality.** With one layer the gain is clear on the digits and on
#   speech, with two layers on speech; of these, one layer on the digits and two layers on speech hold after Holm's correction. In CMU-MOSI six
#   seeds can't say; twelve can ({doc}`08_controls`).
# - **Not supported: that it makes the whole more accurate.** With all modalities at hand no difference is clear, in either depth.
# - **Supported: what is learned is not yet used.** The more a model can tell from vision alone, the more of it is lost when audio is noise and
#   attention goes on listening. RollingQ loses more than vanilla in this way on all three sets, modality dropout most.
# - **Not supported: that tokens need to know each other across modalities.** QUAG's unimodal and crossmodal averages cost nothing that
#   is clear, in any model. What costs is the average over the favoured modality: there the class token chooses.
# - **Not supported: that RollingQ changes what QUAG finds.** No difference from two layers trained one by one holds after correction.
# - **Not tested: the paper's models and data.** Its Tables 8 and 9 are of much deeper encoders on CREMA-D and Kinetics-Sounds.
#
# ## Exercises
#
# ```{exercise} By hand: a mask on a share
# :label: ex-masks-1
# A class token without a key of its own gives audio 0.8 in the mean over all samples, 0.5 on those of class A. Audio is masked. What
# does vision get in either case, and what happens to the length of the pooled vector if all visual values are the same vector?
# ```
#
# ```{solution} ex-masks-1
# :class: dropdown
# All of it, 1, in both. The pooled vector was 0.2 or 0.5 of that vector plus audio's part, and is now the whole vector: five times and
# twice the visual part that the head was trained on. A head with a bias does not answer the same for it.
# ```
#
# ```{exercise} By hand: one average more
# :label: ex-masks-2
# Take the matrix of four tokens above, and average audio's keys for all rows, then vision's. What does each row look like, and
# what does such attention still know?
# ```
#
# ```{solution} ex-masks-2
# :class: dropdown
# First row: 0.3, 0.3, 0.2, 0.2; second: 0.1, 0.1, 0.4, 0.4; third: 0.25 four times; fourth: 0.3, 0.3, 0.2, 0.2. Each row still knows how much
# each *modality* is worth to it, and nothing else.
# ```
#
# ```{exercise} Code: nothing to average
# :label: ex-masks-3
# What does QUAG do to uniform attention, and why? Check it on a model of one layer.
# ```
#
# ```{solution-start} ex-masks-3
# :class: dropdown
# ```

# %% tags=["nbval-check-output"]
even = train("uniform", run.data, seed=0)
told = quag(even.model, run.data.test)
print(
    "accuracy in %:",
    round(100 * told.accuracy),
    {name: round(100 * rate) for name, rate in told.average.items()},
)
assert set(told.average.values()) == {told.accuracy}

# %% [markdown]
# Nothing: its weights are their own mean already. An average can only take away what differs.
#
# ```{solution-end}
# ```
#
# ```{exercise} Code: where a mask bites
# :label: ex-masks-4
# A mask on the *inputs* is another thing than one on attention's keys. Set the test samples' audio to zero (the mean of the training data) with
# `NoisyDataset` and its mechanism `zeros` at level 1, and compare with audio masked out of attention.
# ```
#
# ```{solution-start} ex-masks-4
# :class: dropdown
# ```

# %% tags=["nbval-check-output"]
from rollingq_core.evaluation import NoisyDataset
from rollingq_core.models.predictions import predict

gone = NoisyDataset(run.data.test, "audio", 1.0, mechanism="zeros")
answers = predict(run.model, gone)
print("audio's share when it is zero:", f"{float(answers.share[:, 0].mean()):.2f}")
print("accuracy in %: zero", round(100 * answers.accuracy), end=", ")
print(
    "masked", round(100 * masked_accuracy(run.model, run.data.test).alone["visual"])
)

# %% [markdown]
# Zeros still make tokens: the encoder turns them into something, and attention goes on giving them most of its mass. A mask is what a
# model *could* do if attention knew that the sound is missing.
#
# ```{solution-end}
# ```
#
# ## Summary
#
# A mask takes a modality out of attention and gives its mass to the rest; QUAG keeps the mass and takes the choice.
# A trained fusion answers far less from the neglected modality than its encoder knows. A turn of the query raises that, and attention does not
# follow: under noise much of it stays unused. Of all averages only those over the favoured modality cost accuracy.
#
# ## Further reading
#
# Tables 8 and 9 of the paper {cite}`ni2025rollingq`; QUAG, and what it found in models that answer questions about videos
# {cite}`rawal2024dissecting`; Holm's correction {cite}`holm1979simple`.
