# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 12. Out of distribution
#
# **Recap.** {doc}`09_noise` asked what becomes of answers and confidence when a modality fails. All samples there were of classes that
# the model knows.
#
# **The question.** A model meets something that is none of its classes. It has to answer all the same; does it at least answer
# with less confidence? The paper's Table 10 says that RollingQ's does so more than vanilla's. We ask on three data sets, with four
# scores of confidence and two ways to read them, as results of this kind hang on both.
#
# You will learn
#
# - four scores of confidence, GEN among them, on probabilities that you can check with a pencil,
# - AUROC and FPR95, and why two papers can print different numbers for the same scores,
# - what *near* and *far* mean, and two kinds of outside that any multimodal data has,
# - whether a query that was turned is more careful.
#
# **What it takes.** A CPU and less than a minute. One small model is trained on the way; all others were trained before, and each record
# names its command.

# %% tags=["hide-cell"]
from importlib.util import find_spec

if find_spec("rollingq_core") is None:  # on Colab: install the book's package
    from IPython import get_ipython

    package = "rollingq-core[data,plots]"
    url = "https://github.com/rollingq-book/rollingq-book"
    get_ipython().run_line_magic("pip", f'install -q "{package} @ git+{url}"')

# %% [markdown]
# ## Scores of confidence
#
# From logits $z$ and probabilities $p = \mathrm{softmax}(z)$ there are many ways to say how sure a model is. Four of them:
#
# | score | formula | what it looks at |
# |---|---|---|
# | softmax | $\max_c p_c$ | the best class |
# | entropy | $\sum_c p_c \log p_c$ | all classes |
# | energy | $\log \sum_c e^{z_c}$ | how large the logits are, which the softmax forgets |
# | GEN | $-\sum_c p_c^{\gamma} (1 - p_c)^{\gamma}$ | all classes, small probabilities most |
#
# All are higher where a model is surer. GEN {cite}`liu2023gen` is the paper's, with $\gamma = 0.1$: at so small an exponent a class with
# probability 0.01 counts nearly as much as one with 0.4.

# %%
import torch

from rollingq_core.evaluation import generalised_entropy

several = torch.tensor(
    [[0.98, 0.01, 0.01], [0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [1 / 3, 1 / 3, 1 / 3]],
    dtype=torch.float64,
)

# %% tags=["nbval-check-output"]
for row, score in zip(several, generalised_entropy(several), strict=True):
    print([round(p, 2) for p in row.tolist()], f"GEN {score:.4f}")
one = -3 * ((1 / 3) * (2 / 3)) ** 0.1  # the last row, with a pencil
assert abs(float(generalised_entropy(several)[-1]) - one) < 1e-12

# %% [markdown]
# ## AUROC and two FPR95
#
# Five samples of known classes have the scores 5, 4, 3, 2, 1, four others 3.5, 0.5, 0 and −1.
#
# - **AUROC** is the chance that a known sample scores above another one. Of the $5 \cdot 4$ pairs 17 are in order: 0.85.
# - **FPR95** is an error at a threshold, and there are two of them. Let through 95 % of what is *known*: all five, down to 1. Then one of four
#   others gets in: 0.25. That is how the number is mostly defined. Or catch 95 % of what is *outside*: all four, up to 3.5. Then three of five
#   known samples are taken for outsiders: 0.6. That is what the code of the benchmark that the paper uses has {cite}`dong2024multiood`.

# %%
from rollingq_core.evaluation import separation

inside = torch.tensor([5.0, 4, 3, 2, 1])
outside = torch.tensor([3.5, 0.5, 0, -1])

# %% tags=["nbval-check-output"]
told = separation(inside, outside)
print(f"AUROC {told.auroc:.2f}")
print(f"outsiders let in, where 95 % of the known pass: {told.accepted:.2f}")
print(f"known refused, where 95 % of outsiders are caught: {told.flagged:.2f}")
in_order = sum(float(i > o) for i in inside for o in outside)
assert in_order / 20 == round(told.auroc, 4)

# %% [markdown]
# Neither is wrong. But they are different questions, and a column that says "FPR95" has to say which. This book prints AUROC first, which
# has no threshold, and both rates beside it.
#
# ## What lies outside
#
# - **Near**: the digits 0 to 6 are known, 7, 8 and 9 are not. Sound and picture are of the same kinds, only the class is new.
# - **Far**: a tone, a chirp or clicks, with a patch of a photograph.
# - **Mismatched**: a picture with the sound of another class. Each modality alone is a known one; together they are nothing. No model of a
#   single modality could notice.
# - **Noise**: both modalities are noise.
#
# The last two can be made of any data. In CMU-MOSI, where there is no third opinion to leave out, they are all there is.

# %%
from rollingq_core.data import load_dataset
from rollingq_core.runs import train

data = load_dataset("digits-seven", seed=0)
run = train("mt", data, setting="P", seed=0)

# %% tags=["nbval-check-output"]
print("known classes:", *data.classes)
sizes = {kind: len(samples) for kind, samples in data.test.outside.items()}
print("test samples:", len(data.test), "| outside:", sizes)
assert set(data.test.labels.tolist()) == set(range(7))
