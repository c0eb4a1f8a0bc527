"""Tables made up for more than one file of tests."""

import numpy as np
import pandas as pd

# Labels at every sixth month of girls and boys.
LABELS = pd.DataFrame({"sex": list("FM") * 30, "months": np.repeat(np.arange(12.0, 192.0, 6.0), 2)})


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions of 100 films, and the labels of these and of 100 in training."""
    rng = np.random.default_rng(0)
    truth = pd.DataFrame({"id": [str(i) for i in range(200)], "months": rng.uniform(1, 230, 200),
                          "sex": ["F", "M"] * 100, "split": ["train"] * 100 + ["calibration"] * 100})
    part = truth.iloc[100:]
    predictions = pd.DataFrame({"id": part["id"], "bone_age_months": part["months"] + rng.normal(0, 9, 100)})
    return predictions.reset_index(drop=True), truth
