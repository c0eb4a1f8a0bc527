"""Install what a notebook lacks, on Colab or any other ready-made Python, without moving what is there.

Standard library only, because it runs before anything is installed; and run as a script by the first cell of every
notebook, because importing `bonexage_utils.course` would already ask for torch and timm.
"""

import importlib.util
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

# The course's home and the release that is fetched from it; `make release` stamps both, here and in every notebook.
ADDRESS = "https://github.com/bonexage/bonexage"
TAG = "v0.1.0"

# The first code cell of every notebook, letter by letter (a test compares). Where the package is installed, as
# on a learner's own machine, it does nothing. In notebooks/ of a checkout without an installation it installs what is
# missing. Anywhere else, as on Colab, it fetches the course first, once.
BOOTSTRAP_CELL = f"""\
# On Colab this fetches the course and installs what is missing; on your own machine it changes nothing.
import importlib.util, os, runpy, subprocess, sys

ADDRESS, TAG = "{ADDRESS}", "{TAG}"  # a fork has its own
if importlib.util.find_spec("bonexage_utils") is None:
    if not os.path.isdir("../bonexage_utils"):
        if not os.path.isdir("bonexage"):
            print(f"Fetching the course (25 MB) from {{ADDRESS}}: about half a minute")
            git = f"git -c advice.detachedHead=false clone --quiet --depth=1 --branch={{TAG}}"
            if subprocess.run(f"{{git}} {{ADDRESS}} bonexage", shell=True).returncode:
                sys.exit(f"Not fetched: unzip {{ADDRESS}}/archive/{{TAG}}.zip here as folder bonexage, run this again")
        os.chdir("bonexage/notebooks")
    runpy.run_path("../bonexage_utils/course/bootstrap.py", run_name="__main__")
    sys.path.insert(0, os.path.abspath(".."))
import bonexage_utils"""

# Import name → what to ask pip for. By import name, because one module can come from differently named packages
# (cv2 from opencv-python or opencv-python-headless).
NEEDED = {
    "accelerate": "accelerate>=1.2", "captum": "captum>=0.9", "cv2": "opencv-python-headless>=4.11.0.86",
    "filelock": "filelock>=3.16.1", "ipywidgets": "ipywidgets>=7.7.1", "jinja2": "jinja2>=3.1.5",
    "matplotlib": "matplotlib>=3.10", "openpyxl": "openpyxl>=3.1.5", "pandas": "pandas>=2.2.2", "PIL": "pillow>=11.0",
    "platformdirs": "platformdirs>=4.3.6", "pydicom": "pydicom>=3.0.1", "safetensors": "safetensors>=0.7",
    "scipy": "scipy>=1.15", "seaborn": "seaborn>=0.13.2",
    "sklearn": "scikit-learn>=1.6", "timm": "timm>=1.0.24", "tqdm": "tqdm>=4.67", "typer": "typer>=0.16",
}
# Big, and matched to the machine's GPU driver: what is installed stays as it is.
UNTOUCHED = ("torch", "torchvision", "numpy")


def missing() -> list[str]:
    """The requirements of `NEEDED` whose module cannot be imported here."""
    return [requirement for name, requirement in NEEDED.items() if importlib.util.find_spec(name) is None]


def constraints() -> str:
    """Lines for `pip --constraint` that hold torch, torchvision and numpy at the versions installed here."""
    lines = []
    for name in UNTOUCHED:
        try:
            lines.append(f"{name}=={metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return "\n".join(lines)


def install_missing() -> list[str]:
    """Install `missing()` with pip and return it; does nothing the second time. Raises CalledProcessError."""
    wanted = missing()
    if wanted:
        # A folder, because Windows does not let pip open a temporary file that is still open here.
        with tempfile.TemporaryDirectory() as folder:
            held = Path(folder) / "constraints.txt"
            held.write_text(constraints(), encoding="utf-8")
            subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(held), *wanted],
                           check=True)
    return wanted


if __name__ == "__main__":
    try:
        print("installed: " + (", ".join(install_missing()) or "nothing, all there"))
    except subprocess.CalledProcessError:
        sys.exit(f"Not installed: {', '.join(missing())}; turn the network on (Kaggle: Settings, Internet), run again")
