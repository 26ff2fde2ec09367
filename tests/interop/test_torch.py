"""The modules of `fastrnn.interop.torch` are PyTorch's in everything but the kernels."""

import copy
import io
import logging
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastrnn as fr

torch = pytest.importorskip("torch")

from torch.autograd import forward_ad, gradcheck, gradgradcheck  # noqa: E402
from torch.nn.utils import parametrizations, prune, rnn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from fastrnn.interop import torch as ours  # noqa: E402
from fastrnn.interop.torch import scan as scan_module  # noqa: E402
from fastrnn.interop.torch import threads  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]

LAYERS = {
    "RNN_TANH": (torch.nn.RNN, {}),
    "RNN_RELU": (torch.nn.RNN, {"nonlinearity": "relu"}),
    "LSTM": (torch.nn.LSTM, {}),
    "LSTM_PROJECTED": (torch.nn.LSTM, {"proj_size": 2}),
    "GRU": (torch.nn.GRU, {}),
}
CELLS = {
    "RNN_TANH": (torch.nn.RNNCell, {}),
    "RNN_RELU": (torch.nn.RNNCell, {"nonlinearity": "relu"}),
    "LSTM": (torch.nn.LSTMCell, {}),
    "GRU": (torch.nn.GRUCell, {}),
}
CLASSES = [
    (torch.nn.RNN, ours.RNN),
    (torch.nn.LSTM, ours.LSTM),
    (torch.nn.GRU, ours.GRU),
    (torch.nn.RNNCell, ours.RNNCell),
    (torch.nn.LSTMCell, ours.LSTMCell),
    (torch.nn.GRUCell, ours.GRUCell),
]
# Of any output or gradient, relative to the largest element expected.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4}

layer_kinds = pytest.mark.parametrize("kind", LAYERS)
cell_kinds = pytest.mark.parametrize("kind", CELLS)


def pair(kind, *sizes, table=LAYERS, **options):
    """Return a module of PyTorch's and its accelerated copy."""
    torch.manual_seed(0)
    original, own = table[kind]
    theirs = original(*sizes, **({"dtype": torch.float64} | own | options))
    return theirs, ours.accelerate(copy.deepcopy(theirs))


def tensors(result):
    """Return all tensors in what a module returns or is given."""
    if isinstance(result, rnn.PackedSequence):
        return [result.data]
    if isinstance(result, torch.Tensor):
        return [result]
    return [t for part in result for t in tensors(part)] if result is not None else []


def assert_same(actual, expected):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected):
        if a is None or b is None:
            assert a is b
            continue
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        a, b, limit = a.numpy(force=True), b.numpy(force=True), TOLERANCES[b.dtype]
        assert np.max(np.abs(a - b), initial=0) <= limit * np.max(np.abs(b), initial=1)


def uses_kernels(result):
    return {type(t.grad_fn).__name__ for t in tensors(result)} >= {"_ScanBackward"}


def run(module, arguments, seed=1):
    """Return outputs, and gradients of every leaf, for random gradients of the outputs."""
    torch.manual_seed(seed)
    result = module(*arguments)
    outputs = tensors(result)
    leaves = [t for t in tensors(arguments) if t.requires_grad] + list(module.parameters())
    generator = torch.Generator().manual_seed(2)
    d_outputs = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in outputs]
    gradients = torch.autograd.grad(outputs, leaves, d_outputs, allow_unused=True)
    return result, gradients


def assert_alike(theirs, accelerated, arguments):
    """Compare outputs and all gradients of one call, which must run on the kernels."""
    expected, d_expected = run(theirs, arguments)
    actual, d_actual = run(accelerated, arguments)
    assert uses_kernels(actual) or any(
        "Select" in type(t.grad_fn).__name__ for t in tensors(actual)
    )
    assert_same(tensors(actual), tensors(expected))
    assert_same(d_actual, d_expected)


@st.composite
def layer_calls(draw):
    """A layer's kind and options, and the arguments of a call."""
    kind = draw(st.sampled_from(sorted(LAYERS)))
    layers = draw(st.integers(1, 3))
    options = {
        "num_layers": layers,
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
        "dropout": draw(st.sampled_from([0.0, 0.4, 1.0])) if layers > 1 else 0.0,
        "dtype": draw(st.sampled_from(list(TOLERANCES))),
    }
    I, H = draw(st.integers(1, 6)), draw(st.integers(3, 9))
    T, B = draw(st.integers(1, 7)), draw(st.integers(1, 6))
    form = draw(st.sampled_from(["batch", "strided", "unbatched", "packed", "unsorted"]))
    dtype, leaf = options["dtype"], draw(st.booleans())

    def random(*shape):
        return torch.randn(shape, dtype=dtype, requires_grad=leaf)

    torch.manual_seed(draw(st.integers(0, 1000)))
    if form == "unbatched":
        x = random(T, I)
    elif form in ("packed", "unsorted"):
        lengths = draw(st.lists(st.integers(1, T), min_size=B, max_size=B))
        lengths = sorted(lengths, reverse=True) if form == "packed" else lengths
        padded = random(B, T, I)
        x = rnn.pack_padded_sequence(
            padded, lengths, batch_first=True, enforce_sorted=form == "packed"
        )
        if leaf:
            x.data.retain_grad()
    else:
        x = random(B, T, I) if options["batch_first"] else random(T, B, I)
        if form == "strided":
            x = random(*reversed(x.shape)).permute(2, 1, 0)
    hx = None
    if draw(st.booleans()):
        passes = layers * (2 if options["bidirectional"] else 1)
        leading = (passes,) if form == "unbatched" else (passes, B)
        hx = random(*leading, 2 if kind == "LSTM_PROJECTED" else H)
        hx = (hx, random(*leading, H)) if kind.startswith("LSTM") else hx
    return kind, I, H, options, (x, hx)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(layer_calls())
def test_random_layers_are_pytorchs(case):
    kind, I, H, options, arguments = case
    theirs, accelerated = pair(kind, I, H, **options)
    assert_alike(theirs, accelerated, arguments)
    with torch.no_grad():
        actual = accelerated.eval()(*arguments)
        assert_same(tensors(actual), tensors(theirs.eval()(*arguments)))
    assert all(t.grad_fn is None for t in tensors(actual))


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(sorted(CELLS)),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    B=st.one_of(st.none(), st.integers(1, 9)),
    bias=st.booleans(),
    state=st.booleans(),
    dtype=st.sampled_from(list(TOLERANCES)),
)
def test_random_cells_are_pytorchs(kind, sizes, B, bias, state, dtype):
    theirs, accelerated = pair(kind, *sizes, table=CELLS, bias=bias, dtype=dtype)
    leading = () if B is None else (B,)
    x, h, c = (
        torch.randn(*leading, width, dtype=dtype, requires_grad=True)
        for width in (sizes[0], sizes[1], sizes[1])
    )
    hx = None if not state else (h, c) if kind == "LSTM" else h
    assert_alike(theirs, accelerated, (x, hx))


def test_reference_backend_gives_the_same():
    theirs, accelerated = pair("LSTM_PROJECTED", 3, 4, 2, bidirectional=True)
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    with fr.use_backend("reference"):
        assert_alike(theirs, accelerated, (x,))


@layer_kinds
@pytest.mark.parametrize("packed", [False, True])
def test_gradients_and_their_gradients_by_finite_differences(kind, packed):
    """Along random directions in the input, the state and the parameters."""
    _, layer = pair(kind, 2, 3, 2, bidirectional=True, batch_first=True)
    x = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    widths = [layer.proj_size or 3, 3] if isinstance(layer, torch.nn.LSTM) else [3]
    state = [torch.randn(4, 2, n, dtype=torch.float64, requires_grad=True) for n in widths]
    names, parameters = zip(*layer.named_parameters())

    def call(x, *others):
        if packed:
            x = rnn.pack_padded_sequence(x, [3, 2], batch_first=True)
        hx, given = others[: len(state)], dict(zip(names, others[len(state) :]))
        arguments = (x, hx if len(hx) > 1 else hx[0])
        return tuple(tensors(torch.func.functional_call(layer, given, arguments)))

    leaves = (x, *state, *parameters)
    assert gradcheck(call, leaves, fast_mode=True)
    assert gradgradcheck(call, leaves, fast_mode=True)


@cell_kinds
def test_gradients_of_gradients_of_cells_by_finite_differences(kind):
    _, cell = pair(kind, 2, 3, table=CELLS)
    x, h = (torch.randn(2, n, dtype=torch.float64, requires_grad=True) for n in (2, 3))

    def call(x, h):
        return tuple(tensors(cell(x, (h, h) if kind == "LSTM" else h)))

    assert gradcheck(call, (x, h))
    assert gradgradcheck(call, (x, h))


@layer_kinds
def test_gradient_penalty_is_pytorchs(kind):
    def penalty(layer):
        torch.manual_seed(3)
        x = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(4, 3, 2).requires_grad_()
        # States made from the input, and one tensor twice: gradients must not be counted twice.
        h = x.sum(dim=(0, 2))[:, None].repeat(2, 1, layer.proj_size or layer.hidden_size)
        hx = h
        if isinstance(layer, torch.nn.LSTM):
            hx = (h, h if not layer.proj_size else h.repeat(1, 1, 2))
        output, _ = layer(x, hx)
        (d_x,) = torch.autograd.grad(output.square().sum(), x, create_graph=True)
        d_x.square().sum().backward()
        return [x.grad, *[p.grad for p in layer.parameters()]]

    theirs, accelerated = pair(kind, 2, 4, 2, dropout=0.5)
    assert_same(penalty(accelerated), penalty(theirs))


def test_second_backward_through_a_retained_graph_has_the_same_masks():
    _, layer = pair("LSTM", 3, 4, 3, dropout=0.5)
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    leaves = [x, *layer.parameters()]
    loss = layer(x)[0].square().sum()
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    again = torch.autograd.grad(loss, leaves, retain_graph=True)
    with_graph = torch.autograd.grad(loss, leaves, create_graph=True)
    assert_same(again, first)
    assert_same(with_graph, first)


def test_freed_graph_is_refused():
    _, layer = pair("GRU", 3, 4)
    loss = layer(torch.randn(5, 2, 3, dtype=torch.float64))[0].sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@pytest.mark.parametrize("changed", ["input", "weight_hh_l0"])
def test_backward_after_a_change_in_place_is_refused(changed):
    _, layer = pair("GRU", 3, 4)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    loss = layer(x)[0].sum()
    with torch.no_grad():
        (x if changed == "input" else layer.weight_hh_l0).mul_(2)
    with pytest.raises(RuntimeError, match="inplace"):
        loss.backward()


def test_outputs_may_be_changed_in_place():
    def changed(layer):
        x = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(4, 3, 2)
        output, h = layer(x)
        output.mul_(2)
        h.add_(output[:, -1])
        h.sum().backward()
        return [p.grad for p in layer.parameters()]

    theirs, accelerated = pair("GRU", 2, 4, batch_first=True)
    assert_same(changed(accelerated), changed(theirs))


def test_one_layer_twice_in_several_live_graphs():
    def gradients(layer):
        xs = torch.linspace(-1, 1, 36, dtype=torch.float64).reshape(3, 4, 1, 3)
        losses = [layer(layer(x)[0])[0].sum() for x in xs]
        for loss in reversed(losses):
            loss.backward()
        return [p.grad for p in layer.parameters()]

    theirs, accelerated = pair("LSTM", 3, 3)
    assert_same(gradients(accelerated), gradients(theirs))


def test_shared_weights():
    def gradients(layer):
        layer.weight_hh_l1 = layer.weight_ih_l1 = layer.weight_hh_l0
        layer(torch.ones(2, 2, 3, dtype=torch.float64))[0].sum().backward()
        return [p.grad for p in layer.parameters()]

    theirs, accelerated = pair("GRU", 3, 4, 2)
    assert_same(gradients(accelerated), gradients(theirs))


def test_frozen_weights_get_no_gradient():
    theirs, accelerated = pair("LSTM", 3, 4)
    for layer in (theirs, accelerated):
        layer.weight_ih_l0.requires_grad_(False)
        layer.bias_hh_l0.requires_grad_(False)
        layer(torch.ones(2, 2, 3, dtype=torch.float64))[1][1].sum().backward()
    assert accelerated.weight_ih_l0.grad is None
    assert_same([p.grad for p in accelerated.parameters()], [p.grad for p in theirs.parameters()])


def test_state_alone_may_want_a_gradient():
    theirs, accelerated = pair("RNN_TANH", 3, 4)
    gradients = []
    for layer in (theirs, accelerated):
        layer.requires_grad_(False)
        h = torch.ones(1, 2, 4, dtype=torch.float64, requires_grad=True)
        layer(torch.ones(2, 2, 3, dtype=torch.float64), h)[0].sum().backward()
        gradients.append(h.grad)
    assert_same(gradients[1:], gradients[:1])


def test_nothing_flows_back_from_an_output_without_gradient():
    class Stop(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            return x + y

        @staticmethod
        def backward(ctx, d):
            return None, d

    _, layer = pair("GRU", 3, 4)
    x = torch.ones(2, 2, 3, dtype=torch.float64)
    for create_graph in (False, True):
        y = torch.ones(2, 2, 4, dtype=torch.float64, requires_grad=True)
        leaves = [y, layer.weight_hh_l0]
        loss = Stop.apply(layer(x)[0], y).sum()
        d_y, d_weight = torch.autograd.grad(
            loss, leaves, create_graph=create_graph, allow_unused=True
        )
        assert d_y is not None
        assert d_weight is None


@pytest.mark.parametrize("wanted", [0, 1])
def test_gradient_of_one_output_of_a_cell(wanted):
    gradients = []
    for cell in pair("LSTM", 3, 4, table=CELLS):
        x = torch.ones(2, 3, dtype=torch.float64)
        cell(x, cell(x))[wanted].sum().backward()
        gradients.append([p.grad for p in cell.parameters()])
    assert_same(*reversed(gradients))


def test_negative_views():
    theirs, accelerated = pair("GRU", 3, 4)
    x = torch.randn(5, 2, 3, dtype=torch.complex128).conj().imag
    assert x.is_neg()
    assert_same(tensors(accelerated(x)), tensors(theirs(x)))


def test_weights_that_are_not_contiguous():
    theirs, accelerated = pair("GRU", 3, 4)
    for layer in (theirs, accelerated):
        layer.weight_hh_l0 = torch.nn.Parameter(torch.eye(4, 12, dtype=torch.float64).t())
    assert_alike(theirs, accelerated, (torch.randn(5, 2, 3, dtype=torch.float64),))


def test_weights_and_rows_are_not_copied(monkeypatch):
    _, layer = pair("LSTM", 3, 4)
    backend, seen = fr.backends.active_backend(), {}

    class Recording:
        empty = staticmethod(backend.empty)
        scan_adjoints = staticmethod(backend.scan_adjoints)

        @staticmethod
        def scans(runs):
            seen.update(runs[0].weights, x=runs[0].x)
            return backend.scans(runs)

    monkeypatch.setattr(scan_module, "active_backend", lambda: Recording)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    packed = rnn.pack_padded_sequence(x, [5, 3])
    for call, rows in ((x, x), (packed, packed.data)):
        layer(call)
        assert seen["x"].ctypes.data == rows.data_ptr()
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            assert seen[name].ctypes.data == getattr(layer, name + "_l0").data_ptr()


def test_training_with_an_optimiser_made_before():
    def losses(swap):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Embedding(7, 5), torch.nn.GRU(5, 6, 2, dropout=0.3))
        optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
        if swap:
            ours.accelerate(model)
        ids = torch.randint(7, (8, 4))
        for _ in range(6):
            optimiser.zero_grad()
            loss = model(ids)[0].square().mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            yield loss.item()

    expected = list(losses(False))
    assert expected[-1] < expected[0]
    np.testing.assert_allclose(list(losses(True)), expected, rtol=1e-4)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_inference_makes_no_graph(context):
    theirs, accelerated = pair("LSTM", 3, 4)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    with context():
        actual, expected = tensors(accelerated(x)), tensors(theirs(x))
    assert [t.requires_grad for t in actual] == [False] * 3
    assert [t.is_inference() for t in actual] == [t.is_inference() for t in expected]
    assert_same(actual, expected)


def test_backward_in_several_threads():
    _, layer = pair("LSTM", 3, 4, 2)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    loss = layer(x)[0].sum()
    expected = torch.autograd.grad(loss, list(layer.parameters()), retain_graph=True)
    results = [None] * 4

    def backward(k):
        own = layer(x)[0].sum()
        results[k] = [
            torch.autograd.grad(graph, list(layer.parameters()), retain_graph=True)
            for graph in (loss, own)
        ]

    threads = [threading.Thread(target=backward, args=(k,)) for k in range(len(results))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for gradients in results:
        for actual in gradients:
            assert_same(actual, expected)


def test_hooks_see_the_module_and_its_gradients():
    _, layer = pair("GRU", 3, 4)
    seen = []
    layer.register_forward_hook(lambda module, given, output: seen.append(output[0].shape))
    layer.register_full_backward_hook(lambda module, d_in, d_out: seen.append(d_in[0].shape))
    layer.weight_hh_l0.register_hook(lambda d: d * 0)
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    layer(x)[0].sum().backward()
    assert seen == [(5, 2, 4), (5, 2, 3)]
    assert not layer.weight_hh_l0.grad.any()
    assert layer.weight_ih_l0.grad.any()


def test_anomaly_mode_names_what_failed():
    _, layer = pair("GRU", 3, 4)
    x = torch.full((5, 2, 3), torch.nan, dtype=torch.float64)
    with (
        pytest.warns(UserWarning, match="Anomaly Detection"),
        torch.autograd.detect_anomaly(),
        pytest.warns(UserWarning, match="_ScanBackward"),
        pytest.raises(RuntimeError, match="_ScanBackward"),
    ):
        layer(x)[0].sum().backward()


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing(reentrant):
    def gradients(layer, call):
        torch.manual_seed(5)
        x = torch.linspace(-1, 1, 30, dtype=torch.float64).reshape(5, 2, 3).requires_grad_()
        call(lambda x: layer(x)[0], x).square().sum().backward()
        return [x.grad, *[p.grad for p in layer.parameters()]]

    theirs, accelerated = pair("LSTM", 3, 4, 2, dropout=0.5)
    actual = gradients(accelerated, lambda f, x: checkpoint(f, x, use_reentrant=reentrant))
    assert_same(actual, gradients(theirs, lambda f, x: f(x)))


# ------------------------------------------------------------------ what stays PyTorch's own affair


@pytest.mark.parametrize(("original", "own"), CLASSES)
def test_constructor_and_attributes(original, own):
    torch.manual_seed(0)
    theirs = original(3, 4, dtype=torch.float64)
    torch.manual_seed(0)
    module = own(3, 4, dtype=torch.float64)
    assert isinstance(module, original)
    assert repr(module) == repr(theirs)
    assert_same(list(module.parameters()), list(theirs.parameters()))
    assert list(module.state_dict()) == list(theirs.state_dict())
    assert module.load_state_dict(theirs.state_dict()).missing_keys == []
    own_attributes = {k for k in vars(module) if k not in vars(theirs)}
    assert own_attributes == set()


@pytest.mark.parametrize(("original", "own"), CLASSES[:3])
def test_constructor_errors(original, own):
    cases = [
        {"num_layers": 0},
        {"hidden_size": 0},
        {"hidden_size": 4.0},
        {"dropout": 1.5},
        {"bias": 1},
        {"proj_size": 9},
        {"nonlinearity": "sigmoid"},
    ]
    for options in cases:
        with pytest.raises((TypeError, ValueError)) as expected:
            original(**({"input_size": 3, "hidden_size": 4} | options))
        with pytest.raises(type(expected.value)) as actual:
            own(**({"input_size": 3, "hidden_size": 4} | options))
        assert str(actual.value) == str(expected.value)
    with pytest.warns(UserWarning, match="num_layers greater than 1"):
        own(3, 4, dropout=0.5)


def state(layer, *shapes):
    states = tuple(torch.zeros(shape, dtype=torch.float64) for shape in shapes)
    return states if isinstance(layer, (torch.nn.LSTM, torch.nn.LSTMCell)) else states[0]


BAD_LAYER_CALLS = {
    "input width": lambda layer: (torch.zeros(5, 2, 2, dtype=torch.float64),),
    "input axes": lambda layer: (torch.zeros(5, 2, 3, 1, dtype=torch.float64),),
    "one axis": lambda layer: (torch.zeros(3, dtype=torch.float64),),
    "input dtype": lambda layer: (torch.zeros(5, 2, 3),),
    "integers": lambda layer: (torch.zeros(5, 2, 3, dtype=torch.int64),),
    "no steps": lambda layer: (torch.zeros(0, 2, 3, dtype=torch.float64),),
    "no steps of one sequence": lambda layer: (torch.zeros(0, 3, dtype=torch.float64),),
    "another device": lambda layer: (torch.zeros(5, 2, 3, dtype=torch.float64, device="meta"),),
    "state batch": lambda layer: (
        torch.zeros(5, 2, 3, dtype=torch.float64),
        state(layer, (1, 3, 4), (1, 3, 4)),
    ),
    "state width": lambda layer: (
        torch.zeros(5, 2, 3, dtype=torch.float64),
        state(layer, (1, 2, 5), (1, 2, 5)),
    ),
    "state axes": lambda layer: (
        torch.zeros(5, 2, 3, dtype=torch.float64),
        state(layer, (1, 4), (1, 4)),
    ),
    "state axes of one sequence": lambda layer: (
        torch.zeros(5, 3, dtype=torch.float64),
        state(layer, (1, 1, 4), (1, 1, 4)),
    ),
    "packed width": lambda layer: (rnn.pack_sequence([torch.zeros(3, 2, dtype=torch.float64)]),),
    "array": lambda layer: (np.zeros((5, 2, 3)),),
    "nothing": lambda layer: (None,),
}
BAD_CELL_CALLS = {
    "input width": lambda cell: (torch.zeros(2, 2, dtype=torch.float64),),
    "input axes": lambda cell: (torch.zeros(1, 2, 3, dtype=torch.float64),),
    "input dtype": lambda cell: (torch.zeros(2, 3),),
    "input batch": lambda cell: (
        torch.zeros(1, 3, dtype=torch.float64),
        state(cell, (2, 4), (2, 4)),
    ),
    "state batch": lambda cell: (
        torch.zeros(2, 3, dtype=torch.float64),
        state(cell, (1, 4), (2, 4)),
    ),
    "state width": lambda cell: (
        torch.zeros(2, 3, dtype=torch.float64),
        state(cell, (2, 1), (2, 4)),
    ),
    "state axes": lambda cell: (
        torch.zeros(2, 3, dtype=torch.float64),
        state(cell, (1, 2, 4), (1, 2, 4)),
    ),
}


@pytest.mark.parametrize("case", BAD_LAYER_CALLS)
@layer_kinds
def test_layer_errors_are_pytorchs(kind, case):
    assert_same_error(*pair(kind, 3, 4), BAD_LAYER_CALLS[case])


@pytest.mark.parametrize("case", BAD_CELL_CALLS)
@cell_kinds
def test_cell_errors_are_pytorchs(kind, case):
    assert_same_error(*pair(kind, 3, 4, table=CELLS), BAD_CELL_CALLS[case])


def test_other_nonlinearity_of_a_cell_is_refused_when_it_is_called():
    _, cell = pair("RNN_TANH", 3, 4, table=CELLS, nonlinearity="softplus")
    with pytest.raises(RuntimeError, match="Unknown nonlinearity: softplus"):
        cell(torch.zeros(2, 3, dtype=torch.float64))


def assert_same_error(theirs, accelerated, arguments):
    with pytest.raises(Exception) as expected:
        theirs(*arguments(theirs))
    with pytest.raises(type(expected.value)) as actual:
        accelerated(*arguments(accelerated))
    assert str(actual.value) == str(expected.value)


@pytest.mark.parametrize(
    "sizes", [[2, 2], [1, 4], [3, 3], [0, 5], [5, -1, 1], [3, 3, -1], [], [3.0, 2.0], [[3, 2]]]
)
def test_sizes_that_do_not_fit_packed_rows_are_pytorchs(sizes):
    outcomes = []
    for layer in pair("GRU", 3, 4):
        data = torch.ones(5, 3, dtype=torch.float64)
        try:
            outcomes.append(layer(rnn.PackedSequence(data, torch.tensor(sizes)))[0].data.tolist())
        except Exception as error:
            outcomes.append((type(error), str(error)))
    assert outcomes[0] == outcomes[1]


def test_cells_take_any_bias_that_is_true():
    theirs, accelerated = pair("RNN_TANH", 3, 4, table=CELLS, bias="yes")
    assert_alike(theirs, accelerated, (torch.ones(2, 3, dtype=torch.float64),))


@pytest.mark.parametrize("missing", [[], ["bias_ih"], ["bias_ih", "bias_hh"]])
def test_biases_of_cells_are_those_that_are_there(missing):
    theirs, accelerated = pair("GRU", 3, 4, table=CELLS)
    for cell in (theirs, accelerated):
        cell.bias = False  # which PyTorch does not look at
        for name in missing:
            setattr(cell, name, None)
    x = torch.ones(2, 3, dtype=torch.float64)
    assert_same([accelerated(x)], [theirs(x)])


@pytest.mark.parametrize(("table", "name"), [(LAYERS, "weight_hh_l0"), (CELLS, "weight_hh")])
def test_missing_weights_are_pytorchs_error(table, name):
    errors = []
    for module in pair("GRU", 3, 4, table=table):
        setattr(module, name, None)
        with pytest.raises(TypeError) as caught:
            module(torch.ones(2, 3, dtype=torch.float64))
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_attributes_may_be_changed_afterwards():
    theirs, accelerated = pair("GRU", 3, 4, 2)
    for layer in (theirs, accelerated):
        layer.dropout = 0.5
        layer.batch_first = True
    assert_alike(theirs, accelerated, (torch.randn(2, 5, 3, dtype=torch.float64),))


@pytest.mark.parametrize("dropout", [1.5, -0.5, None])
def test_dropout_that_is_no_probability_is_pytorchs(dropout):
    theirs, accelerated = pair("GRU", 3, 4, 2)
    theirs.dropout = accelerated.dropout = dropout
    assert_same_error(theirs, accelerated, lambda _: (torch.zeros(5, 2, 3, dtype=torch.float64),))


@layer_kinds
def test_parameters_may_be_others_afterwards(kind):
    theirs, accelerated = pair(kind, 3, 4, 2, bidirectional=True)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    for layer in (theirs, accelerated):
        # One that is replaced, and one that is deleted and made again.
        layer.weight_hh_l0 = torch.nn.Parameter(torch.zeros_like(layer.weight_hh_l0))
        weight = layer.weight_ih_l1
        del layer.weight_ih_l1
        layer.weight_ih_l1 = torch.nn.Parameter(2 * weight.detach())
    assert_alike(theirs, accelerated, (x,))
    assert accelerated._flat_weights[1] is accelerated.weight_hh_l0
    parts = [len(part) for part in accelerated.all_weights]
    assert parts == [len(theirs._flat_weights) // 4] * 4
    for layer in (theirs, accelerated):
        state = {name: 2 * p for name, p in layer.state_dict().items()}
        layer.load_state_dict(state, assign=True)
    assert_alike(theirs, accelerated, (x,))
    accelerated.share_memory()
    assert accelerated.flatten_parameters() is None
    assert all(p.is_shared() for p in accelerated._flat_weights)
    assert_alike(theirs, accelerated, (x,))


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, "pickle", "save"])
def test_copies(make):
    _, layer = pair("LSTM", 3, 4)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    expected = tensors(layer(x))
    if make == "pickle":
        copied = pickle.loads(pickle.dumps(layer))
    elif make == "save":
        file = io.BytesIO()
        torch.save(layer, file)
        file.seek(0)
        copied = torch.load(file, weights_only=False)
    else:
        copied = make(layer)
    assert type(copied) is ours.LSTM
    assert uses_kernels(copied(x))
    assert_same(tensors(copied(x)), expected)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "parametrise",
    [
        lambda layer: parametrizations.weight_norm(layer, "weight_hh_l0"),
        lambda layer: torch.nn.utils.weight_norm(layer, "weight_hh_l0"),
        lambda layer: prune.l1_unstructured(layer, "weight_ih_l0", 0.5),
    ],
    ids=["parametrization", "weight norm", "pruning"],
)
def test_weights_that_are_computed(parametrise):
    theirs, accelerated = pair("LSTM", 3, 4)
    parametrise(theirs)
    parametrise(accelerated)
    assert_alike(theirs, accelerated, (torch.randn(5, 2, 3, dtype=torch.float64),))


def test_functional_call():
    theirs, accelerated = pair("GRU", 3, 4)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    doubled = {name: 2 * p for name, p in theirs.named_parameters()}
    for parameters in (doubled, {}):  # and back to the module's own
        actual, expected = (
            torch.func.functional_call(m, parameters, (x,)) for m in (accelerated, theirs)
        )
        assert uses_kernels(actual)
        assert_same(tensors(actual), tensors(expected))


@pytest.fixture
def no_kernels(monkeypatch):
    """Fail where the kernels are used."""

    def refuse(call, tensors):
        raise AssertionError("the kernels ran")

    monkeypatch.setattr(ours, "run", refuse)


@pytest.mark.usefixtures("no_kernels")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.complex64])
def test_other_dtypes_are_pytorchs(dtype):
    theirs, accelerated = pair("RNN_TANH", 3, 4, dtype=dtype)
    x = torch.ones(5, 2, 3, dtype=dtype)
    outputs = []
    for layer in (theirs, accelerated):
        try:
            outputs.append(layer(x)[0])
        except RuntimeError as error:
            outputs.append(str(error))
    if isinstance(outputs[0], str):
        assert outputs[0] == outputs[1]
    else:
        assert torch.equal(*outputs)


@pytest.mark.usefixtures("no_kernels")
@cell_kinds
def test_empty_cells_are_pytorchs(kind):
    for sizes, B in (((3, 0), 2), ((0, 4), 2), ((3, 4), 0)):
        theirs, accelerated = pair(kind, *sizes, table=CELLS)
        x = torch.zeros(B, sizes[0], dtype=torch.float64)
        assert_same(tensors(accelerated(x)), tensors(theirs(x)))


@pytest.mark.usefixtures("no_kernels")
def test_empty_batches_are_pytorchs():
    theirs, accelerated = pair("GRU", 3, 4)
    x = torch.zeros(5, 0, 3, dtype=torch.float64)
    assert_same(tensors(accelerated(x)), tensors(theirs(x)))


@pytest.mark.usefixtures("no_kernels")
def test_meta_tensors_are_pytorchs():
    _, layer = pair("GRU", 3, 4, device="meta")
    output, h = layer(torch.zeros(5, 2, 3, dtype=torch.float64, device="meta"))
    assert (output.shape, h.shape, output.device.type) == ((5, 2, 4), (1, 2, 4), "meta")


@pytest.mark.usefixtures("no_kernels")
def test_autocast_is_pytorchs():
    theirs, accelerated = pair("RNN_TANH", 3, 4, dtype=torch.float32)
    x = torch.ones(5, 2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(accelerated(x)[0], theirs(x)[0])


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.usefixtures("no_kernels")
def test_transforms_are_pytorchs():
    theirs, accelerated = pair("GRU", 3, 4)
    x = torch.ones(5, 2, 3, dtype=torch.float64)

    def gradients(layer):
        parameters = dict(layer.named_parameters())
        return torch.func.grad(lambda p: torch.func.functional_call(layer, p, (x,))[0].sum())(
            parameters
        )

    assert_same(list(gradients(accelerated).values()), list(gradients(theirs).values()))
    with forward_ad.dual_level():
        tangents = [
            forward_ad.unpack_dual(layer(forward_ad.make_dual(x, x))[0]).tangent
            for layer in (accelerated, theirs)
        ]
    assert_same(tangents[:1], tangents[1:])


@pytest.mark.usefixtures("no_kernels")
def test_tensors_that_a_graph_may_not_keep_are_pytorchs():
    with torch.inference_mode():
        x = torch.ones(2, 5, 3, dtype=torch.float64)
    assert_same_error(*pair("GRU", 3, 4), lambda _: (x,))
    gradients = []
    for layer in pair("GRU", 3, 4, batch_first=True):  # PyTorch copies these
        layer(x)[0].sum().backward()
        gradients.append([p.grad for p in layer.parameters()])
    assert_same(*gradients)


@pytest.mark.usefixtures("no_kernels")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_pytorchs():
    theirs, accelerated = pair("GRU", 3, 4, batch_first=True)
    x = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], dtype=torch.float64)
    assert_same_error(theirs, accelerated, lambda _: (x,))


@pytest.mark.usefixtures("no_kernels")
def test_classes_of_tensors_are_pytorchs():
    class Marked(torch.Tensor):
        pass

    _, layer = pair("GRU", 3, 4)
    output, _ = layer(torch.ones(5, 2, 3, dtype=torch.float64).as_subclass(Marked))
    assert type(output) is Marked


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:The tensor attributes self.part._flat_weights")
@pytest.mark.parametrize("kind", ["script", "trace", "fx", "compile", "export"])
@pytest.mark.parametrize("cell", [False, True])
def test_compilers_see_pytorchs_module(kind, cell):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.part = torch.nn.GRUCell(3, 4) if cell else torch.nn.GRU(3, 4)

        def forward(self, x):
            return self.part(x)

    torch.manual_seed(0)
    model = ours.accelerate(Model())
    x = torch.randn(2, 3) if cell else torch.randn(5, 2, 3)
    compiled = {
        "script": lambda: torch.jit.script(model),
        "trace": lambda: torch.jit.trace(model, (x,)),
        "fx": lambda: torch.fx.symbolic_trace(model),
        "compile": lambda: torch.compile(model, backend="eager"),
        "export": lambda: torch.export.export(model, (x,)).module(),
    }[kind]()
    assert_same(tensors(compiled(x)), tensors(model(x)))
    if kind == "fx":
        assert [n.op for n in compiled.graph.nodes] == ["placeholder", "call_module", "output"]
    if kind in ("script", "trace"):
        # Parameters are shared, not copied.
        with torch.no_grad():
            next(model.parameters()).mul_(2)
        assert_same(tensors(compiled(x)), tensors(model(x)))


# ---------------------------------------------------------------------------------------- threads

gnu = pytest.mark.skipif(threads._openmp is None, reason="PyTorch's threads are not GNU's")


@pytest.fixture
def two_threads():
    before = fr.get_num_threads(), torch.get_num_threads()
    fr.set_num_threads(2)
    torch.set_num_threads(2)
    yield
    fr.set_num_threads(before[0])
    torch.set_num_threads(before[1])


def they_sleep():
    """Whether the threads that PyTorch has for this one are in a region of ours."""
    return threads._openmp.omp_in_parallel() == 1


@gnu
@pytest.mark.usefixtures("two_threads")
def test_pytorchs_threads_sleep_while_kernels_run(monkeypatch):
    theirs, accelerated = pair("GRU", 64, 128, 2, dtype=torch.float32)
    slept = []
    for name in ("scans", "scan_adjoints"):
        function = getattr(fr.backends.active_backend(), name)

        def watched(*arguments, function=function, **options):
            slept.append(they_sleep())
            return function(*arguments, **options)

        monkeypatch.setattr(fr.backends.active_backend(), name, watched)
    x = torch.randn(20, 30, 64)
    assert_alike(theirs, accelerated, (x,))
    assert slept == [True] * 4
    assert not they_sleep()
    accelerated(x[:1])  # too little to be worth it
    assert slept[4:] == [False] * 2


@gnu
@pytest.mark.usefixtures("two_threads")
def test_pytorchs_threads_are_woken_after_an_error():
    def interrupted():
        with threads.asleep(1e9):
            assert they_sleep()
            with threads.asleep(1e9):  # there is nobody left
                pass
            raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert not they_sleep()
    x = torch.randn(300, 300)
    assert torch.equal(x @ x, x @ x)


@gnu
@pytest.mark.usefixtures("two_threads")
def test_threads_sleep_only_where_both_libraries_have_more_than_one():
    torch.set_num_threads(1)
    with threads.asleep(1e9):
        assert not they_sleep()
    torch.set_num_threads(2)
    fr.set_num_threads(1)
    with threads.asleep(1e9):
        assert not they_sleep()


def test_child_of_a_fork_computes_the_same():
    """OpenMP's threads are not there; to wait for them would be for ever."""
    code = """
import os, torch, fastrnn as fr
fr.set_num_threads(2); torch.set_num_threads(2)
layer = fr.interop.torch.GRU(64, 128)
x = torch.randn(50, 32, 64)
with torch.no_grad():
    x @ torch.ones(64, 64)
    expected = layer(x)[0]
    child = os.fork()
    if not child:
        # NumPy compares, PyTorch's own operators would wait.
        os._exit(0 if (layer(x)[0].numpy() == expected.numpy()).all() else 3)
    print(os.waitpid(child, 0)[1], torch.equal(layer(x)[0], expected))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "0 True\n", done.stderr


# ------------------------------------------------------------------------------------- accelerate


def test_accelerate_swaps_in_place_and_says_what(caplog):
    class Own(torch.nn.LSTM):
        pass

    model = torch.nn.ModuleDict(
        {
            "encoder": torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LSTM(3, 4)),
            "cell": torch.nn.LSTMCell(3, 4),
            "own": Own(3, 4),
        }
    )
    model["again"] = model["encoder"][1]
    before = [*model.modules()], [*model.parameters()]
    with caplog.at_level(logging.INFO, logger="fastrnn.interop.torch"):
        assert ours.accelerate(model) is model
    for parts, same in zip(before, ([*model.modules()], [*model.parameters()])):
        assert all(a is b for a, b in zip(parts, same, strict=True))
    assert type(model["encoder"][1]) is ours.LSTM
    assert type(model["cell"]) is ours.LSTMCell
    assert type(model["own"]) is Own
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "swapped encoder.1 (LSTM(3, 4)), cell (LSTMCell(3, 4))"),
        ("WARNING", "left alone, as subclasses of PyTorch's layers: own (Own)"),
    ]
    caplog.clear()

    class Derived(ours.LSTM):
        pass

    model["own"] = Derived(3, 4)  # runs here already, as does what is parametrised
    model["normed"] = torch.nn.utils.parametrizations.weight_norm(ours.GRU(3, 4), "weight_hh_l0")
    ours.accelerate(model)  # again: there is nothing to say
    assert type(model["own"]) is Derived
    assert not caplog.records


def test_accelerate_takes_a_layer_itself():
    layer = torch.nn.GRU(3, 4)
    assert ours.accelerate(layer) is layer
    assert type(layer) is ours.GRU
    assert type(ours.accelerate(layer)) is ours.GRU


def test_accelerate_warns_where_there_is_nothing(caplog):
    ours.accelerate(torch.nn.Linear(3, 4))
    assert [r.getMessage() for r in caplog.records] == [
        "found no recurrent layer of torch.nn in Linear"
    ]


def test_accelerate_refuses_what_is_no_module():
    with pytest.raises(TypeError, match=r"module must be a torch.nn.Module, got list"):
        ours.accelerate([torch.nn.GRU(3, 4)])


# ----------------------------------------------------------------------------------------- imports


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_pytorch_is_imported_when_it_is_touched():
    done = python(
        "import sys, fastrnn.interop as interop; assert 'torch' not in sys.modules;"
        "interop.torch.LSTM; assert 'torch' in sys.modules"
    )
    assert done.returncode == 0, done.stderr


def test_missing_pytorch_is_named():
    done = python("import sys; sys.modules['torch'] = None; import fastrnn.interop as i; i.torch")
    assert "ImportError: fastrnn.interop.torch needs PyTorch" in done.stderr
    assert "pip install 'fastrnn[torch]'" in done.stderr


def test_unknown_library_is_an_attribute_error():
    with pytest.raises(AttributeError, match="tensorflow"):
        fr.interop.tensorflow  # noqa: B018
