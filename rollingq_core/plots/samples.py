"""Figures of the data itself: what the model is given."""

from matplotlib.figure import Figure

from rollingq_core.data.dataset import DataSplits
from rollingq_core.plots.style import COLOURS, figure


def sample_pairs(data: DataSplits, indices: list[int], title: str) -> Figure:
    """Draw training pairs: log-mel spectrograms above pictures, cut into tokens.

    Parameters
    ----------
    data
        A dataset of grids.
    indices
        Training samples to draw.
    title
        The finding.
    """
    assert data.patch is not None  # as there are grids
    with figure(2, len(indices), 3.6, squeeze=False) as (made, axes):
        for column, index in enumerate(indices):
            inputs, label = data.train[index]
            for row, (name, cmap) in enumerate((("audio", "inferno"), ("visual", "gray_r"))):
                axis, grid = axes[row, column], inputs[name][0].numpy()
                axis.imshow(grid, cmap=cmap, aspect="auto", origin="lower" if row == 0 else "upper")
                height, width = data.patch[name]
                for x in range(width, grid.shape[1], width):
                    axis.axvline(x - 0.5, color=COLOURS[name], linewidth=0.8)
                for y in range(height, grid.shape[0], height):
                    axis.axhline(y - 0.5, color=COLOURS[name], linewidth=0.8)
                axis.set(xticks=[], yticks=[])
            axes[0, column].set_title(f"“{data.classes[int(label)]}”")
        axes[0, 0].set_ylabel("audio: mel bands")
        axes[1, 0].set_ylabel("visual: pixels")
        made.suptitle(title, fontsize=11)
    return made
