"""The GPU's benchmark, with tiny values on a processor: every part gives rows, and what is there is not done again."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tools.benchmarks import gpu

TINY = ["--backbone", "test_convnext", "--size", "64", "--batch", "4", "--films", "60", "--rounds", "3"]


@pytest.mark.slow
def test_every_part_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.main([*TINY, "--out", str(tmp_path)])
    table = pd.read_csv(tmp_path / "gpu.csv")
    assert set(table["part"]) == set(gpu.PARTS)
    assert np.isfinite(table["value"]).all()
    assert (table.loc[table["part"] != "judged", "value"] > 0).all()
    rates, hours = (table[table["part"] == part]["value"].to_numpy() for part in ("films", "hours"))
    films = (14236 - 200 - 1425) * 0.92
    assert hours == pytest.approx(35 * films / rates / 3600, rel=1e-4)

    last = table["part"] == "hours"
    table[~last].to_csv(tmp_path / "gpu.csv", index=False)  # as if it had been cut off
    for part in ("step_rows", "memory_rows", "film_rows", "judged_rows"):
        monkeypatch.setattr(gpu, part, None)
    gpu.main([*TINY, "--out", str(tmp_path)])
    pd.testing.assert_series_equal(pd.read_csv(tmp_path / "gpu.csv")["value"], table["value"])
