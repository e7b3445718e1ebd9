"""Speed and accuracy of the named models under torch's own SGD, without any low rank.

    python -m benchmarks.models --dataset cifar-10 --model vgg --data-dir FOLDER

Prints the loss, the test accuracy and the processor time of every epoch (training only; on a busy
machine it says more than the clock does). Batches are all of one size: a short last batch would
disturb batch normalisation just before the test. The learning rate falls linearly, to 0 after the
last epoch, unless --constant: at a constant rate the accuracy of a convolutional model swings by
ten points from epoch to epoch.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from torch import nn

from toolkit.training import Dataset, dataset_names, load_dataset, make_model, model_names


def train_epoch(
    model: nn.Module,
    data: Dataset,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    generator: torch.Generator,
    batch: int,
) -> float:
    """Train for one epoch and return the mean loss."""
    model.train()
    order = torch.randperm(len(data.train_labels), generator=generator)
    losses = []
    for chosen in order[: len(order) // batch * batch].split(batch):
        model.zero_grad()
        scores = model(data.train_inputs[chosen])
        loss = nn.functional.cross_entropy(scores, data.train_labels[chosen])
        loss.backward()
        schedule.optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


@torch.no_grad()
def accuracy(model: nn.Module, data: Dataset) -> float:
    """Return the share of the test samples that are right."""
    model.eval()
    parts = zip(data.test_inputs.split(500), data.test_labels.split(500), strict=True)
    right = sum(int((model(inputs).argmax(1) == labels).sum()) for inputs, labels in parts)
    return right / len(data.test_labels)


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models")
    parser.add_argument("--dataset", choices=dataset_names(), default="digits")
    parser.add_argument("--data-dir", type=Path, help="folder of the data sets' files")
    parser.add_argument("--model", choices=model_names(), default="mlp")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rate", type=float, default=0.1, help="learning rate")
    parser.add_argument("--constant", action="store_true", help="keep the learning rate")
    parser.add_argument("--momentum", type=float, default=0.0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--channels-last", action="store_true", help="torch's layout of pictures")
    return parser.parse_args()


def main() -> None:
    """Train and print."""
    options = parsed()
    torch.set_num_threads(options.threads)
    try:
        data = load_dataset(options.dataset, data_dir=options.data_dir)
    except FileNotFoundError as error:  # it says how to get the files
        sys.exit(str(error))
    generator = torch.Generator().manual_seed(options.seed)
    model = make_model(options.model, data, generator=generator)
    if options.channels_last:
        model = model.to(memory_format=torch.channels_last)
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    optimiser = torch.optim.SGD(model.parameters(), options.rate, momentum=options.momentum)
    steps = options.epochs * (len(data.train_labels) // options.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: 1.0 if options.constant else 1 - step / steps
    )
    for epoch in range(1, options.epochs + 1):
        start = time.process_time()
        loss = train_epoch(model, data, schedule, generator, options.batch)
        spent = time.process_time() - start
        print(
            f"epoch {epoch}: loss {loss:.3f}, test accuracy {accuracy(model, data):.2%}, "
            f"{spent:.1f} s of processor time",
            flush=True,
        )


if __name__ == "__main__":
    main()
