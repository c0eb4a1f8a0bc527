"""A ResNet-18 as most people would write it: the loop that `bonexage train` is measured against.

    python -m tools.benchmarks.plain_loop DATA --minutes 20 --out plain

Same split, same films of the selection and calibration splits, same number of minutes; PIL, torchvision transforms,
float32, AdamW with a one-cycle schedule at 1e-3, batches of 32, the sex beside the features, mean absolute error on
standardised months. Writes OUT/predictions.csv for the calibration split, which `bonexage evaluate` reads.
"""

import argparse
import time
from pathlib import Path

import pandas as pd
import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

from bonexage_utils.cohort import load_cohort

parser = argparse.ArgumentParser()
parser.add_argument("data")
parser.add_argument("--minutes", type=float, default=20)
parser.add_argument("--out", type=Path, default=Path("plain"))
parser.add_argument("--size", type=int, default=100)
parser.add_argument("--epochs", type=int, default=0, help="0: as many as the minutes allow")
args = parser.parse_args()
torch.manual_seed(0)
AUGMENT = [T.RandomAffine(10, (0.05, 0.05), (0.9, 1.1)), T.ColorJitter(0.2, 0.2)]


class Films(Dataset):
    def __init__(self, table: pd.DataFrame, augment: list) -> None:
        self.table = table
        self.transform = T.Compose([T.Resize((args.size, args.size)), *augment, T.ToTensor(), T.Normalize(0.5, 0.25)])

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, i: int) -> tuple:
        row = self.table.iloc[i]
        return self.transform(Image.open(row.image).convert("L")), float(row.sex == "M"), row.months


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = timm.create_model("resnet18", in_chans=1, num_classes=0)
        self.head = torch.nn.Linear(513, 1)

    def forward(self, x: torch.Tensor, sex: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([self.body(x), sex[:, None]], 1))[:, 0]


def predict(net: Net, table: pd.DataFrame) -> torch.Tensor:
    net.eval()
    with torch.no_grad():
        return torch.cat([net(x, s.float()) for x, s, _ in DataLoader(Films(table, []), 64)]) * std + mean


cohort = load_cohort(args.data)
train, selection, calibration = (cohort.split(name) for name in ("train", "selection", "calibration"))
mean, std = train["months"].mean(), train["months"].std()
loader = DataLoader(Films(train, AUGMENT), 32, shuffle=True, drop_last=True)
net, started, epochs = Net(), time.perf_counter(), args.epochs
optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
schedule = None
epoch = 0
while schedule is None or epoch < epochs:
    net.train()
    for step, (x, sex, months) in enumerate(loader):
        loss = (net(x, sex.float()) - (months.float() - mean) / std).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
        elif step == 10:
            timed = time.perf_counter()  # the first steps are slower
        elif step == 40:  # one-cycle has to know its length: time some steps, then start over from new weights
            per_epoch = (time.perf_counter() - timed) / 30 * len(loader) * 1.05  # and the selection films
            epochs = args.epochs or max(1, int(args.minutes * 60 / per_epoch))
            net, started = Net(), time.perf_counter()
            optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, epochs * len(loader))
            print(f"{per_epoch:.0f} s an epoch: {epochs} epochs", flush=True)
            break
    else:
        epoch += 1
        mae = (predict(net, selection) - torch.tensor(selection["months"].to_numpy())).abs().mean()
        print(f"epoch {epoch:>3}  selection {mae:6.2f} months  {time.perf_counter() - started:6.0f} s", flush=True)

args.out.mkdir(parents=True, exist_ok=True)
table = calibration[["id", "image", "sex"]].assign(bone_age_months=predict(net, calibration).numpy(), error="")
table.to_csv(args.out / "predictions.csv", index=False)
