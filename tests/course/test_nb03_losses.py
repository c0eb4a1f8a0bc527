"""The best constant under each loss, against hand-worked cases."""

import numpy as np
import pytest

from bonexage_utils.course.nb03 import losses


@pytest.mark.parametrize(("loss", "guess"), [("L2", 36.0), ("L1", 12.0), ("Huber", 18.0)])
def test_the_best_guess_is_the_one_worked_by_hand(loss: str, guess: float) -> None:
    """Huber: at 18 the two outer labels pull with the clipped 12 months, up and down, and 12 and 24 with 6 each."""
    labels = {"L2": [0, 12, 24, 108], "L1": [0, 12, 108], "Huber": [0, 12, 24, 108]}[loss]
    assert losses.best_guess(np.array(labels), loss) == pytest.approx(guess)
    assert losses.best_guess(np.array([labels, labels]), loss) == pytest.approx([guess, guess])


def test_one_slip_moves_the_mean_by_a_seventh_of_it_and_the_median_no_further_than_the_next_label() -> None:
    honest, slipped = np.array([*losses.HONEST_LABELS, 120.0]), np.array([*losses.HONEST_LABELS, 216.0])
    moved = {loss: losses.best_guess(slipped, loss) - losses.best_guess(honest, loss) for loss in losses.LOSSES}
    assert moved["L2"] == pytest.approx(96 / 7)
    assert moved["L1"] == pytest.approx(3)  # from 120 to 123
    assert moved["Huber"] == pytest.approx(2.4)  # to 122.4: −12 − 8.4 − 5.4 + 0.6 + 3.6 + 9.6 + 12 = 0
    assert "slip 96: L2 133.7, L1 123.0, Huber 122.4" in losses.draw_slips((96,)).alt
