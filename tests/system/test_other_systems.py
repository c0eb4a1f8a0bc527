"""What Windows and macOS do otherwise, as far as it can be had here; CONTRIBUTING.md has the table."""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from commands import bonexage
from conftest import ROOT

from bonexage_utils.cohort import Cohort
from bonexage_utils.files import atomic_file, atomic_folder

OWN = [*sorted((ROOT / "bonexage_utils").rglob("*.py")), *sorted((ROOT / "tools").glob("*.py"))]
TRAIN = ["--backbone", "test_convnext", "--image-size", 64, "--epochs", 2, "--batch-size", 8, "--grad-accum", 1,
         "--weights", "none", "--precision", "fp32", "--workers", 0]


# --- files that are open cannot be moved, replaced or removed ---

def held() -> set[str]:
    """The files that this process has open or mapped."""
    handles = {os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape")
    return {name for name in handles | set(re.findall(r" (/.*)$", maps, re.MULTILINE)) if os.path.isfile(name)}


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open files are in the way, and some of POSIX is not there."""
    if not Path("/proc/self/maps").is_file():
        pytest.skip("what is open is read from Linux's /proc")

    def guarded(really):
        def call(*paths, **settings):
            base = os.readlink(f"/proc/self/fd/{settings['dir_fd']}") if settings.get("dir_fd") else os.getcwd()
            for path in paths:
                place = os.path.realpath(os.path.join(base, path))
                for name in held():
                    if name == place or name.startswith(place + os.sep):
                        raise PermissionError(13, "The process cannot access the file, it is being used", str(path))
            return really(*paths, **settings)
        return call

    for name in ("replace", "rename", "unlink", "remove"):
        monkeypatch.setattr(os, name, guarded(getattr(os, name)))
    monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.delattr(signal, "SIGHUP")


@pytest.mark.usefixtures("windows")
def test_the_stand_in_refuses_as_windows_does(tmp_path: Path) -> None:
    """Else the tests below would show nothing."""
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "file", tmp_path / "folder" / "file"):
        place.write_text("old", encoding="utf-8")
        with open(place, encoding="utf-8"), pytest.raises(PermissionError), atomic_file(place) as temporary:
            temporary.write_text("new", encoding="utf-8")
        assert place.read_text(encoding="utf-8") == "old"
    with open(tmp_path / "folder" / "file", encoding="utf-8"), pytest.raises(PermissionError):
        os.rename(tmp_path / "folder", tmp_path / "moved")
    with pytest.raises(PermissionError), atomic_folder(tmp_path / "new") as temporary:
        kept = open(temporary / "file", "w", encoding="utf-8")  # noqa: SIM115
    kept.close()
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("windows")
def test_no_command_moves_or_removes_what_it_has_open(cohort: Cohort, tmp_path: Path) -> None:
    """Each twice, so that what the first has written is read, and replaced, by the second."""
    data, model = cohort.root, "run/model.safetensors"
    for words in (
        ("train", data, "--out", "run", *TRAIN, "--resume"),
        ("check", data, "--out", "found"),
        ("predict", model, data, "--split", "calibration", "--out", "p.csv"),
        ("evaluate", "p.csv", data, "--out", "report", "--calibrate", model, "--coverage", 0.5),
        ("stress", model, data, "--out", "report"),
        ("export", model, "--out", "model.onnx"),
    ):
        for _ in range(2):
            done = bonexage(*words, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "run")


# --- streams, encodings, names ---

# Each in the same process: torch is loaded once.
COMMANDS = """
import sys
from bonexage_utils import __main__
for line in sys.stdin.read().splitlines():
    sys.argv = ["bonexage", *line.split("|")]
    try:
        __main__.main()
    except SystemExit as end:
        print("status", end.code or 0, line, flush=True)
"""


@pytest.mark.slow
def test_every_command_with_cp1252_streams_and_names_of_many_letters(tmp_path: Path) -> None:
    """And none opens a text without saying its encoding, which on Windows is not UTF-8."""
    folder = tmp_path / "Hände von Zoë 手"
    folder.mkdir()
    lines = ["phantom|d ä 手|--n|60|--workers|1", "check|d ä 手|--out|f ü",
             "|".join(["train", "d ä 手", "--out", "r ß", *map(str, TRAIN)]),
             "predict|r ß/model.safetensors|d ä 手|--out|p é.csv", "evaluate|p é.csv|d ä 手|--out|b ö",
             "stress|r ß/model.safetensors|d ä 手|--out|b ö", "export|r ß/model.safetensors|--out|m å.onnx",
             "card|r ß/model.safetensors|--license|mit|--out|c ñ"]
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-W", "always::EncodingWarning", "-c", COMMANDS], cwd=folder,
        input="\n".join(lines), capture_output=True, encoding="cp1252", errors="replace", check=False, timeout=600,
        env={**os.environ, "PYTHONIOENCODING": "cp1252", "BONEXAGE_CACHE": str(folder / "cache ø"),
             "PYTHONPATH": str(ROOT), "TQDM_DISABLE": ""})
    assert re.findall(r"^status (\d+)", done.stdout, re.MULTILINE) == ["0"] * len(lines), done.stdout + done.stderr
    ours = re.findall(r"^.*bonexage_utils[/\\].*EncodingWarning", done.stderr, re.MULTILINE)
    assert "EncodingWarning" in done.stderr  # of others: it is switched on
    assert not ours


def test_nothing_is_imported_that_only_posix_has() -> None:
    for path in OWN:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        assert not names & {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios"}, path


def test_every_name_in_the_checkout_can_be_one_on_windows_and_macos() -> None:
    """One letter case for each, no reserved word, no letter that Windows forbids."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    names = done.stdout.split("\0")[:-1]
    twice = [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]
    assert not twice
    forbidden = re.compile(r'[<>:"\\|?*\x00-\x1f]|[. ](/|$)|(^|/)(con|prn|aux|nul|com\d|lpt\d)(\.|/|$)', re.IGNORECASE)
    assert not [name for name in names if forbidden.search(name) or len(name) > 150]
    assert forbidden.search("data/aux.csv")
