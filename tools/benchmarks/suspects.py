"""Which labels look wrong: films whose error is improbable for children of that sex and that prediction."""

import numpy as np
import pandas as pd

from bonexage_utils.cohort import UNKNOWN_SPLIT
from bonexage_utils.errors import BoneXageError

NEIGHBOURS = 101  # films that tell which errors are usual where a film lies
FEWEST = 40  # films of a sex: with fewer there is no telling what is usual
MAD_TO_SD = 1.4826  # the median absolute deviation of a normal distribution is 1/1.4826 of its standard deviation
LEAST_SD = 1.0  # months; labels are whole months, so no error is improbable for being under one
SUSPECT_Z = 3.5  # beyond it a value is called an outlier (Iglewicz & Hoaglin 1993, with median and MAD as here)
# How much it finds depends on the network. Of as many films as had their label spoilt (5 %), taken from the top, really
# spoilt were (label_errors.py): 23 % [16, 31] of 2,400 phantoms, by networks with an MAE of 19 months; 58 %
# [48, 67] of 2,093 RSNA films at 100 px, MAE 10. Films far from the median of their sex: 7 % and 8 %. The plain error
# ranks as well (20 % and 61 %): what z adds is a threshold. Another sex in the table is hardly ever found.


def rank_suspects(films: pd.DataFrame) -> pd.DataFrame:
    """`films`, the most suspect label first, with `error` (prediction − label, months), `z` and `suspect`.

    `films` has `sex` ("M" or "F"), `months` (label) and `predicted`, as `evaluation.Evaluation.films`. z is the error
    less the median error of the `NEIGHBOURS` films of the same sex with the nearest predictions, in robust standard
    deviations (from the median absolute deviation) of theirs. The prediction says what is near, because the label is
    what is doubted; median and deviation, because wrong labels would blow up mean and standard deviation. `suspect` is
    whether |z| is above `SUSPECT_Z`.

    The predictions have to be out of sample: a network that was trained on a wrong label has learnt some of it. Raises
    BoneXageError if the column `split` says it has, or where a sex has fewer than `FEWEST` films.
    """
    learned = films["split"].isin(["train", UNKNOWN_SPLIT]).sum() if "split" in films else 0
    if learned:
        raise BoneXageError(f"{learned:,} of these films are, or may be, in the training split: a "
                            "network repeats the labels it was trained on; judge films it has not seen, or cross-fit "
                            "(tools/benchmarks/label_errors.py)")
    films = films.assign(error=films["predicted"] - films["months"], z=np.nan)
    for sex, of_sex in films.groupby("sex"):
        if len(of_sex) < FEWEST:
            raise BoneXageError(f"{len(of_sex)} films of sex {sex}: too few to tell which errors are usual; "
                                f"it takes {FEWEST}")
        of_sex = of_sex.sort_values("predicted", kind="stable")
        errors, width = of_sex["error"].to_numpy(), min(NEIGHBOURS, len(of_sex))
        first = np.clip(np.arange(len(of_sex)) - width // 2, 0, len(of_sex) - width)
        near = errors[first[:, None] + np.arange(width)]
        middle = np.median(near, axis=1)
        spread = MAD_TO_SD * np.median(np.abs(near - middle[:, None]), axis=1)
        films.loc[of_sex.index, "z"] = (errors - middle) / np.maximum(spread, LEAST_SD)
    films["suspect"] = films["z"].abs() > SUSPECT_Z
    return films.sort_values("z", key=np.abs, ascending=False, kind="stable").reset_index(drop=True)
