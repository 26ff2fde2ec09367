"""Uses of modules in training scripts: accelerated ones give the same results as PyTorch's."""

import copy
import functools
import subprocess
import sys
import warnings

import pytest

torch = pytest.importorskip("torch")

from torch.nn import utils  # noqa: E402
from torch.testing import assert_close  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402

import fastrnn as fr  # noqa: E402
from fastrnn.interop import torch as ours  # noqa: E402

pytestmark = pytest.mark.torch


def batch(requires_grad=False):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 6, 5, generator=generator, dtype=torch.float64)
    return x.requires_grad_(requires_grad)


def gradients(layer):
    return [p.grad for p in layer.parameters()]


def expanded(layer):
    """The input, the states and, by `sum`, the gradients of the outputs have strides of zero."""
    x = torch.ones(1, 1, 5, dtype=torch.float64).expand(4, 6, 5)
    state = torch.ones(1, 1, 8, dtype=torch.float64).expand(2, 4, 8)
    output, (h, c) = layer(x, (state, state))
    (output.sum() + h.sum() + c.sum()).backward()
    return [output, h, c, *gradients(layer)]


def truncated(layer):
    """A state is carried from batch to batch without its graph; gradients add up."""
    state = None
    for _ in range(3):
        output, state = layer(batch(), state)
        state = tuple(t.detach() for t in state)
        output.square().mean().backward()
    return [*state, *gradients(layer)]


def zeroed_in_place(layer):
    for _ in range(2):
        layer.zero_grad(set_to_none=False)
        layer(batch())[0].sum().backward()
    utils.clip_grad_norm_(layer.parameters(), 0.1)
    utils.clip_grad_value_(layer.parameters(), 0.01)
    return gradients(layer)


def hooks(layer):
    seen = []
    layer.register_forward_pre_hook(lambda module, given: (2 * given[0],))
    layer.register_forward_hook(lambda module, given, output: seen.append(output[0]))
    layer.register_full_backward_hook(lambda module, d_in, d_out: (3 * d_in[0],))
    layer.weight_hh_l0.register_hook(lambda d: 2 * d)
    layer.weight_ih_l1.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    x = batch(requires_grad=True)
    output, (_, c) = layer(x)
    output.retain_grad()
    (output.sum() + c.sum()).backward()
    return [*seen, output.grad, x.grad, *gradients(layer)]


def saved_elsewhere(layer):
    with torch.autograd.graph.saved_tensors_hooks(torch.clone, lambda t: t):
        output, _ = layer(batch())
    output.sum().backward()
    return gradients(layer)


def changed_after_it_was_saved_elsewhere(layer):
    """What was saved counts, not what the memory of the inputs and weights holds by then."""
    found = []
    for change_weights in (False, True):
        layer.zero_grad()
        x = batch()
        with torch.autograd.graph.saved_tensors_hooks(torch.clone, lambda t: t):
            output, _ = layer(x)
        if change_weights:
            with torch.no_grad():
                layer.weight_hh_l0.zero_()
        else:
            x.zero_()
        output.sum().backward()
        found += gradients(layer)
    return found


def views_of_a_vector(layer):
    """Parameters whose memory begins anywhere."""
    vector = 2 * utils.parameters_to_vector(layer.parameters()).detach()
    utils.vector_to_parameters(torch.cat([vector[:1], vector])[1:], layer.parameters())
    return [layer(batch())[0]]


def given_other_data(layer):
    layer.weight_hh_l0.data = torch.eye(8, dtype=torch.float64).repeat(4, 1)
    layer.bias_ih_l1.data.fill_(3)
    return list(layer(batch())[1])


def converted(layer):
    layer.float()
    first = layer(batch().float())[0].double()
    layer.double()
    assert all(a is b for a, b in zip(layer._flat_weights, layer.parameters(), strict=True))
    return [first.round(decimals=5), layer(batch())[0]]


def another_default_device(layer):
    """Nothing may be made where tensors are made by default."""
    layer.dropout = 0.5
    torch.manual_seed(2)
    x = batch()
    with torch.device("meta"):
        output, _ = layer(x)
        output.sum().backward()
    return [output, *gradients(layer)]


def spectral_norm(layer):
    torch.manual_seed(2)
    utils.parametrizations.spectral_norm(layer, "weight_hh_l0")
    output, _ = layer(batch())
    output.sum().backward()
    utils.parametrize.remove_parametrizations(layer, "weight_hh_l0")
    return [output, layer(batch())[0], *gradients(layer)]


def dropped_weights(layer):
    """As in AWD-LSTM: a new weight, which is no parameter, is set before each call."""
    torch.manual_seed(2)
    raw = layer.weight_hh_l0
    del layer.weight_hh_l0
    layer.register_parameter("raw", raw)
    for _ in range(2):
        layer.weight_hh_l0 = torch.nn.functional.dropout(raw, 0.5)
        output, _ = layer(batch())
        output.sum().backward()
    return [output, *gradients(layer)]


def averaged(layer):
    model = torch.optim.swa_utils.AveragedModel(layer)
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2)
    model.update_parameters(layer)
    return list(model(batch())[1])


def compiled(layer):
    """The compiler leaves layers out of its graphs, and calls them as they are."""

    @functools.partial(torch.compile, backend="eager")
    def loss(x):
        return layer(2 * x)[0].square().sum()

    loss(batch()).backward()
    return [loss(batch()), *gradients(layer)]


def compiled_with_its_backward_pass(layer):
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)

    @functools.partial(torch.compile, backend="aot_eager")
    def step(x):
        optimizer.zero_grad()
        loss = layer(2 * x)[0].square().sum()
        loss.backward()
        optimizer.step()
        return loss

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        losses = [step(batch()) for _ in range(3)]
    return [*losses, *gradients(layer)]


class Outputs(Dataset):
    """A layer's outputs, made by the workers."""

    def __init__(self, layer):
        self.layer = layer

    def __len__(self):
        return 4

    def __getitem__(self, k):
        with torch.no_grad():
            return self.layer(batch() + k)[0]


def workers(layer):
    layer(batch())  # threads are there before the fork
    return list(DataLoader(Outputs(layer), num_workers=2))


SCRIPTS = [
    expanded,
    truncated,
    zeroed_in_place,
    hooks,
    saved_elsewhere,
    changed_after_it_was_saved_elsewhere,
    views_of_a_vector,
    given_other_data,
    converted,
    another_default_device,
    spectral_norm,
    dropped_weights,
    averaged,
    *[
        pytest.param(
            script,
            marks=pytest.mark.skipif(
                torch.__version__ < torch.torch_version.TorchVersion("2.7"), reason="not left to us"
            ),
        )
        for script in (compiled, compiled_with_its_backward_pass)
    ],
    workers,
]
OPTIMISERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9),
    "fused Adam": lambda parameters: torch.optim.Adam(parameters, fused=True),
    "foreach AdamW": lambda parameters: torch.optim.AdamW(parameters, foreach=True),
    "LBFGS": lambda parameters: torch.optim.LBFGS(parameters, max_iter=3),
}


def pair():
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(5, 8, 2, batch_first=True, dtype=torch.float64)
    return theirs, ours.accelerate(copy.deepcopy(theirs))


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts(script, runs):
    theirs, accelerated = pair()
    expected = script(theirs)
    assert not runs
    assert_close(script(accelerated), expected)
    assert runs


def test_hooks_of_which_pytorch_does_not_tell(monkeypatch):
    """As before 2.8, and those that one saved tensor gets later."""
    monkeypatch.setattr(ours.scan, "_saves_elsewhere", lambda: False)
    theirs, accelerated = pair()
    for script in (saved_elsewhere, changed_after_it_was_saved_elsewhere):
        assert_close(script(accelerated), script(theirs))


@pytest.mark.parametrize("make", OPTIMISERS.values(), ids=OPTIMISERS)
def test_optimisers(make, runs):
    results = []
    for layer in pair():
        optimiser, losses = make(layer.parameters()), []

        def loss(layer=layer, optimiser=optimiser, losses=losses):
            optimiser.zero_grad()
            value = layer(batch())[0].square().mean()
            value.backward()
            losses.append(value.detach())
            return value

        for _ in range(3):
            optimiser.step(loss)
        results.append([*losses, *layer.parameters()])
    assert_close(*reversed(results))
    assert runs


def test_the_first_call_imports_nothing():
    """PyTorch's profiler would end with a UnicodeDecodeError."""
    code = """
import sys
import torch
from fastrnn.interop.torch import GRU
before = set(sys.modules)
GRU(3, 4)(torch.zeros(5, 2, 3))[0].sum().backward()
print([name for name in set(sys.modules) - before if name.startswith(("fastrnn", "scipy"))])
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (child.stdout, child.stderr) == ("[]\n", "")


def test_what_a_node_of_the_graph_has_saved_are_tensors():
    """As torchviz's `make_dot` takes for granted."""
    output, _ = ours.LSTM(5, 8)(torch.ones(4, 6, 5))
    shapes = [t.size() for t in output.grad_fn.saved_tensors]
    assert shapes == [(4, 6, 5), (32, 5), (32, 8), (32,), (32,)]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's account")
def test_a_loop_of_cells_keeps_no_weights():
    """As many tapes wait for the backward pass as there are steps: 2.1 MiB each, PyTorch's 2.0."""
    code = """
import resource
from pathlib import Path
import torch
from fastrnn.interop.torch import LSTMCell
def used():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20
cell, x, state = LSTMCell(512, 512), torch.zeros(128, 512), None
cell(x)[0].sum().backward()
before = used()
for _ in range(30):
    state = cell(x, state)
print(30 < used() - before < 90)
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (child.stdout, child.stderr) == ("True\n", "")


@pytest.mark.parametrize("form", ["plain", "with graph", "parameters", "bfloat16", "float64"])
def test_our_layer_reads_pytorchs_weights(form):
    module = torch.nn.GRU(3, 4)
    state = {
        "plain": module.state_dict(),
        "with graph": module.state_dict(keep_vars=True),
        "parameters": dict(module.named_parameters()),
        "bfloat16": {name: t.bfloat16() for name, t in module.state_dict().items()},
        "float64": {name: t.double() for name, t in module.state_dict().items()},
    }[form]
    layer = fr.GRU(3, 4)
    layer.load_state_dict(state)
    for name, expected in state.items():
        assert_close(torch.from_numpy(layer.parameters[name]), expected.detach().float())
