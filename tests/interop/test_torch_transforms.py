"""PyTorch's transforms and other tools that analyse modules: ours behave as PyTorch's own."""

import copy
from functools import partial

import pytest

torch = pytest.importorskip("torch")

from functorch.compile import aot_module, nop  # noqa: E402
from torch._subclasses import FakeTensorMode  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402
from torch.testing import assert_close  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from fastrnn.interop import torch as ours  # noqa: E402

pytestmark = pytest.mark.torch


def outcome(call):
    """Return what a call returns, or what it raises."""
    try:
        return call()
    except Exception as error:
        return type(error), str(error)


def ensemble(layer, x):
    stacked = {name: torch.stack([p, 2 * p]) for name, p in layer.named_parameters()}
    call = partial(torch.func.functional_call, layer)
    return torch.vmap(call, in_dims=(0, None), randomness="same")(stacked, (x,))


def gradients_of_samples(layer, x):
    def loss(parameters, x):
        return torch.func.functional_call(layer, parameters, (x,))[0].square().sum()

    parameters = dict(layer.named_parameters())
    return torch.vmap(torch.func.grad(loss), in_dims=(None, 1))(parameters, x)


def fake(layer, x):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        return list(layer(mode.from_tensor(x))[0].shape)


def batched_gradients(layer, x):
    output = layer(x)[0]
    basis = torch.eye(output.numel(), dtype=x.dtype).reshape(-1, *output.shape)
    return torch.autograd.grad(output, list(layer.parameters()), basis, is_grads_batched=True)


def vmap_of_grad(layer, x):
    output = layer(x)[0]
    basis = torch.eye(output.numel(), dtype=x.dtype).reshape(-1, *output.shape)
    leaves = list(layer.parameters())
    return torch.vmap(lambda d: torch.autograd.grad(output, leaves, d))(basis)


def flops(layer, x):
    loss = layer(x)[0].sum()
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    return counter.get_total_flops() > 0, [p.grad for p in layer.parameters()]


TRANSFORMS = {
    "vmap over inputs": lambda layer, x: torch.vmap(lambda x: layer(x)[0], in_dims=1)(x),
    "vmap over parameters": ensemble,
    "gradients of samples": gradients_of_samples,
    "jvp": lambda layer, x: torch.func.jvp(lambda x: layer(x)[0], (x,), (x,)),
    "jacrev": lambda layer, x: torch.func.jacrev(lambda x: layer(x)[0])(x),
    "hessian": lambda layer, x: torch.func.hessian(lambda x: layer(x)[0].sum())(x),
    "make_fx": lambda layer, x: make_fx(lambda x: layer(x)[0])(x)(x),
    "aot": lambda layer, x: aot_module(copy.deepcopy(layer), nop)(x),
    "fake": fake,
    "Hessian": lambda layer, x: torch.autograd.functional.hessian(
        lambda x: layer(x)[0].square().sum(), x
    ),
    "vectorised Jacobian": lambda layer, x: torch.autograd.functional.jacobian(
        lambda x: layer(x)[0], x, vectorize=True
    ),
    "vectorised Hessian": lambda layer, x: torch.autograd.functional.hessian(
        lambda x: layer(x)[0].square().sum(), x, vectorize=True
    ),
    "batched gradients": batched_gradients,
    "vmap of grad": vmap_of_grad,
    "flops": flops,
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("kind", [torch.nn.RNN, torch.nn.LSTM, torch.nn.GRU])
def test_transforms(kind, transform):
    """A result, or an error, is PyTorch's."""
    torch.manual_seed(0)
    theirs = kind(2, 3, dtype=torch.float64)
    accelerated = ours.accelerate(copy.deepcopy(theirs))
    x = torch.randn(3, 2, 2, dtype=torch.float64)
    actual, expected = (outcome(lambda m=m: transform(m, x)) for m in (accelerated, theirs))
    if isinstance(expected, tuple) and isinstance(expected[0], type):
        assert actual == expected
    else:
        assert_close(actual, expected)
