"""What an evaluation answers of CLAIM 2024 and TRIPOD+AI, item by item, and what it leaves open.

CLAIM 2024: Tejani et al., Radiology: Artificial Intelligence 2024;6:e240300, 44 items. TRIPOD+AI: Collins et al., BMJ
2024;385:e078378, 27 items with their parts. Topics are in our words; where both lists ask the same, they share a row.
"""

from bonexage_utils import __version__
from bonexage_utils.calibration import LEARNED_FROM
from bonexage_utils.cohort import UNKNOWN_SPLIT
from bonexage_utils.evaluation import Evaluation

Item = tuple[str, str, str, str | None]  # topic, numbers in CLAIM, numbers in TRIPOD+AI, answer or None


def checklist(evaluation: Evaluation | None, model: dict, calibrated: bool, stressed: bool) -> list[Item]:
    """Every item of both lists; the answer is None where nothing here gives it.

    `model` is the checkpoint's description, empty if it is not known.
    """
    measured, known = evaluation is not None, bool(model)
    mixed = measured and not {UNKNOWN_SPLIT, *LEARNED_FROM}.isdisjoint(evaluation.splits)
    needs_sex = known and model["model"]["use_sex"] and model.get("unknown_sex", "error") == "error"
    answers: list[Item] = [
        ("kind of study", "1, 4, 6", "1, 4", "a deep network that estimates bone age from a radiograph was developed"
         + " and evaluated" * measured + "; no hypothesis was set"),
        ("summary", "2", "2", "section Evaluation" if measured else None),
        ("intended use", "3, 41", "3b", "section Intended use"),
        ("reference, outcome", "14", "8a", "the bone age in the cohort's label table, months"),
        ("missing data", "12", "11", f"{evaluation.failed} films without a prediction and {evaluation.unlabelled} "
         "without a label were left out; none was filled in" if measured else None),
        ("partitions", "10, 19, 20", "12a", None if mixed else "by a salted hash of the film's id, official sets kept "
         "apart; disjoint by film, not known to be by child"),
        ("metrics and uncertainty", "28, 29", "12e", "MAE, RMSE, bias, limits of agreement, slopes; 95 % bootstrap "
         "intervals over films, t intervals for the limits" if measured else None),
        ("numbers and characteristics", "35, 36", "20a, 20b", "section Evaluation: number, sex and label; nothing else "
         "is known of the children" if measured else None),
        ("performance", "32, 37, 38", "14, 23a", "sections Evaluation and By sex and age" if measured else None),
        ("failure analysis", "39", "", "report.html shows the largest errors" if measured else None),
        ("class imbalance", "", "13", "nothing was done about it"),
        ("limits", "40", "26", "section Limits"),
        ("use", "", "27a, 27b", f"a film that cannot be read{' or whose sex is not given' * needs_sex} gets a reason "
         "instead of an age"),
        ("software", "23, 43", "18f", f"bonexage_utils {__version__}, MIT licence"),
        ("data", "7", "5a", "section Training data" if known else None),
        ("preprocessing, predictors", "9", "7, 9a, 9b, 12b", _preprocessing(model) if known else None),
        ("model", "22, 24, 27", "12c, 15, 22", "section Model; one network, its weights averaged over training; months "
         "as output" if known else None),
        ("training and selection", "25, 26", "12c, 21", _training(model) if known else None),
        ("how predictions were made", "", "12g", f"bonexage predict{' --tta' if model['tta'] else ''}"
         if known and measured else None),
        ("updating", "", "12f, 24", "intervals were added by conformal calibration; the predictions stayed as they "
         "were" if calibrated else None),
        ("robustness", "30", "", "section Stress" if stressed else None),
    ]
    return [*answers, *((topic, claim, tripod, None) for topic, claim, tripod in OPEN)]


# What no table of predictions tells; whoever publishes a model can.
OPEN = (
    ("prospective or retrospective", "5", ""), ("inclusion and exclusion", "8", "6b"),
    ("de-identification", "11", ""), ("acquisition of the films", "13", ""),
    ("why this reference; who set it, and that of the test set", "15, 16, 17", "8b, 8c"),
    ("variability of readers", "18", ""), ("sample size", "21", "10"), ("interpretability", "31", ""),
    ("films of another hospital", "33", ""), ("registration", "34", "18d"), ("protocol", "42", "18c"),
    ("funding and interests", "44", "18a, 18b"), ("healthcare context", "", "3a"), ("inequalities in health", "", "3c"),
    ("dates of the data", "", "5b"), ("setting", "", "6a"), ("treatments", "", "6c"),
    ("who measured the predictors", "", "9c"), ("differences between places or groups of children", "", "12d, 23b"),
    ("differences between training and evaluation films", "", "16, 20c"), ("ethics", "", "17"),
    ("sharing of the data", "", "18e"), ("involvement of patients and public", "", "19"),
    ("interpretation", "", "25"), ("what is needed next", "", "27c"),
)


def _preprocessing(model: dict) -> str:
    rules = model["preprocessing"]
    return (f"the film, 8-bit grey, letterboxed to {rules['image_size']} px, less its training films' mean "
            f"{rules['mean']:.3f} and over their deviation {rules['std']:.3f}"
            + ("; the sex" if model["model"]["use_sex"] else ""))


def _training(model: dict) -> str:
    config = model["training"]["config"]
    return (f"{config['epochs']} epochs, {config['batch_size'] * config['grad_accum']} films an update, AdamW with "
            f"peak learning rate {config['lr']}, loss {config['loss']}, seed {config['seed']}; the epoch best on the "
            "selection split")
