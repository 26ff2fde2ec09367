"""The modules of `fastrnn.interop.torch` are PyTorch's in everything but the kernels."""

import logging
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastrnn as fr

torch = pytest.importorskip("torch")

from torch.autograd import gradcheck, gradgradcheck  # noqa: E402
from torch.nn.utils import rnn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402
from torch_pairs import (  # noqa: E402
    CELLS,
    LAYERS,
    MARKS,
    TOLERANCES,
    assert_alike,
    assert_same,
    cell_kinds,
    layer_kinds,
    pair,
    tensors,
)

from fastrnn.interop import torch as ours  # noqa: E402

pytestmark = MARKS


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
    original = backend.Run

    def recorded(cell, weights, x, *rest, **options):
        seen.update(weights, x=x)
        return original(cell, weights, x, *rest, **options)

    monkeypatch.setattr(backend, "Run", recorded)
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


@pytest.mark.skipif(
    torch.__version__ < torch.torch_version.TorchVersion("2.8"), reason="does not tell of hooks"
)
def test_checkpoints_keep_no_tape():
    _, layer = pair("LSTM", 3, 4)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    assert layer(x)[0].grad_fn.runs
    assert not checkpoint(layer, x, use_reentrant=False)[0].grad_fn.runs
    with torch.autograd.graph.save_on_cpu():
        assert not layer(x)[0].grad_fn.runs


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
