"""How one wrong label changes the best constant prediction under each loss."""

import numpy as np

from bonexage_utils.course.sliders import Slider, slider
from bonexage_utils.figures import ACCENT, MUTED, SEX_COLOUR, Picture, new_figure

LOSSES = ("L2", "L1", "Huber")
HUBER_TURN = 12.0  # months: where `age_loss` turns from squared to absolute
HONEST_LABELS = (108.0, 114.0, 117.0, 123.0, 126.0, 132.0)  # months, about 120
FARTHEST_SLIP, TWIN_SLIPS = 96, (0, 36, 96)  # months
LOSS_STYLE = {"L2": (ACCENT, "-"), "L1": (SEX_COLOUR["M"], "--"), "Huber": ("black", ":")}


def best_guess(labels: np.ndarray, loss: str) -> np.ndarray:
    """The constant that minimises the mean loss over the last axis of `labels`, months (…, n) to (…).

    For L2 it is the mean, for L1 the median. For Huber there is no formula: starting at the median, the guess moves by
    the mean of its distances to the labels, each clipped to HUBER_TURN, a hundred times.
    """
    labels = np.asarray(labels, float)
    if loss == "L2":
        return labels.mean(-1)
    guess = np.median(labels, axis=-1)
    if loss == "Huber":
        for _ in range(100):
            guess = guess + np.clip(labels - guess[..., None], -HUBER_TURN, HUBER_TURN).mean(-1)
    return guess


def draw_slips(slips: tuple[float, ...] = TWIN_SLIPS) -> Picture:
    """Seven labels of one hand in a row each, the last wrong by that slip (months), and the best guess of each loss."""
    figure, axes = new_figure(7, 0.9 + 0.75 * len(slips), len(slips), 1, sharex=True, squeeze=False)
    parts = []
    for ax, slip in zip(axes[:, 0], slips, strict=True):
        labels = np.array([*HONEST_LABELS, 120.0 + slip])
        ax.plot(labels[:-1], np.zeros(len(labels) - 1), "o", color=MUTED, markersize=5)
        ax.plot(labels[-1], 0, "X", color=MUTED, markersize=9)
        guesses = {loss: float(best_guess(labels, loss)) for loss in LOSSES}
        for loss, guess in guesses.items():
            colour, line = LOSS_STYLE[loss]
            ax.axvline(guess, color=colour, linestyle=line, linewidth=2, label=loss)
        ax.set(yticks=[], xlim=(100, 126 + FARTHEST_SLIP))
        ax.set_ylabel(f"a slip of\n{slip:g} months", rotation=0, ha="right", va="center")
        parts.append(f"slip {slip:g}: " + ", ".join(f"{loss} {guess:.1f}" for loss, guess in guesses.items()))
    axes[-1, 0].set_xlabel("label (months)")
    axes[0, 0].legend(ncols=3, loc="upper right", fontsize=9)
    return Picture(figure, f"""Seven labels of one hand on a line in months, grey; the cross is the label that slipped.
        Three vertical lines: the best single guess under each loss. {'; '.join(parts)}.""")


def slip_a_label() -> Slider:
    """A slider over the slip of one label and the row of `draw_slips`."""
    return slider(lambda slip: draw_slips((slip,)), range(0, FARTHEST_SLIP + 1, 6), 36, "slip, months")
