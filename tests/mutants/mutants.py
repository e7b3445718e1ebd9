"""Faults that a test must notice: file, what stands there, what the fault is, and the test."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """``old`` stands once in ``file``; with ``new`` in its place ``test`` has to fail."""

    file: str
    old: str
    new: str
    test: str


LOWRANK = "tests/lowrank/"
CELLS = "tests/crossbar/"
TABLES = "tests/fitting/test_tables.py"
MUTANTS = [
    # estimators
    Mutant(
        "toolkit/lowrank/sbpca.py",
        "seen += len(d)",
        "seen += block",
        f"{LOWRANK}test_recursions.py",
    ),
    Mutant(
        "toolkit/lowrank/sbpca.py",
        "keep = 1 - len(d) / seen",
        "keep = 1 - 1.0 / (2.0 + start)",
        f"{LOWRANK}test_recursions.py",
    ),
    Mutant(
        "toolkit/lowrank/sbpca.py",
        "past = 0.0 if self._fresh else self.history * block",
        "past = self.history * block",
        f"{LOWRANK}test_sbpca.py",
    ),
    Mutant(
        "toolkit/lowrank/sbpca.py",
        "torch.add(past, new, alpha=w)",
        "torch.add(past, new, alpha=1.0)",
        f"{LOWRANK}test_recursions.py",
    ),
    Mutant(
        "toolkit/lowrank/sbpca.py",
        "turned = past @ (right @ new_right.T)",
        "turned = past",
        f"{LOWRANK}test_recursions.py",
    ),
    Mutant(
        "toolkit/lowrank/sbpca.py",
        "sigma * (past / (past + batch))",
        "sigma",
        f"{LOWRANK}test_sbpca.py",
    ),
    Mutant(
        "toolkit/lowrank/compiled/recursions.py",
        "keep, weight = real(1.0 - count / seen), real(batch / seen)",
        "keep, weight = real(1.0 - count / seen), real(count / seen)",
        f"{LOWRANK}test_recursions.py",
    ),
    Mutant(
        "toolkit/lowrank/compiled/recursions.py",
        "_scale(left[i], np.copysign(real(1.0), sigma[i]))",
        "_scale(left[i], real(1.0))",
        f"{LOWRANK}test_recursions.py",
    ),
    Mutant(
        "toolkit/lowrank/compiled/recursions.py",
        "sigma[i] += _dot(left[i], added[i])",
        "sigma[i] = _dot(left[i], added[i])",
        f"{LOWRANK}test_recursions.py",
    ),
    Mutant(
        "toolkit/crossbar/composites/mixed_precision.py",
        "(share * coarse).trunc()",
        "(share * coarse).round()",
        "tests/crossbar/test_mixed_precision.py",
    ),
    Mutant(
        "toolkit/crossbar/composites/mixed_precision.py",
        "torch.inf).amin(0)",
        "0.0).amax(0)",
        "tests/crossbar/test_mixed_precision.py",
    ),
    Mutant(
        "toolkit/budget/budget.py",
        "conversions * 2**chip.adc_bits",
        "conversions * chip.adc_bits",
        "tests/budget/test_budget.py",
    ),
    Mutant(
        "toolkit/budget/budget.py",
        "touched=passing + 2 * kept * blocks",
        "touched=passing + kept * blocks",
        "tests/budget/test_budget.py",
    ),
    Mutant(
        "toolkit/budget/activity.py",
        "pulses=mean / batches",
        "pulses=mean",
        "tests/budget/test_budget.py",
    ),
    Mutant(
        "toolkit/lowrank/sbe.py", "w = 1 / j", "w = 1 / (j + 1)", f"{LOWRANK}test_recursions.py"
    ),
    Mutant(
        "toolkit/lowrank/sbe.py",
        "zip(batch * errors, activations",
        "zip(errors, activations",
        f"{LOWRANK}test_recursions.py",
    ),
    Mutant(
        "toolkit/lowrank/feedback.py",
        "self.decay * sigma[k:]",
        "sigma[k:]",
        f"{LOWRANK}test_feedback.py",
    ),
    Mutant(
        "toolkit/lowrank/feedback.py",
        "self._memory_rank or max(8, 3 * self.rank)",
        "self._memory_rank or self.rank",
        f"{LOWRANK}test_feedback.py",
    ),
    Mutant(
        "toolkit/lowrank/compiled/recursions.py",
        "            core += turn\n",
        "            core *= real(1.0)\n",
        f"{LOWRANK}test_recursions.py",
    ),
    Mutant(
        "toolkit/lowrank/compiled/recursions.py",
        "_multiply(turned.T, left, new_left)",
        "_multiply(turned, left, new_left)",
        f"{LOWRANK}test_recursions.py",
    ),
    Mutant(
        "toolkit/lowrank/compiled/recursions.py",
        "values[first + j] = total / p",
        "values[first + j] = total / count",
        f"{LOWRANK}test_lrt.py",
    ),
    Mutant(
        "toolkit/lowrank/compiled/recursions.py",
        "rows[i, first + j] *= signs[first + j]",
        "pass",
        f"{LOWRANK}test_lrt.py",
    ),
    Mutant(
        "toolkit/lowrank/compiled/recursions.py",
        "1.0 / (past + 1 + s)",
        "1.0 / (past + 2 + s)",
        f"{LOWRANK}test_sbe.py",
    ),
    Mutant(
        "toolkit/lowrank/compiled/recursions.py",
        "along[p, i] *= sigma[i]",
        "pass",
        f"{LOWRANK}test_feedback.py",
    ),
    Mutant(
        "toolkit/lowrank/nmf.py",
        "torch.stack([part, -part])",
        "torch.stack([part, part])",
        f"{LOWRANK}test_nmf.py",
    ),
    Mutant(
        "toolkit/lowrank/power.py",
        "self._residual = update.add_to(gradient, alpha=-1.0)",
        "self._residual = update.add_to(gradient, alpha=-0.9)",
        f"{LOWRANK}test_power.py",
    ),
    Mutant(
        "toolkit/lowrank/svd.py",
        "factored_svd(errors, activations, self.rank)",
        "factored_svd(errors, activations, self.rank + 1)",
        f"{LOWRANK}test_svd.py",
    ),
    Mutant(
        "toolkit/lowrank/spectrum.py",
        "(2.0 * inner - own) / energy",
        "inner / energy",
        f"{LOWRANK}test_spectrum.py",
    ),
    Mutant(
        "toolkit/lowrank/spectrum.py",
        "squares[:rank].sum()) / total",
        "squares[: rank + 1].sum()) / total",
        f"{LOWRANK}test_spectrum.py",
    ),
    # kernels and the physics of cells
    Mutant(
        "toolkit/crossbar/kernels.py",
        "is_up = values[entry] - low > real(",
        "is_up = values[entry] - low >= real(0.5) + 0 * real(",
        f"{CELLS}test_pulses.py",
    ),
    Mutant(
        "toolkit/crossbar/kernels.py",
        "want[entry] = np.floor(want[entry] + want.dtype.type(0.5))",
        "want[entry] = np.floor(want[entry])",
        f"{CELLS}test_phases.py {CELLS}test_array.py",
    ),
    Mutant(
        "toolkit/crossbar/kernels.py",
        "radius = np.sqrt(_F(-2.0) * min(log, _F(0.0)))",
        "radius = np.sqrt(_F(-1.9) * min(log, _F(0.0)))",
        f"{CELLS}test_noise.py",
    ),
    Mutant(
        "toolkit/crossbar/cells.py",
        "deviation = root * (device.cycle_to_cycle",
        "deviation = count * (device.cycle_to_cycle",
        f"{CELLS}test_cells.py",
    ),
    Mutant(
        "toolkit/crossbar/cells.py",
        "worn, self._arrays = self.pulse_count >= self._limit, None",
        "worn, self._arrays = self.pulse_count > 2 * self._limit, None",
        f"{CELLS}test_ageing.py",
    ),
    Mutant(
        "toolkit/crossbar/cells.py",
        "        self._age += seconds\n",
        "        self._age += 2 * seconds\n",
        f"{CELLS}test_ageing.py",
    ),
    Mutant(
        "toolkit/crossbar/devices/responses.py",
        "height = 0.07 * math.sqrt(2.0) * label.abs()",
        "height = 0.07 * label.abs()",
        f"{CELLS}test_device.py",
    ),
    Mutant(
        "toolkit/crossbar/devices/responses.py",
        "return torch.expm1(bend / levels)",
        "return torch.expm1(bend / (levels + 1))",
        f"{CELLS}test_device.py",
    ),
    Mutant(
        "toolkit/crossbar/devices/responses.py",
        "reached += step + slope * reached",
        "reached += step",
        f"{CELLS}test_device.py {CELLS}test_cells.py",
    ),
    Mutant(
        "toolkit/crossbar/devices/steps.py",
        "up, down = up + lean, down - lean",
        "up, down = up + lean, down + lean",
        f"{CELLS}test_ageing.py",
    ),
    Mutant(
        "toolkit/crossbar/devices/wear.py",
        "quantile > 1.0 - device.stuck_high",
        "quantile > 1.0 - device.stuck_low",
        f"{CELLS}test_ageing.py",
    ),
    Mutant(
        "toolkit/crossbar/readout/wires.py",
        "along_word = _to_end(currents, -2).cumsum(-2)",
        "along_word = _to_end(currents, -2)",
        f"{CELLS}test_wires.py",
    ),
    Mutant(
        "toolkit/crossbar/readout/wires.py",
        "curve.part(part)",
        "curve.part(slice(0, size))",
        f"{CELLS}test_wires.py",
    ),
    Mutant(
        "toolkit/crossbar/readout/converters.py",
        "top = 2 ** (self.bits - 1) - 1",
        "top = 2 ** (self.bits - 1)",
        f"{CELLS}test_periphery.py",
    ),
    Mutant(
        "toolkit/crossbar/devices/stepwise.py",
        "place = -scale * low, scale",
        "place = scale * low, scale",
        f"{CELLS}test_device.py",
    ),
    Mutant(
        "toolkit/crossbar/programming.py",
        "cells.visible() - targets",
        "cells.visible() - targets.clamp(0.0, 1.0)",
        f"{CELLS}test_pulses.py",
    ),
    Mutant(
        "toolkit/crossbar/cost.py",
        "each = learning_rate / (2 * w_max)",
        "each = learning_rate / w_max",
        "tests/dashboards/test_snapshot.py",
    ),
    Mutant(
        "toolkit/crossbar/kernels.py",
        "whole += random[entry] + more < 256.0",
        "whole += random[entry] + 1.0 < 256.0",
        f"{CELLS}test_pulses.py",
    ),
    Mutant(
        "toolkit/crossbar/kernels.py",
        "if float(word & _LOW_24) * 2.0**-24 * reach < abs(chance):",
        "if chance != 0.0:",
        f"{CELLS}test_pulses.py",
    ),
    Mutant(
        "toolkit/crossbar/kernels.py",
        "base = np.uint64((rank * sums.shape[1] + chunk) * CHUNK)",
        "base = np.uint64(chunk * CHUNK)",
        f"{CELLS}test_pulses.py",
    ),
    Mutant(
        "toolkit/crossbar/kernels.py",
        "apart = _ones(other &",
        "apart = _ones(same &",
        f"{CELLS}test_pulses.py",
    ),
    Mutant(
        "toolkit/crossbar/kernels.py",
        "issued_state += many * after",
        "issued_state += many * before",
        f"{CELLS}test_cells.py",
    ),
    Mutant(
        "toolkit/crossbar/cells.py",
        "/ root.clamp(min=1.0)",
        "/ 1.0",
        "tests/test_gpu.py",
    ),
    Mutant(
        "toolkit/crossbar/cells.py",
        "is_pulsed & ~self.stuck, fresh",
        "~self.stuck, fresh",
        f"{CELLS}test_cells.py",
    ),
    Mutant(
        "toolkit/crossbar/cells.py",
        '{**self.__dict__, "_arrays": None}',
        "{**self.__dict__}",
        f"{CELLS}test_cells.py",
    ),
    Mutant(
        "toolkit/crossbar/pulses.py",
        "pulses += way * math.copysign(1.0, level) * found",
        "pulses += math.copysign(1.0, level) * found",
        f"{CELLS}test_pulses.py",
    ),
    Mutant(
        "toolkit/crossbar/pulses.py",
        "lengths = most.ceil().clamp(1.0,",
        "lengths = most.ceil().clamp(2.0,",
        f"{CELLS}test_pulses.py",
    ),
    Mutant(
        "toolkit/crossbar/pairs.py",
        "return (2.0 * up, 0.0), (0.0, -2.0 * up)",
        "return (up, 0.0), (0.0, -up)",
        f"{CELLS}test_pulses.py",
    ),
    Mutant(
        "toolkit/crossbar/composites/composite.py",
        "torch.arange(count) + earlier * count",
        "torch.arange(count)",
        f"{CELLS}test_tiki_taka.py",
    ),
    Mutant(
        "toolkit/crossbar/devices/stepwise.py",
        "left.clamp(max=1.0) * self._jump(",
        "self._jump(",
        f"{CELLS}test_cells.py",
    ),
    Mutant(
        "toolkit/crossbar/devices/stepwise.py",
        "if nodes[line, middle] < u:",
        "if nodes[line, middle] > u:",
        f"{CELLS}test_cells.py",
    ),
    Mutant(
        "toolkit/crossbar/array.py",
        "        self._check_demand(update, learning_rate)\n",
        "",
        f"{CELLS}test_cells.py",
    ),
    # results
    Mutant(
        "toolkit/results/opening.py",
        'for dim, index in (("record", "step"), ("evaluation", "evaluation_step")):',
        'for dim, index in (("record", "step"),):',
        "tests/results/test_opening.py",
    ),
    Mutant(
        "toolkit/results/opening.py",
        "if not 1 <= version <= schema.SCHEMA_VERSION:",
        "if not 1 <= version:",
        "tests/results/test_files.py",
    ),
    Mutant(
        "toolkit/results/foreign.py",
        "if item.is_virtual or item.external:",
        "if item.external:",
        "tests/results/test_foreign.py",
    ),
    Mutant(
        "toolkit/results/foreign.py",
        'codec.get("name") not in _CODECS',
        "False",
        "tests/results/test_foreign.py",
    ),
    Mutant(
        "toolkit/results/stream.py",
        "half = np.uint32((1 << dropped) >> 1)",
        "half = np.uint32(0)",
        "tests/results/test_stream.py",
    ),
    Mutant(
        "toolkit/results/grid.py",
        "if there != sweep:",
        "if not there:",
        "tests/results/test_grid.py tests/training/test_sweeps.py",
    ),
    # training
    Mutant(
        "toolkit/training/layers/convolution.py",
        "return rows[start - first * each : stop - first * each]",
        "return rows[: stop - start]",
        "tests/training/test_layers.py",
    ),
    Mutant(
        "toolkit/training/layers/updates.py",
        "self._samples(streamed=bits is None)",
        "self._samples(streamed=False)",
        "tests/training/test_memory.py",
    ),
    Mutant(
        "toolkit/training/layers/convolution.py",
        "between = [step * s for step, s in zip(along, self.stride, strict=True)]",
        "between = along",
        "tests/training/test_layers_of_all_kinds.py",
    ),
    Mutant(
        "toolkit/training/layers/convolution_adapters.py",
        "            return list(self.more)",
        "            return [0 for _ in self.more]",
        "tests/training/test_layers_of_all_kinds.py",
    ),
    Mutant(
        "toolkit/training/layers/adapters.py",
        "sums[found == self.padding] = 0.0",
        "pass",
        "tests/training/test_layers_of_all_kinds.py",
    ),
    Mutant(
        "toolkit/training/layers/expansions.py",
        "i, f, g, o = (inputs + hidden).chunk(4, dim=1)",
        "f, i, g, o = (inputs + hidden).chunk(4, dim=1)",
        "tests/training/test_layers_of_several_matrices.py",
    ),
    Mutant(
        "toolkit/training/layers/expansions.py",
        "capture.positions = len(sizes)",
        "pass",
        "tests/training/test_layers_of_several_matrices.py",
    ),
    Mutant(
        "toolkit/training/layers/expansions.py",
        "n if len(n) == len(s) else torch.cat([n, s[len(n) :]])",
        "n if len(n) == len(s) else torch.cat([n, 0 * s[len(n) :]])",
        "tests/training/test_layers_of_several_matrices.py",
    ),
    Mutant(
        "toolkit/training/layers/updates.py",
        "past = (velocity.left * (momentum * velocity.sigma)).to(left)",
        "past = (velocity.left * velocity.sigma).to(left)",
        "tests/training/test_optimiser.py",
    ),
    Mutant(
        "toolkit/training/layers/updates.py",
        "wanted *= self.capture.positions",
        "wanted *= 1",
        "tests/training/test_networks.py",
    ),
    Mutant(
        "toolkit/training/experiment/series.py",
        "self._rows[: self._kept : 2]",
        "self._rows[1 : self._kept + 1 : 2]",
        "tests/dashboards/test_snapshot.py tests/training/test_recorder.py",
    ),
    Mutant(
        "toolkit/training/experiment/run.py",
        "self._earlier_pulses = self.pulses\n",
        "pass\n",
        "tests/training/test_experiment.py",
    ),
    # addresses
    Mutant(
        "dashboards/app/settings_text.py",
        "for n, text in asked.items() if n.startswith(prefix)}",
        "for n, text in asked.items()}",
        "tests/dashboards/test_state.py",
    ),
    Mutant(
        "dashboards/app/settings_text.py",
        "if weights > MAX_WEIGHTS:",
        "if weights > 1000 * MAX_WEIGHTS:",
        "tests/dashboards/test_state.py tests/dashboards/test_playground.py",
    ),
    Mutant(
        "dashboards/app/site.py",
        'return "/" if key == next(iter(pages())) else key',
        "return key",
        "tests/dashboards/test_site.py",
    ),
    # exercises
    Mutant(
        "toolkit/teaching/checks/spectra.py",
        "        relative=1e-2,",
        "        relative=1,",
        "tests/teaching/test_spectra.py",
    ),
    Mutant(
        "toolkit/teaching/checks/spectra.py",
        '(9, "A rank of 10',
        '(9, 10, "A rank of 10',
        "tests/teaching/test_spectra.py",
    ),
    Mutant(
        "toolkit/teaching/checks/sbpca.py",
        "if not close(right, expected[2]):",
        "if False:",
        "tests/teaching/test_sbpca.py",
    ),
    Mutant(
        "toolkit/teaching/checks/sbpca.py",
        '(expected[1], "To rounding',
        '(sigma, "To rounding',
        "tests/teaching/test_sbpca.py",
    ),
    # the teacher's pack
    Mutant(
        "toolkit/teaching/pack.py",
        "markdown2html(_questions(answers=False))",
        "markdown2html(_questions())",
        "tests/teaching/test_pack.py",
    ),
    Mutant(
        "toolkit/teaching/course/questions.yaml",
        'answer: "255"',
        'answer: "127"',
        "tests/teaching/test_pack.py",
    ),
    Mutant(
        "toolkit/teaching/stepping.py",
        "errors[:read] * (BATCH / read)",
        "errors[:read]",
        "tests/teaching/test_stepping.py",
    ),
    Mutant(
        "toolkit/teaching/stepping.py",
        "phase.written - phase.wanted",
        "phase.written - write.wanted",
        "tests/teaching/test_stepping.py",
    ),
    # measured tables
    Mutant(
        "toolkit/fitting/columns.py",
        "readings = 1.0 / readings",
        "readings = 1e-12 * readings",
        TABLES,
    ),
    Mutant(
        "toolkit/fitting/trains.py",
        "| missing | missing.shift(fill_value=False)",
        "",
        TABLES,
    ),
    Mutant(
        "toolkit/fitting/trains.py",
        "far[:-1] & far[1:] & (moves[:-1] * moves[1:] < 0.0)",
        "far[:-1]",
        TABLES,
    ),
    Mutant(
        "toolkit/fitting/headers.py",
        'return Unit(quantity, 1e6 if prefix == "M" else 1e9)',
        "return Unit(quantity, 1e9)",
        TABLES,
    ),
    Mutant(
        "toolkit/fitting/turns.py",
        "runs[1:] += ",
        "runs[1:] += 0.0 * ",
        TABLES,
    ),
    Mutant(
        "toolkit/fitting/formula_fit.py",
        "_WIDTH = 1e-5",
        "_WIDTH = 1e-9",
        "tests/fitting/test_fit.py",
    ),
    Mutant(
        "toolkit/fitting/formula_fit.py",
        "best, error = self._gain(values, own, used)\n        if",
        "best, error = gain, 0.0\n        if",
        "tests/fitting/test_fit_errors.py",
    ),
    Mutant(
        "toolkit/fitting/formula_fit.py",
        "np.cov(traits, rowvar=False) / len(own)",
        "np.cov(traits, rowvar=False)",
        "tests/fitting/test_fit_errors.py",
    ),
    # own data, devices and cells
    Mutant(
        "toolkit/training/experiment/objective.py",
        "len(labels) - squares / self._spreads[part] if",
        "len(labels) - squares if",
        "tests/training/test_objective.py",
    ),
    Mutant(
        "toolkit/training/data/labels.py",
        "names = train.order or test.order or",
        "names =",
        "tests/training/test_own_data.py",
    ),
    Mutant(
        "toolkit/training/experiment/experiment.py",
        'knobs["device"] = _stored_device(stored, knobs.get("device"))',
        'knobs.setdefault("device", _stored_device(stored, None))',
        "tests/training/test_own_devices.py",
    ),
    Mutant(
        "toolkit/crossbar/devices/responses.py",
        "return count * slope",
        "return torch.log1p(count * slope)",
        "tests/crossbar/test_no_granularity.py",
    ),
    Mutant(
        "toolkit/crossbar/devices/cell_map.py",
        "(old_low * width - low)",
        "(old_low * width)",
        "tests/crossbar/test_cell_map.py",
    ),
    Mutant(
        "toolkit/crossbar/programming.py",
        "{g + width!r}",
        "{g!r}",
        "tests/crossbar/test_chip_files.py",
    ),
    # algorithms and the atlas
    Mutant(
        "toolkit/crossbar/composites/chopped.py",
        "found = values * self._signs[chosen].to(values)[:, None]",
        "found = values",
        "tests/crossbar/test_chopped.py",
    ),
    Mutant(
        "toolkit/crossbar/composites/agad.py",
        "(values - past)",
        "(values - mean)",
        "tests/crossbar/test_chopped.py",
    ),
    Mutant(
        "toolkit/crossbar/composites/ensemble.py",
        "array.read_transposed(signal * each)",
        "array.read_transposed(signal)",
        "tests/crossbar/test_ensemble.py",
    ),
    Mutant(
        "toolkit/training/landscape.py",
        "return drawn * ratio",
        "return drawn * ratio.mean() + 0 * ratio",
        "tests/training/test_landscape.py",
    ),
    Mutant(
        "toolkit/training/experiment/physics.py",
        '"device", "algorithm", "buffer_rank"',
        '"device", "algorithm"',
        "tests/training/test_algorithms.py",
    ),
    Mutant(
        "toolkit/reproduce/atlas.py",
        "if algorithm != SINGLE:",
        "if algorithm:",
        "tests/reproduce/test_atlas.py",
    ),
    Mutant(
        "toolkit/reproduce/atlas.py",
        "found[best].mean - NEAR",
        "found[best].mean",
        "tests/reproduce/test_atlas.py",
    ),
    Mutant(
        "toolkit/plots/atlas.py",
        "-points[name][1])",
        "points[name][1])",
        "tests/plots/test_atlas.py",
    ),
    Mutant(
        "toolkit/training/live/process.py",
        "if 0 < self._joined <= snapshot.answered",
        "if 0 < self._joined < snapshot.answered",
        "tests/training/test_live_process.py",
    ),
    Mutant(
        "toolkit/training/live/process.py",
        "worked / share - took",
        "worked - took",
        "tests/training/test_live_process.py",
    ),
    Mutant(
        "toolkit/training/live/process.py",
        "    elif limit:",
        "    elif not limit:",
        "tests/training/test_live_process.py",
    ),
]
