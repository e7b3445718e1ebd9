"""Layers with several matrices as linear layers that compute the same: recurrent ones, attention.

Each part is a linear layer that is converted like any other; how they are put together is digital.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from toolkit.checks import check_instance
from toolkit.training.layers.adapters import InPlaceOf, filled
from toolkit.training.layers.capture import hollow
from toolkit.training.layers.modules import capture_of

State = tuple[Tensor, ...]


class Expansion(InPlaceOf):
    """One of torch's layers, its matrices as linear layers; it is called in the same way."""

    kinds: ClassVar[tuple[type[nn.Module], ...]] = ()
    template: nn.Module

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(hollow(layer))
        self.training = layer.training

    def values(self) -> dict[str, Tensor | None]:
        """The present weights by the names of torch's layer."""
        raise NotImplementedError

    def merged(self) -> nn.Module:
        """Torch's layer with the weights of the parts."""
        with torch.enable_grad():
            values = self.values()
        made = filled(self.template, values)
        for name, value in values.items():
            if value is not None:
                made.get_parameter(name).requires_grad_(value.requires_grad)
        return made.train(self.training)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        if any(
            prefix + name in state_dict
            for name in {*self.template._parameters} - {*self._parameters}
        ):
            rest[-1].append(
                f"layer {prefix[:-1]!r} is on arrays, and the state is of torch's own layer: load "
                "it before to_crossbar."
            )
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _add(self, name: str, weight: Tensor, bias: Tensor | None) -> None:
        """A part that holds these weights, without a copy."""
        outputs, inputs = weight.shape
        part = nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
        part.weight = _parameter(weight)
        if bias is not None:
            part.bias = _parameter(bias)
        self.add_module(name, part.train(self.training))


class Recurrent(Expansion):
    r"""LSTM, GRU and RNN, step by step.

    For each layer and direction ``ih_l0`` (all gates, inputs) reads the whole sequence and
    ``hh_l0`` (all gates, hidden) reads once a step; an LSTM with ``proj_size`` has ``hr_l0``:

    .. math:: i, f, g, o = W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh}, \quad
              c_t = \sigma(f) c_{t-1} + \sigma(i) \tanh g, \quad h_t = \sigma(o) \tanh c_t

    and as in :class:`torch.nn.GRU` and :class:`torch.nn.RNN`. A block of the estimators counts
    sequences: each is as many samples as it has steps.
    """

    kinds = (nn.LSTM, nn.GRU, nn.RNN)

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__(layer)
        ends = ("", "_reverse") if layer.bidirectional else ("",)
        self._places = [[f"l{i}{end}" for end in ends] for i in range(layer.num_layers)]
        for names in layer._all_weights:
            for name in names:
                if name.startswith("weight_"):
                    bias = getattr(layer, name.replace("weight_", "bias_"), None)
                    self._add(name.removeprefix("weight_"), getattr(layer, name), bias)

    def values(self) -> dict[str, Tensor | None]:
        """The gates of every layer and direction."""
        return {
            f"{kind}_{name}": getattr(part, kind)
            for name, part in self.named_children()
            for kind in ("weight", "bias")
        }

    def flatten_parameters(self) -> None:
        """Do nothing: arrays have a memory of their own."""

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        """As torch's layer: outputs, and the state after the last step."""
        if isinstance(input, PackedSequence):
            state = self._state(hx, int(input.batch_sizes[0]), input.data, input.sorted_indices)
            data, state = self._run(input.data, input.batch_sizes.tolist(), state)
            return input._replace(data=data), self._given(state, input.unsorted_indices)
        check_instance("input", input, Tensor, "a torch.Tensor or a PackedSequence")
        if input.ndim not in (2, 3) or input.shape[-1] != self.input_size:
            order = "batch, steps" if self.batch_first else "steps, batch"
            raise ValueError(
                f"input must be ({order}, {self.input_size}) or (steps, {self.input_size}); "
                f"got {tuple(input.shape)}"
            )
        steps = input[:, None] if input.ndim == 2 else input
        across = self.batch_first and input.ndim == 3
        steps = steps.transpose(0, 1) if across else steps
        count, batch = steps.shape[:2]
        if hx is not None and input.ndim == 2:
            hx = tuple(h[:, None] for h in hx) if isinstance(hx, tuple) else hx[:, None]
        data, state = self._run(
            steps.flatten(0, 1), [batch] * count, self._state(hx, batch, steps, None)
        )
        outputs = data.view(count, batch, -1)
        outputs = outputs.transpose(0, 1) if across else outputs
        if input.ndim == 2:
            return outputs[:, 0], self._given(tuple(s[:, 0] for s in state), None)
        return outputs, self._given(state, None)

    def _state(self, hx: Any, batch: int, like: Tensor, order: Tensor | None) -> State:
        """(layers x directions, batch, size) of h and, in an LSTM, c; zeros if none are given."""
        sizes = [self.proj_size or self.hidden_size]
        sizes += [self.hidden_size] * isinstance(self.template, nn.LSTM)
        places = sum(map(len, self._places))
        if hx is None:
            dtype = next(self.parameters()).dtype  # of the arrays, under autocast too
            return tuple(like.new_zeros(places, batch, size, dtype=dtype) for size in sizes)
        state = hx if isinstance(hx, tuple) else (hx,)
        shapes = [(places, batch, size) for size in sizes]
        if [tuple(s.shape) for s in state] != shapes:
            got = ", ".join(str(tuple(s.shape)) for s in state)
            raise ValueError(f"hx must have shape {', '.join(map(str, shapes))}; got {got}")
        return state if order is None else tuple(s.index_select(1, order) for s in state)

    def _given(self, state: State, order: Tensor | None) -> Any:
        """The state in the caller's order and form."""
        if order is not None:
            state = tuple(s.index_select(1, order) for s in state)
        return state if isinstance(self.template, nn.LSTM) else state[0]

    def _run(self, data: Tensor, sizes: Sequence[int], state: State) -> tuple[Tensor, State]:
        """All layers over all steps, one below the other, of ``sizes`` sequences each."""
        finals: list[State] = []
        for i, places in enumerate(self._places):
            if i and self.dropout:
                data = functional.dropout(data, self.dropout, self.training)
            found = []
            for place in places:
                before = tuple(s[len(finals)] for s in state)
                outputs, final = self._scan(place, data, sizes, before)
                found.append(outputs)
                finals.append(final)
            data = torch.cat(found, dim=1)
        return data, tuple(torch.stack(each) for each in zip(*finals, strict=True))

    def _scan(
        self, place: str, data: Tensor, sizes: Sequence[int], state: State
    ) -> tuple[Tensor, State]:
        """One layer in one direction. Sequences that have ended, or not begun, keep their state."""
        inputs = getattr(self, f"ih_{place}")(data).split(list(sizes))
        steps = range(len(sizes))
        found: dict[int, Tensor] = {}
        for t in reversed(steps) if place.endswith("_reverse") else steps:
            running = tuple(s[: sizes[t]] for s in state)
            new = self._step(place, inputs[t], running)
            found[t] = new[0]
            state = tuple(
                n if len(n) == len(s) else torch.cat([n, s[len(n) :]])
                for n, s in zip(new, state, strict=True)
            )
        for kind in ("ih", "hh", "hr"):
            capture = capture_of(self._modules.get(f"{kind}_{place}"))
            if capture is not None:
                capture.positions = len(sizes)
        return torch.cat([found[t] for t in steps]), state

    def _step(self, place: str, inputs: Tensor, state: State) -> State:
        hidden = getattr(self, f"hh_{place}")(state[0])
        if isinstance(self.template, nn.LSTM):
            i, f, g, o = (inputs + hidden).chunk(4, dim=1)
            cell = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
            outputs = o.sigmoid() * cell.tanh()
            if self.proj_size:
                outputs = getattr(self, f"hr_{place}")(outputs)
            return outputs, cell
        if isinstance(self.template, nn.GRU):
            (r, z, n), (by_r, by_z, by_n) = inputs.chunk(3, dim=1), hidden.chunk(3, dim=1)
            kept = (z + by_z).sigmoid()
            return (kept * state[0] + (1 - kept) * (n + (r + by_r).sigmoid() * by_n).tanh(),)
        total = inputs + hidden
        return (total.tanh() if self.nonlinearity == "tanh" else total.relu(),)


class Attention(Expansion):
    r"""MultiheadAttention with ``q_proj``, ``k_proj``, ``v_proj`` and ``out_proj``.

    .. math:: y = W_o\, \mathrm{softmax}(Q K^T / \sqrt{d} + M)\, V

    for each head of width d, with M the masks.
    """

    kinds = (nn.MultiheadAttention,)
    in_proj_bias = None  # what an encoder layer asks for before it would read weights itself

    def __init__(self, layer: nn.MultiheadAttention) -> None:
        super().__init__(layer)
        together = layer.in_proj_weight
        weights = (
            together.chunk(3)
            if together is not None
            else (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
        )
        biases = (None,) * 3 if layer.in_proj_bias is None else layer.in_proj_bias.chunk(3)
        for name, weight, bias in zip("qkv", weights, biases, strict=True):
            self._add(f"{name}_proj", weight, bias)
        self._add("out_proj", layer.out_proj.weight, layer.out_proj.bias)
        for name in ("bias_k", "bias_v"):
            if (row := getattr(layer, name)) is not None:
                self.register_parameter(name, _parameter(row.clone()))

    def values(self) -> dict[str, Tensor | None]:
        """Projections, and the rows of ``add_bias_kv``."""
        parts = [self.q_proj, self.k_proj, self.v_proj]
        weights = [part.weight for part in parts]
        names = ["q_proj_weight", "k_proj_weight", "v_proj_weight"]
        found: dict[str, Tensor | None] = dict(zip(names, weights, strict=True))
        if self._qkv_same_embed_dim:
            found = {"in_proj_weight": torch.cat(weights)}
        if parts[0].bias is not None:
            found["in_proj_bias"] = torch.cat([part.bias for part in parts])
        found |= {"out_proj.weight": self.out_proj.weight, "out_proj.bias": self.out_proj.bias}
        return found | {"bias_k": self.bias_k, "bias_v": self.bias_v}

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As torch's layer: outputs, and the attention if ``need_weights``."""
        if is_causal and attn_mask is None:
            raise ValueError("attn_mask must be given where is_causal=True; got None")
        has_batch, across = query.ndim == 3, not self.batch_first
        rows = [_batch_first(x, has_batch, across) for x in (query, key, value)]
        parts = (self.q_proj, self.k_proj, self.v_proj)
        queries, keys, values = (part(x) for part, x in zip(parts, rows, strict=True))
        mask = self._mask(attn_mask, key_padding_mask, keys)
        keys, values, mask = self._with_more_rows(keys, values, mask)
        q, k, v = (self._heads(x) for x in (queries, keys, values))
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.transpose(2, 3) / math.sqrt(self.head_dim)
            weights = (scores if mask is None else scores + mask).softmax(-1)
            weights = functional.dropout(weights, dropout) if dropout else weights
            mixed = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if has_batch else weights[0]
        else:
            mixed = functional.scaled_dot_product_attention(q, k, v, mask, dropout)
        outputs = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if not has_batch:
            return outputs[0], weights
        return (outputs.transpose(0, 1) if across else outputs), weights

    def _heads(self, rows: Tensor) -> Tensor:
        """(batch, heads, tokens, width)."""
        return rows.unflatten(2, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _mask(
        self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, keys: Tensor
    ) -> Tensor | None:
        """What is added to the scores (batch, heads, queries, keys)."""
        total = None
        if attn_mask is not None:
            total = _added(attn_mask, keys)
            if attn_mask.ndim == 3:
                total = total.view(len(keys), self.num_heads, *attn_mask.shape[1:])
        if key_padding_mask is not None:
            padding = _added(key_padding_mask, keys).view(len(keys), 1, 1, -1)
            total = padding if total is None else total + padding
        return total

    def _with_more_rows(
        self, keys: Tensor, values: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The rows of ``add_bias_kv`` and ``add_zero_attn``, which no mask hides."""
        pairs = [] if self.bias_k is None else [(self.bias_k, self.bias_v)]
        if self.add_zero_attn:
            pairs.append((keys.new_zeros(1, 1, keys.shape[2]),) * 2)
        for pair in pairs:
            keys, values = (
                torch.cat([rows, row.to(rows).expand(len(rows), 1, -1)], dim=1)
                for rows, row in zip((keys, values), pair, strict=True)
            )
            mask = None if mask is None else functional.pad(mask, (0, 1))
        return keys, values, mask


EXPANSIONS: tuple[type[Expansion], ...] = (Recurrent, Attention)


def expansion_kind(layer: nn.Module) -> tuple[type[Expansion], type] | None:
    """What expands a layer, and torch's class that it is of; None if nothing does."""
    pairs: Iterable[tuple[type[Expansion], type]] = (
        (expansion, kind) for expansion in EXPANSIONS for kind in expansion.kinds
    )
    return next((pair for pair in pairs if isinstance(layer, pair[1])), None)


def _parameter(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach(), requires_grad=values.requires_grad)


def _batch_first(rows: Tensor, has_batch: bool, across: bool) -> Tensor:
    if not has_batch:
        return rows[None]
    return rows.transpose(0, 1) if across else rows


def _added(mask: Tensor, like: Tensor) -> Tensor:
    """A mask as what is added to scores: minus infinity where a boolean one is True."""
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, -math.inf)
