"""Per-sample pulses against rank-3 and rank-10 pulses, device by device, on the digits.

A 64-128-10 network (ReLU, biases as one more input, cross-entropy), batch 64, every update sent
through coincidence pulses of 31 slots, pairs with a reference cell. The rank-k updates are the best
rank-k approximations of each batch's gradient. Reads go through 7-bit DACs and 9-bit ADCs of bound
20 and noise 0.1, every vector scaled to 1 before and back after; ``--ideal-reads`` does without.
Prints, for each device and scheme, the best mean test accuracy over the learning rates, its
learning rate and the pulses of a run.

    python benchmarks/crossbar_schemes.py --devices EcRam ReRamSB --epochs 20 --seeds 3
"""

from __future__ import annotations

import argparse
import time

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn.functional import one_hot

from toolkit.crossbar import (
    Coincidence,
    Converter,
    Crossbar,
    DigitalArray,
    Periphery,
    get_device,
)
from toolkit.lowrank import make_estimator

SCHEMES = {
    "per-sample": ("sgd", {}),
    "rank 3": ("svd", {"rank": 3}),
    "rank 10": ("svd", {"rank": 10}),
}
CONVERTERS = Periphery(
    dac=Converter(bits=7, bound=1.0), adc=Converter(bits=9, bound=20.0, noise=0.1)
)


def split() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Digits scaled to 0..1, 75 % for training: images, test images, labels, test labels."""
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images / 16.0, labels, random_state=0, stratify=labels)
    train, test, train_labels, test_labels = (torch.as_tensor(part) for part in parts)
    return train.float(), test.float(), train_labels, test_labels


def with_bias(signal: Tensor) -> Tensor:
    """One more input that is always 1."""
    return torch.cat([signal, torch.ones(len(signal), 1)], 1)


def scaled(read, signal: Tensor) -> Tensor:
    """``read`` of every vector scaled to a largest magnitude of 1, the outcome scaled back."""
    scale = signal.abs().amax(1, keepdim=True).clamp(min=1e-30)
    return read(signal / scale) * scale


def make_array(
    rows: int, columns: int, device: str, periphery: Periphery | None, generator: torch.Generator
):
    """Small uniform weights, on plain memory or on cells."""
    weights = (2 * torch.rand(rows, columns, generator=generator) - 1) / columns**0.5
    if device == "digital":
        return DigitalArray.from_weights(weights)
    return Crossbar.from_weights(
        weights,
        device=get_device(device),
        seed=generator,
        pair="reference",
        coding=Coincidence(bit_length=31),
        periphery=periphery,
    )


def accuracy(arrays, images: Tensor, labels: Tensor) -> float:
    """Share of right answers, per cent."""
    hidden = scaled(arrays[0].read, with_bias(images)).relu()
    answers = scaled(arrays[1].read, with_bias(hidden)).argmax(1)
    return 100.0 * float((answers == labels).float().mean())


def train(
    device: str,
    scheme: str,
    rate: float,
    seed: int,
    epochs: int,
    data,
    periphery: Periphery | None = CONVERTERS,
) -> tuple[float, float]:
    """Test accuracy (mean of the last 2 epochs) and pulses of one run."""
    images, test, labels, test_labels = data
    generator = torch.Generator().manual_seed(seed)
    shapes = ((128, 65), (10, 129))
    arrays = [make_array(*shape, device, periphery, generator) for shape in shapes]
    name, knobs = SCHEMES[scheme]
    estimators = [make_estimator(name, **knobs) for _ in arrays]
    scores = []
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=generator).split(64):
            first = with_bias(images[batch])
            hidden = scaled(arrays[0].read, first).relu()
            second = with_bias(hidden)
            error = scaled(arrays[1].read, second).softmax(1) - one_hot(labels[batch], 10).float()
            error /= len(batch)
            back = scaled(arrays[1].read_transposed, error)[:, :-1] * (hidden > 0)
            for array, estimator, pair in zip(
                arrays, estimators, ((back, first), (error, second)), strict=True
            ):
                array.apply(estimator.update(*pair), learning_rate=rate)
        scores.append(accuracy(arrays, test, test_labels))
    pulses = sum(float(a.pulse_count.sum()) for a in arrays) if device != "digital" else 0.0
    return sum(scores[-2:]) / 2.0, pulses


def main() -> None:
    """Run the grid and print one row per device and scheme."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", nargs="+", default=["digital", "EcRam", "ReRamES", "ReRamSB"])
    parser.add_argument("--schemes", nargs="+", default=list(SCHEMES))
    parser.add_argument("--rates", nargs="+", type=float, default=[0.1, 0.25, 0.5, 1.0, 2.0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ideal-reads", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data, periphery = split(), None if options.ideal_reads else CONVERTERS
    print(
        f"{'device':14s} {'scheme':12s} {'best %':>7s} {'rate':>5s} {'pulses':>9s} {'s':>6s}  all"
    )
    for device in options.devices:
        for scheme in options.schemes:
            start, means, pulses = time.perf_counter(), {}, {}
            for rate in options.rates:
                runs = [
                    train(device, scheme, rate, seed, options.epochs, data, periphery)
                    for seed in range(options.seeds)
                ]
                means[rate] = sum(score for score, _ in runs) / len(runs)
                pulses[rate] = sum(count for _, count in runs) / len(runs)
            best = max(means, key=means.__getitem__)
            every = " ".join(f"{rate:g}:{mean:.1f}" for rate, mean in means.items())
            spent = time.perf_counter() - start
            print(
                f"{device:14s} {scheme:12s} {means[best]:7.1f} {best:5g} {pulses[best]:9.2e}"
                f" {spent:6.0f}  {every}",
                flush=True,
            )


if __name__ == "__main__":
    main()
