"""Several processes and spawned loader workers against one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow

# No BatchNorm and no dropout: both depend on how a batch is shared out, and would be a difference of the method.
SCRIPT = """
import json, sys
from dataclasses import replace
from pathlib import Path
import torch
from conftest import TINY
from bonexage_utils.cohort import load_cohort
from bonexage_utils.training import Trainer
torch.set_num_threads(1)
data, out, cache = map(Path, sys.argv[1:])
trainer = Trainer(load_cohort(data), out, replace(TINY, epochs=2, grad_accum=2, batch_size=4), cache_dir=cache)
trainer.network.head[3].p = 0.0
trainer.fit()
if trainer.accelerator.is_main_process:
    (out / "processes.json").write_text(json.dumps(trainer.accelerator.num_processes))
"""

SPAWNED = """
import sys, torch
from dataclasses import replace
from pathlib import Path
from conftest import TINY
from bonexage_utils.cohort import load_cohort
from bonexage_utils.training import train
if __name__ == "__main__":
    torch.multiprocessing.set_start_method("spawn")
    torch.set_num_threads(1)
    data, out, cache = map(Path, sys.argv[1:])
    train(load_cohort(data), out, replace(TINY, workers=2), cache_dir=cache)
"""


def run_script(text: str, tmp_path: Path, *arguments: Path, launcher: tuple[str, ...] = ()) -> None:
    script = tmp_path / "script.py"
    script.write_text(text)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)]),
                   "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run([sys.executable, *launcher, str(script), *map(str, arguments)], env=environment,
                          capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


# `accelerate launch --cpu --num_processes 2` needs mpirun, and without it runs one process and says nothing.
LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def test_two_processes_give_the_losses_of_one(phantom_folder: Path, cache_dir: Path, tmp_path: Path) -> None:
    """The same global batches: losses to 1 in 1,000; the sums are the same numbers in another order."""
    import pandas as pd

    logs = {}
    for name, launcher in (("one", ()), ("two", LAUNCH)):
        run_script(SCRIPT, tmp_path, phantom_folder, tmp_path / name, cache_dir, launcher=launcher)
        logs[name] = pd.read_csv(tmp_path / name / "log.csv")
    assert json.loads((tmp_path / "one" / "processes.json").read_text()) == 1
    assert json.loads((tmp_path / "two" / "processes.json").read_text()) == 2
    for column in ("train_loss_years", "train_mae_months", "selection_mae_months"):
        assert logs["two"][column].tolist() == pytest.approx(logs["one"][column].tolist(), rel=1e-3), column


def test_spawned_workers_give_the_same_weights(run: Path, phantom_folder: Path, cache_dir: Path,
                                               tmp_path: Path) -> None:
    """Windows and macOS start workers afresh: they get the place of the cache, not the cache."""
    import torch
    from safetensors.torch import load_file

    run_script(SPAWNED, tmp_path, phantom_folder, tmp_path / "spawned", cache_dir)
    first, second = (load_file(folder / "last" / "state.safetensors") for folder in (run, tmp_path / "spawned"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("given", "policy"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_do_not_spin_unless_the_user_says_so(given: str | None, policy: str) -> None:
    """torch's threads are libgomp's; it tells by which settings it goes as soon as it is loaded."""
    known = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", "import bonexage_utils, torch"], capture_output=True, text=True,
                          env=known | {"OMP_DISPLAY_ENV": "true"} | ({"OMP_WAIT_POLICY": given} if given else {}))
    assert f"OMP_WAIT_POLICY = '{policy}'" in done.stderr


@pytest.mark.parametrize(("given", "cycles"), [(None, "4"), ("20", "20")])
def test_numpys_threads_are_told_not_to_spin_before_numpy_is_loaded(given: str | None, cycles: str) -> None:
    known = {name: value for name, value in os.environ.items() if name != "OPENBLAS_THREAD_TIMEOUT"}
    done = subprocess.run([sys.executable, "-c", "import os, sys, bonexage_utils\n"
                           "print('numpy' in sys.modules, os.environ['OPENBLAS_THREAD_TIMEOUT'])"], capture_output=True,
                          text=True, env=known | ({"OPENBLAS_THREAD_TIMEOUT": given} if given else {}))
    assert done.stdout.split() == ["False", cycles]
