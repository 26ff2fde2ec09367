"""Optimisers, gradient clipping and learning-rate schedules.

Names, formulas and defaults are those of ``torch.optim``, but for ``learning_rate``, its ``lr``.
An optimiser works on the whole flat buffer of a model, in place, with scratch memory allocated
once. One file an algorithm: its equations, its settings and its update of explicit arrays.
"""

from fastrnn.optim.adagrad import Adagrad
from fastrnn.optim.adam import Adam, AdamW
from fastrnn.optim.base import Optimizer
from fastrnn.optim.clipping import clip_gradient_norm
from fastrnn.optim.rmsprop import RMSprop
from fastrnn.optim.schedules import Constant, CosineDecay, ExponentialDecay, StepDecay, WarmUp
from fastrnn.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Constant",
    "CosineDecay",
    "ExponentialDecay",
    "Optimizer",
    "RMSprop",
    "StepDecay",
    "WarmUp",
    "clip_gradient_norm",
]
