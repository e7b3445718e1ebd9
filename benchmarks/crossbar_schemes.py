"""Per-sample pulses against rank-3 and rank-10 pulses, device by device, on the digits.

A 64-128-10 network (sigmoid, biases as one more input, cross-entropy), whole batches of 64, every
update sent through coincidence pulses of 31 slots, pairs with a reference cell. The rank-k updates
are the best rank-k approximations of each batch's gradient. Reads go through 7-bit DACs and 9-bit
ADCs of bound 20 and noise 0.1, every vector scaled to 1 before and back after. Prints, for each
device and scheme, the best mean test accuracy over the learning rates with its standard deviation
over seeds, its learning rate and the pulses of a run. What causes a difference shows when it is
taken away: ``--ideal-reads``, ``--whole-pulses``, ``--pair``, ``--mid-range``, ``--hidden relu``,
``--without write_noise``.

    python -m benchmarks.crossbar_schemes --devices EcRam ReRamSB --epochs 20 --seeds 3
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from statistics import mean, pstdev

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
    WholePulses,
    get_device,
)
from toolkit.lowrank import make_estimator

BATCH = 64
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


class MidRange(Crossbar):
    """Pairs whose reference is the middle of the range, whatever the cell's symmetry point."""

    def _reference_states(self) -> Tensor:
        return torch.full_like(self._cells.state[:1], 0.5)


def make_array(rows: int, columns: int, options, generator: torch.Generator):
    """Small uniform weights, on plain memory or on cells."""
    weights = (2 * torch.rand(rows, columns, generator=generator) - 1) / columns**0.5
    if options.device == "digital":
        return DigitalArray.from_weights(weights)
    kind = MidRange if options.mid_range else Crossbar
    return kind.from_weights(
        weights,
        device=replace(get_device(options.device), **dict.fromkeys(options.without, 0.0)),
        seed=generator,
        pair=options.pair,
        coding=WholePulses() if options.whole_pulses else Coincidence(bit_length=31),
        periphery=None if options.ideal_reads else CONVERTERS,
    )


def hidden_layer(array, images: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Activations of the hidden layer and their derivatives."""
    sums = scaled(array.read, with_bias(images))
    if kind == "relu":
        return sums.relu(), (sums > 0.0).float()
    hidden = sums.sigmoid()
    return hidden, hidden * (1.0 - hidden)


def accuracy(arrays, images: Tensor, labels: Tensor, kind: str) -> float:
    """Share of right answers, per cent."""
    hidden, _ = hidden_layer(arrays[0], images, kind)
    answers = scaled(arrays[1].read, with_bias(hidden)).argmax(1)
    return 100.0 * float((answers == labels).float().mean())


def train(options, scheme: str, rate: float, seed: int, data) -> tuple[float, float]:
    """Test accuracy (mean of the last 2 epochs) and pulses of one run."""
    images, test, labels, test_labels = data
    generator = torch.Generator().manual_seed(seed)
    arrays = [make_array(*shape, options, generator) for shape in ((128, 65), (10, 129))]
    name, knobs = SCHEMES[scheme]
    estimators = [make_estimator(name, **knobs) for _ in arrays]
    scores = []
    for _ in range(options.epochs):
        order = torch.randperm(len(images), generator=generator)
        # whole batches: a mean over few samples would be a large step before each test
        for batch in order[: len(order) // BATCH * BATCH].split(BATCH):
            hidden, slope = hidden_layer(arrays[0], images[batch], options.hidden)
            first, second = with_bias(images[batch]), with_bias(hidden)
            error = scaled(arrays[1].read, second).softmax(1) - one_hot(labels[batch], 10).float()
            error /= len(batch)
            back = scaled(arrays[1].read_transposed, error)[:, :-1] * slope
            for array, estimator, pair in zip(
                arrays, estimators, ((back, first), (error, second)), strict=True
            ):
                array.apply(estimator.update(*pair), learning_rate=rate)
        scores.append(accuracy(arrays, test, test_labels, options.hidden))
    pulses = 0.0 if options.device == "digital" else sum(float(a.pulse_count.sum()) for a in arrays)
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
    parser.add_argument("--whole-pulses", action="store_true")
    parser.add_argument("--pair", default="reference")
    parser.add_argument("--mid-range", action="store_true", help="reference cells at mid-range")
    parser.add_argument("--hidden", choices=("relu", "sigmoid"), default="sigmoid")
    parser.add_argument("--without", nargs="+", default=[], help="fields of the device set to 0")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = split()
    print("device         scheme            best %  rate    pulses      s  all")
    for name in options.devices:
        options.device = name
        for scheme in options.schemes:
            print(row(options, scheme, data), flush=True)


def row(options, scheme: str, data) -> str:
    """One device and scheme, at every rate."""
    start = time.perf_counter()
    runs = {
        rate: [train(options, scheme, rate, seed, data) for seed in range(options.seeds)]
        for rate in options.rates
    }
    scores = {rate: [score for score, _ in each] for rate, each in runs.items()}
    best = max(scores, key=lambda rate: mean(scores[rate]))
    pulses = mean(count for _, count in runs[best])
    spent = time.perf_counter() - start
    every = " ".join(f"{rate:g}:{mean(each):.1f}" for rate, each in scores.items())
    return (
        f"{options.device:14s} {scheme:11s} {mean(scores[best]):5.1f} ± {pstdev(scores[best]):4.1f}"
        f" {best:5g} {pulses:9.2e} {spent:6.0f}  {every}"
    )


if __name__ == "__main__":
    main()
