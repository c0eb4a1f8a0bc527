"""A checkpoint made ready for others: weights, model card, settings and digests in one folder."""

import json
import re
import shutil
from pathlib import Path

from bonexage_utils.calibration import Calibration
from bonexage_utils.checkpoints import load_model
from bonexage_utils.description import PROVENANCE, check_description
from bonexage_utils.errors import BoneXageError
from bonexage_utils.files import atomic_folder, file_hash, only_writer
from bonexage_utils.report.page import NOT_TEXT, card_facts, render, write_text

MODEL, CARD, CONFIG, SUMS = "model.safetensors", "README.md", "config.json", "SHA256SUMS"
LICENSE = re.compile(r"0bsd|[a-z][a-z0-9.+-]{0,40}")  # as hubs name them: mit, apache-2.0, cc-by-nc-4.0
LICENSE_LINE = re.compile(r"^license[ \t]*:.*(?:\n(?:[ \t]|-[ \t]).*)*", re.MULTILINE)  # with those of a list under it


def publish(checkpoint: Path | str, out: Path | str, report: Path | str | None = None,
            license: str | None = None) -> Path:
    """Write `out`, a new folder that a model hub takes as it is, and try that its copy of the checkpoint loads.

    `README.md` is the model card of `report`, a folder that `write_report` wrote for this network, with what was
    changed there since; without one, a card that tells the model and no error. `config.json` repeats the settings for
    people, `SHA256SUMS` is for `sha256sum -c`. `license` is a hub's name for one, or stays open.

    Raises BoneXageError for an unusable checkpoint, a report that is none, of another network or of other intervals
    than the checkpoint's, a folder that is there already or in the making, or a name that is no license's.
    """
    checkpoint, out = Path(checkpoint), Path(out)
    if license is not None and (not LICENSE.fullmatch(license) or NOT_TEXT.fullmatch(license)):
        raise BoneXageError(f"--license {license}: give a hub's name for it, such as mit, apache-2.0 or other")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BoneXageError(f"{out}: is there already; name a new folder")
    _, _, description = load_model(checkpoint)
    card = _card_of_report(Path(report), description) if report else _card(checkpoint, description)
    if license:
        head, end, text = card.removeprefix("---\n").partition("\n---\n")
        card = f"---\nlicense: {license}\n{LICENSE_LINE.sub('', head).lstrip()}{end}{text}"
    with only_writer(out), atomic_folder(out) as folder:
        shutil.copyfile(checkpoint, folder / MODEL)
        write_text(folder / CARD, card)
        (folder / CONFIG).write_text(json.dumps({"library_name": "bonexage", **description}, indent=2) + "\n",
                                     encoding="utf-8")
        sums = {name: file_hash(folder / name) for name in (MODEL, CARD, CONFIG)}
        (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()), encoding="ascii")
        if load_model(folder / MODEL)[2] != description:  # replaced while it was copied
            raise BoneXageError(f"{checkpoint}: changed while it was copied; try again when nothing writes there")
    return out


def _card(checkpoint: Path, description: dict) -> str:
    calibration = Calibration.from_description(description)
    told = {**description, "sha256": file_hash(checkpoint), "tta": bool(calibration and calibration.tta)}
    try:
        check_description(told, PROVENANCE)
    except BoneXageError as error:
        raise BoneXageError(f"{checkpoint}: too little for a card ({error}); publish one written by 'bonexage train'") \
            from None
    return render("model_card.md", card_facts(told, calibration))


def _card_of_report(report: Path, description: dict) -> str:
    network = description["network_sha256"]
    try:
        measured = json.loads((report / "metrics.json").read_text(encoding="utf-8"))
        of_network, intervals = measured["network_sha256"], measured["calibration"]
        card = (report / "model_card.md").read_text(encoding="utf-8-sig")  # an editor may have put a mark before it
        if not re.match(r"---\n(.*\n)*?---\n", card):
            raise ValueError("its model card has no head")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BoneXageError(f"{report}: no usable report ({error}); make it with 'bonexage evaluate'") from None
    if of_network != network:
        raise BoneXageError(f"{report}: tells of another network, or of predictions without their JSON file; evaluate "
                            "this one's")
    if network not in card:  # an evaluation that was killed leaves the card of an earlier one
        raise BoneXageError(f"{report}: its model_card.md does not name this network; evaluate again")
    if intervals != description["calibration"]:
        raise BoneXageError(f"{report}: tells of other intervals than the checkpoint has now, or of none; predict and "
                            "evaluate again")
    return card
