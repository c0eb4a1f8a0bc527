"""A training step beside busy processes: torch's threads as they come, and asleep while they wait (PASSIVE).

    python -m tools.benchmarks.shared --rounds 3

In each round every pair of a policy and a number of busy processes has its turn, in a process of its own, since
OpenMP reads its settings once. Printed are medians over the rounds: the seconds of a step, and how many times the same
policy's idle step that is. The package sets PASSIVE unless the user has set OMP_WAIT_POLICY.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

import pandas as pd
import timm
import torch
from tqdm import tqdm

POLICIES = {"as they come": None, "PASSIVE": "PASSIVE"}
BUSY = (0, 1, 2)
SPIN = "while True: pass"
STEPS, LIMIT = 8, 30  # a process ends after so many steps, or after so many seconds


def step_seconds() -> float:
    """The median of some training steps of a small ConvNeXt, 32 films of 96 px."""
    torch.manual_seed(0)
    network = timm.create_model("convnext_atto", num_classes=1, in_chans=1).train()
    optimizer = torch.optim.AdamW(network.parameters())
    films, months = torch.rand(32, 1, 96, 96), torch.rand(32, 1)
    seconds, began = [], time.perf_counter()
    while len(seconds) <= STEPS and time.perf_counter() - began < LIMIT:
        at = time.perf_counter()
        (network(films) - months).abs().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - at)
    return statistics.median(seconds[1:] or seconds)  # the first one warms up


def measure(policy: str | None, busy: int) -> float:
    """`step_seconds` in a process of its own, beside `busy` processes that never rest."""
    known = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS")}
    beside = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(busy)]
    try:
        done = subprocess.run([sys.executable, __file__, "--one"], capture_output=True, text=True, check=True,
                              env=known | ({"OMP_WAIT_POLICY": policy} if policy else {}))
        return float(done.stdout)
    finally:
        for process in beside:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(step_seconds())
        return
    turns = [(name, busy) for _ in range(args.rounds) for busy in BUSY for name in POLICIES]
    rows = [(name, busy, measure(POLICIES[name], busy)) for name, busy in tqdm(turns)]
    table = pd.DataFrame(rows, columns=["threads", "busy processes", "seconds"])
    medians = table.pivot_table("seconds", "busy processes", "threads", "median")
    print(medians.round(3), (medians / medians.loc[0]).round(2).add_suffix(", times idle"), sep="\n\n")


if __name__ == "__main__":
    main()
