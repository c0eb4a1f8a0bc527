"""A final presentation of a workshop, filled from the files that a run and its report left."""

import json
import math
from pathlib import Path

import pandas as pd
from jinja2 import Environment, StrictUndefined

from bonexage_utils.checkpoints import load_model
from bonexage_utils.errors import BoneXageError
from bonexage_utils.files import atomic_file
from bonexage_utils.report.tables import STRESS_COLUMNS, markdown
from bonexage_utils.statistics import SMALLEST_GROUP, Interval

TEMPLATE = Path(__file__).with_name("workshop_report.md")
WORST = 5  # conditions of the stress test


def final_report(run: Path, report: Path, title: str = "Our bone-age model") -> Path:
    """Write `report`/workshop_report.md from a run's config.json, log.csv and model, and a report's metrics.json,
    groups.csv and, where they are, stress.csv and coverage.csv; returns its path.

    Raises BoneXageError naming what is missing or of another network.
    """
    config, metrics = (_json(folder / name) for folder, name in ((run, "config.json"), (report, "metrics.json")))
    log, groups = _table(run / "log.csv"), _table(report / "groups.csv")
    described = load_model(run / "model.safetensors")[2]
    trained = described["training"]
    stress = _worst_stress(report, described["network_sha256"])
    environment = Environment(undefined=StrictUndefined, trim_blocks=True)
    environment.filters["markdown"] = markdown
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=title, films=_films(trained, metrics), hashes=config["label_hashes"],
        medians=", ".join(f"{'girls' if sex == 'F' else 'boys'} {months:.0f} months"
                          for sex, months in trained["median_months_by_sex"].items()),
        recipe=_recipe(config, trained), training=_training(log), result=_result(metrics),
        groups=_groups(groups), smallest=SMALLEST_GROUP, stress=stress, intervals=_intervals(described, report),
        network=described["network_sha256"][:12])
    with atomic_file(report / "workshop_report.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return report / "workshop_report.md"


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BoneXageError(f"{path}: not usable ({error}); train, predict and evaluate first") from None


def _table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise BoneXageError(f"{path}: not usable ({error}); train, predict and evaluate first") from None


def _column(rows: dict[str, object], name: str = "value") -> pd.DataFrame:
    return pd.DataFrame({name: {key: str(value) for key, value in rows.items()}})


def _films(trained: dict, metrics: dict) -> pd.DataFrame:
    return _column({"cohort": trained["cohort"], "films trained on": f"{trained['films']:,}"}
                   | {f"films reported on, {split}": f"{n:,}" for split, n in metrics["films_by_split"].items()}
                   | {"without a prediction": metrics["failed"]})


def _recipe(config: dict, trained: dict) -> pd.DataFrame:
    return _column({
        "backbone": f"{config['backbone']}, {trained['parameters']:,} numbers in all",
        "starting weights": config["weights"], "side of the film, px": config["image_size"],
        "pooling": config["pooling"], "told the sex": "yes" if config["sex"] else "no", "output": config["output"],
        "films an update": config["batch_size"] * config["grad_accum"], "peak learning rate": config["lr"],
        "epochs": config["epochs"], "precision": config["precision_used"], "device": config["device"],
        "seed": config["seed"]})


def _training(log: pd.DataFrame) -> pd.DataFrame:
    best = log.loc[log["selection_mae_months"].idxmin()]
    return _column({
        "epochs done": len(log), "minutes in the epochs": f"{log['seconds'].sum() / 60:.1f}",
        "films a second": f"{log['films_per_second'].median():.0f}",
        "epoch kept": f"{best['epoch']:.0f}, chosen by the selection films",
        "MAE there, months": f"{best['selection_mae_months']:.2f} (optimistic: it did the choosing)"})


def _result(metrics: dict) -> pd.DataFrame:
    def interval(found: dict) -> str:
        return str(Interval(*(math.nan if found[name] is None else found[name] for name in ("value", "low", "high"))))

    def limit(found: dict) -> str:
        return "–" if found["value"] is None else f"{found['value']:.0f}"

    scores, rows = metrics["scores"], {}
    rows["films"] = f"{scores['n']:,}"
    rows["MAE, months [95 % interval]"] = interval(scores["mae"])
    if metrics["baseline"]:
        rows["median by sex: MAE"] = interval(metrics["baseline"]["mae"])
    rows["bias, months [95 % interval]"] = interval(scores["bias"])
    rows |= {f"within {limit} months": f"{share:.0%}" for limit, share in scores["within"].items()}
    rows["limits of agreement, months"] = (f"{limit(metrics['agreement']['lower'])} to "
                                           f"{limit(metrics['agreement']['upper'])}")
    if metrics["noise_floor_months"] is not None:
        label_error = "labels of these phantoms are off by, months (a reader's habit included)"
        rows[label_error] = f"{metrics['noise_floor_months']:.2f}"
    return _column(rows)


def _groups(groups: pd.DataFrame) -> pd.DataFrame:
    shown = groups[(groups["sex"] == "all") | (groups["age"] != "all")]
    return pd.DataFrame({
        "sex": shown["sex"], "age": shown["age"], "n": shown["n"],
        "MAE, months [95 % interval]": [f"{row.mae:.1f} [{row.low:.1f}, {row.high:.1f}]" if pd.notna(row.mae) else "–"
                                        for row in shown.itertuples()]})


def _worst_stress(report: Path, network: str) -> pd.DataFrame | None:
    if not (report / "stress.csv").is_file():
        return None
    facts = _json(report / "stress.json")
    if facts["network_sha256"] != network:
        raise BoneXageError(f"{report / 'stress.csv'}: of another network; run 'bonexage stress' again")
    table = _table(report / "stress.csv")[STRESS_COLUMNS].nlargest(WORST, "mae_change")
    return pd.DataFrame({
        "change": table["perturbation"], "strength": table["strength"],
        "MAE grows by, months [95 % interval]": [f"{row.mae_change:+.1f} [{row.low:+.1f}, {row.high:+.1f}]"
                                                 for row in table.itertuples()],
        "answers moved by more than a year": table["share_significant"].map("{:.0%}".format)})


def _intervals(described: dict, report: Path) -> str:
    calibration = described["calibration"]
    if not calibration:
        return "The checkpoint has no intervals: calibrate it with `bonexage evaluate … --calibrate`."
    text = (f"Intervals that are to hold {calibration['coverage']:.0%} of labels, learned from "
            f"{calibration['films']:,} films.")
    path = report / "coverage.csv"
    if not path.is_file():
        return text + " Whether they hold was not measured."
    whole = _table(path).iloc[-1]
    if pd.isna(whole["coverage"]):
        return text + f" Measured on {whole['n']} films: too few to speak."
    return text + (f" Measured on {whole['n']:.0f} films: {whole['coverage']:.0%} [{whole['low']:.0%}, "
                   f"{whole['high']:.0%}] inside, {whole['width']:.0f} months wide on average.")
