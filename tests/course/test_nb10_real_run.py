"""The recorded run on real films: told and drawn as its rows say, of several the last; without rows it says so."""

from pathlib import Path

import pandas as pd
import pytest

from bonexage_utils.course.nb10.real_run import draw_run, last_run, tell_run

RUN = {"films": "rsna100", "backbone": "a_net", "weights": "phantom", "size_px": 128, "batch_size": 32, "lr": 1e-3,
       "seed": 0}


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "reference_runs"
    folder.mkdir(parents=True)
    ways = {"plain": (10.0, 0.0), "nine views": (9.5, -0.5), "graded: darker": (11.0, 1.0),
            "graded: paler": (12.0, 2.0)}
    both = {"mae_median_by_sex": 30.0, "trained_on": 9000, "measured_on": 1000, "minutes": 3.0, "hardware": "here",
            "commit": "abc", "torch": "2.9", "date": "2026-01-01", "bias": 0.1}
    rows = [RUN | both | {"epochs": epochs, "way": way, "mae": mae + worse, "low": mae + worse - 1,
                          "high": mae + worse + 1, "more_than_plain": more, "more_low": more - 0.2,
                          "more_high": more + 0.2}
            for epochs, worse in ((2, 5), (3, 0)) for way, (mae, more) in ways.items()]
    pd.DataFrame(rows).to_csv(folder / "headline.csv", index=False)
    log = [RUN | {"epochs": epochs, "epoch": epoch, "train_loss_years": 1.0, "train_mae_months": 20.0 - epoch,
                  "selection_mae_months": (14.0, 11.0, 12.5)[epoch - 1], "seconds": 60.0}
           for epochs in (2, 3) for epoch in range(1, epochs + 1)]
    pd.DataFrame(log).to_csv(folder / "headline_log.csv", index=False)
    return tmp_path


def test_the_last_run_is_told_with_its_choices_and_errors(recorded: Path) -> None:
    told = tell_run(recorded)
    assert "chosen: backbone a_net, weights phantom, size_px 128, epochs 3, batch_size 32, lr 0.001, seed 0" in told
    assert "learned from 9,000 films in 3 minutes; kept: epoch 2 of 3, 11.00 on the selection films" in told
    assert "on 1,000 calibration films 10.00 [9.00, 11.00]; the median by sex 30.0" in told
    assert "- nine views: 9.5, so -0.50 [-0.70, -0.30] more" in told
    assert "mean of the 2 graded ways: 1.15 times plain" in told
    assert told.endswith("here, commit abc, 2026-01-01")


def test_the_figure_says_which_epoch_is_kept(recorded: Path) -> None:
    told = draw_run(recorded).alt
    assert "3 epochs" in told
    assert "Training films, augmented: from 19.0 to 17.0" in told
    assert "from 14.0 to 12.5, lowest 11.0 in epoch 2, which is kept" in told
    assert "calibration films: 10.00 [9.00, 11.00]" in told


def test_what_was_not_measured_says_so(tmp_path: Path) -> None:
    assert tell_run(tmp_path) == "A run on real films: not yet measured."
    assert "not yet measured" in draw_run(tmp_path).alt
    assert all(table.empty for table in last_run(tmp_path))
