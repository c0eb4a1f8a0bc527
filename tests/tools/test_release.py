"""A version and an address stand in many places; one command stamps them all."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

from bonexage_utils.errors import BoneXageError
from tools import pages, release
from tools.lint import lint_folder

HOME, VERSION = release.stamped(ROOT)


def known() -> list[str]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return done.stdout.splitlines()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this checkout, whose changelog tells of 9.8.7."""
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    for name in known():
        if Path(name).suffix in release.TEXTS | {".csv"}:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    changes = (tmp_path / "CHANGELOG.md").read_text(encoding="utf-8")
    (tmp_path / "CHANGELOG.md").write_text(changes.replace("\n## ", "\n## 9.8.7\n\n- New.\n\n## ", 1), encoding="utf-8")
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    return tmp_path


def test_a_stamped_checkout_names_one_version_and_one_address(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = release.stamp(checkout, "9.8.7", "https://github.com/someone/hands")
    assert release.stamped(checkout) == ("someone/hands", "9.8.7")
    assert {"CITATION.cff", "README.md", "pyproject.toml", "bonexage_utils/__init__.py", "notebooks/README.md",
            "notebooks/10_the_real_thing.ipynb", "notebooks/source/10_the_real_thing.py"} <= set(changed)
    for name in known():
        if Path(name).suffix in release.TEXTS and name != "CHANGELOG.md":
            text = (checkout / name).read_text(encoding="utf-8")
            assert f"/{HOME}" not in text.replace(f"{HOME}_utils", ""), name
            assert not re.search(rf'(v|version.{{1,4}}){re.escape(VERSION)}\b', text), name
    # What was stamped still agrees with what is made from it.
    assert not [str(finding) for finding in lint_folder(checkout / "notebooks") if not finding.advice]
    monkeypatch.setattr(pages, "ADDRESS", "https://github.com/someone/hands")
    monkeypatch.setattr(pages, "TAG", "v9.8.7")
    for name in pages.PAGES:
        text = (checkout / name).read_text(encoding="utf-8")
        assert pages.filled(text, checkout) == text, name


def test_a_second_time_changes_nothing(checkout: Path) -> None:
    assert release.stamp(checkout) == []
    assert release.stamp(checkout, VERSION, f"https://github.com/{HOME}/") == []


@pytest.mark.parametrize(("version", "address", "word"), [
    ("9.8.8", "", "CHANGELOG.md: no heading '## 9.8.8'"), ("v9.8.7", "", "VERSION=v9.8.7"),
    ("", "https://example.org/course", "ADDRESS=https://example.org/course")])
def test_what_cannot_be_stamped_is_one_line(checkout: Path, version: str, address: str, word: str) -> None:
    with pytest.raises(BoneXageError, match=re.escape(word)):
        release.stamp(checkout, version, address)
    assert release.stamped(checkout) == (HOME, VERSION)
