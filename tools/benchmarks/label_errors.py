"""Wrong labels, planted and looked for; and what the audit finds of films that lie otherwise than the rest.

    python -m tools.benchmarks.label_errors DATA --out errors.csv

Spoils 5 % of the labels of the cohort in DATA (in memory; the folder is left alone): a third shifted by 36 to 72
months, a third exchanged between two children, a third with the other sex. Trains a small network on all folds but one
in turn, so that every film is judged by a network that has not seen its label, spoilt labels among those it learnt
from; or takes --checkpoint, a network trained on the whole labels of the same cohort, to the films it has not seen.
Then ranks the films, and prints precision and recall of `suspects` and of plainer rankings, with 95 % Wilson intervals.
With a phantom's ground_truth.csv it also compares the audit's inverted, mirrored and rotated films with the truth.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from bonexage_utils.batches import film_key
from bonexage_utils.checks.audit import audit
from bonexage_utils.cohort import SPLITS, Cohort, load_cohort
from bonexage_utils.evaluation import median_by_sex, score
from bonexage_utils.prediction import Predictor
from bonexage_utils.settings import TrainConfig
from bonexage_utils.training import train
from tools.benchmarks.suspects import SUSPECT_Z, rank_suspects

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data", type=Path)
parser.add_argument("--share", type=float, default=0.05)
parser.add_argument("--folds", type=int, default=3)
parser.add_argument("--backbone", default="test_resnet")
parser.add_argument("--image-size", type=int, default=96)
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--lr", type=float, default=2e-3)
parser.add_argument("--checkpoint", help="judge the test and calibration films with this network instead")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, help="a CSV of all films, the most suspect first")
args = parser.parse_args()


def plant(table: pd.DataFrame, share: float, rng: np.random.Generator) -> pd.DataFrame:
    """The table with `share` of its labels spoilt; `planted` says how, `true_months` and `true_sex` what they were."""
    table = table.assign(planted="", true_months=table["months"], true_sex=table["sex"])
    each = round(share * len(table) / 3) // 2 * 2  # an even number, for the exchange
    shifted, exchanged, other_sex = rng.permutation(len(table))[: 3 * each].reshape(3, each)
    for kind, rows in (("shifted", shifted), ("exchanged", exchanged), ("other sex", other_sex)):
        table.loc[rows, "planted"] = kind
    old = table.loc[shifted, "months"].to_numpy()
    step = rng.uniform(36, 72, each).round() * np.where(rng.random(each) < 0.5, -1, 1)
    table.loc[shifted, "months"] = np.where((old + step < 1) | (old + step > 228), old - step, old + step)
    one, other = exchanged.reshape(2, -1)
    for name in ("months", "sex"):
        values = table[name].to_numpy(copy=True)
        values[one], values[other] = table[name].to_numpy()[other], table[name].to_numpy()[one]
        table[name] = values
    table.loc[other_sex, "sex"] = table.loc[other_sex, "sex"].map({"M": "F", "F": "M"})
    return table


def cross_fitted(cohort: Cohort, folder: str) -> pd.Series:
    """Months for every film, by a network that has not seen its label."""
    predicted = pd.Series(np.nan, index=cohort.table.index)
    keys = np.array([film_key(film) for film in cohort.table["id"]])
    for fold in range(args.folds):
        split = np.where(keys % args.folds == fold, "test", np.where(keys // args.folds % 10, "train", "selection"))
        config = TrainConfig(backbone=args.backbone, image_size=args.image_size, epochs=args.epochs, lr=args.lr,
                             batch_size=32, grad_accum=1, weights="none", seed=args.seed)
        best = train(replace(cohort, table=cohort.table.assign(split=split)), Path(folder) / str(fold), config)
        judged = cohort.table[split == "test"]
        predicted[judged.index] = Predictor(best).predict(judged, batch_size=64)["bone_age_months"].to_numpy()
    return predicted


def share(hits: int, of: int) -> str:
    low, high = binomtest(hits, of).proportion_ci(method="wilson") if of else (np.nan, np.nan)
    return f"{hits:>4} of {of:>4} = {hits / max(of, 1):.2f} [{low:.2f}, {high:.2f}]"


def report(films: pd.DataFrame, medians: dict[str, float]) -> None:
    planted = films["planted"].ne("").to_numpy()
    count = int(planted.sum())
    print(f"\n{count} of {len(films):,} labels spoilt; the first {count} of each ranking hold, spoilt (precision there "
          "is recall):")
    rankings = {"robust z": films["z"].abs(), "|error|": films["error"].abs(),
                "|label − median of sex|": (films["months"] - films["sex"].map(medians)).abs()}
    for name, values in rankings.items():
        first = np.argsort(-values.to_numpy(), kind="stable")
        print(f"  {name:<24} {share(int(planted[first[:count]].sum()), count)}; "
              f"the first {2 * count}: {share(int(planted[first[:2 * count]].sum()), count)}")
    chance = count / len(films)
    print(f"  {'any order (expected)':<24} {chance:.2f}; the first {2 * count}: {2 * chance:.2f}")
    called = films["suspect"].to_numpy()
    print(f"|z| > {SUSPECT_Z}: precision {share(int((planted & called).sum()), int(called.sum()))}, "
          f"recall {share(int((planted & called).sum()), count)}")
    for kind, part in films[planted].groupby("planted"):
        print(f"  recall of {kind:<12} {share(int(part['suspect'].sum()), len(part))}")
    moved = (films["months"] - films["true_months"]).abs()
    far = (films["planted"] == "exchanged") & (moved >= 36)
    print("  recall of exchanged labels that are 36 months apart or more "
          f"{share(int(films['suspect'][far].sum()), int(far.sum()))}")


def report_odd_films(cohort: Cohort, films: pd.DataFrame) -> None:
    findings = audit(cohort)
    false = films[films["suspect"] & films["planted"].eq("")]
    odd = findings[findings["finding"].isin(["inverted", "mirrored", "rotated"])].set_index("id")["finding"]
    print(f"\n{len(false)} suspects were not spoilt; the audit calls {false['id'].isin(odd.index).sum()} of them odd "
          f"({len(odd)} of all {len(films):,} films)")
    if not (cohort.root / "ground_truth.csv").is_file():
        return
    truth = pd.read_csv(cohort.root / "ground_truth.csv", dtype={"id": str}, index_col="id",
                        usecols=["id", "flipped", "right_hand", "quarter_turns", "inverted"])
    truth["mirrored"] = truth["flipped"] ^ truth["right_hand"]
    truth["rotated"] = truth["quarter_turns"] > 0
    for name in ("inverted", "mirrored", "rotated"):
        really, called = set(truth.index[truth[name].astype(bool)]), set(odd.index[odd == name])
        print(f"audit, {name}: precision {share(len(really & called), len(called))}, "
              f"recall {share(len(really & called), len(really))}")
        spoilt = films[films["id"].isin(really) & films["planted"].eq("")]
        print(f"  MAE on them {score(spoilt['predicted'].to_numpy(), spoilt['months'].to_numpy()).mae}")


cohort = load_cohort(args.data)
unseen = cohort.table["split"].isin(["test", "calibration"] if args.checkpoint else SPLITS)
labelled = cohort.table[cohort.table["months"].notna() & unseen].reset_index(drop=True)
spoilt = plant(labelled, args.share, np.random.default_rng(args.seed))
if args.checkpoint:
    predicted = Predictor(args.checkpoint).predict(spoilt, batch_size=64)["bone_age_months"]
else:
    with tempfile.TemporaryDirectory() as folder:
        predicted = cross_fitted(replace(cohort, table=spoilt), folder)
films = rank_suspects(spoilt.drop(columns="split").assign(predicted=predicted))
print(f"MAE against the true labels {score(films['predicted'].to_numpy(), films['true_months'].to_numpy()).mae} months")
report(films, median_by_sex(spoilt))
report_odd_films(cohort, films)
if args.out:
    films.drop(columns="image").to_csv(args.out, index=False)
