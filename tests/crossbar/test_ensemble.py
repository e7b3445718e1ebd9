"""Layer ensemble averaging: what is averaged, which copies, and what it does about stuck cells."""

import dataclasses

import pytest
import torch

from tests.crossbar.arrays import normals, some_update
from toolkit.crossbar import Crossbar, EnsembleCrossbar, TiledCrossbar, get_device
from toolkit.training import crossbar_layers, load_dataset, to_crossbar
from toolkit.training.experiment.experiment import Experiment
from toolkit.training.layers.convert import to_digital

FINE = dataclasses.replace(get_device("ideal"), levels_up=10**7, levels_down=10**7)


def stuck(share, device=FINE):
    return dataclasses.replace(device, stuck_low=share / 2, stuck_high=share / 2)


@pytest.mark.parametrize("kept", [None, 2])
def test_outputs_are_means_over_the_kept_copies(kept):
    weights = normals(6, 5, scale=0.2)
    array = EnsembleCrossbar.from_weights(weights, device=stuck(0.2), copies=4, kept=kept, seed=1)
    missed = torch.stack([(each.weights - weights).square().sum(1) for each in array.copies])
    expected = torch.stack(
        [
            torch.stack([array.copies[c].weights[row] for c in missed[:, row].argsort()[:kept]])
            .mean(0)
            for row in range(6)
        ]
    )  # fmt: skip
    torch.testing.assert_close(array.weights, expected)
    signal, errors = normals(3, 5, seed=4), normals(3, 6, seed=5)
    torch.testing.assert_close(array.read(signal), signal @ expected.T)
    torch.testing.assert_close(array.read_transposed(errors), errors @ expected)


def test_the_mean_square_error_falls_with_the_number_of_copies():
    weights = normals(60, 50, scale=0.2)

    def error(copies):
        array = EnsembleCrossbar.from_weights(weights, device=stuck(0.1), copies=copies, seed=3)
        return float((array.weights - weights).square().mean())

    single = error(1)
    for copies in (2, 4, 8):
        # faults add up with their mean, which stays: stuck cells pull weights to 0
        assert single / copies < error(copies) < 1.6 * single / copies


def test_of_rows_with_few_faults_the_faultless_are_kept():
    weights = normals(60, 5, scale=0.2)
    arrays = [
        EnsembleCrossbar.from_weights(weights, device=stuck(0.02), copies=8, kept=kept, seed=3)
        for kept in (None, 4)
    ]
    assert float((arrays[0].weights - weights).abs().max()) > 0.05
    torch.testing.assert_close(arrays[1].weights, weights)


def test_updates_go_to_all_copies_and_a_state_comes_back():
    def made(seed):
        return EnsembleCrossbar.from_weights(
            normals(4, 3, scale=0.1), device=stuck(0.3, get_device("EcRam")), kept=2, seed=seed
        )

    array, other = made(1), made(2)
    array.apply(some_update(4, 3, 2, scale=0.1), learning_rate=0.5)
    assert all(copy.pulses > 0 for copy in array.copies)
    assert array.pulses == int(array.pulse_count.sum())
    other.load_state_dict(array.state_dict())
    for each in (array, other):
        each.apply(some_update(4, 3, 2, scale=0.1), learning_rate=0.5)
    assert torch.equal(array.weights, other.weights)
    with pytest.raises(ValueError, match="shares of the state"):
        other.load_state_dict({**array.state_dict(), "shares": torch.ones(2, 4)})


def test_a_network_is_converted_onto_copies_and_forgives_faults():
    """As Yousuf et al. (2025), with 20 % stuck cells."""
    run = Experiment(dataset="digits", hidden=[32], method="sgd", record_every=10_000)
    for _ in run.steps(epochs=6):
        pass
    trained, data = to_digital(run.network), load_dataset("digits")

    def accuracy(**knobs):
        network = to_crossbar(trained, device=stuck(0.2), seed=1, **knobs)
        with torch.no_grad():
            return float((network(data.test_inputs).argmax(1) == data.test_labels).double().mean())

    assert accuracy() + 0.2 < accuracy(copies=8) < accuracy(copies=32)
    network = to_crossbar(trained, device="EcRam", copies=2)
    arrays = [layer.array for layer in crossbar_layers(network).values()]
    assert all(type(array) is EnsembleCrossbar and len(array.copies) == 2 for array in arrays)
    with pytest.raises(ValueError, match="tile must be None with copies"):
        to_crossbar(trained, device="EcRam", copies=2, tile=(8, 8))
    assert {Crossbar, TiledCrossbar}.isdisjoint(map(type, arrays))
