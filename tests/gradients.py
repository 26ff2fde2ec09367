"""Gradients of a model's parameters against central differences."""

import numpy as np


def check_gradients(model, loss_vjp, least=1e-4):
    """Compare every parameter's gradient with central differences of the loss, in one direction.

    Parameters
    ----------
    model : Model
        In float64.
    loss_vjp : callable
        Returns the loss, anything, and the pullback; every call draws the same dropout.
    least : float
        Smallest slope that counts as tested.
    """
    states = {name: g.bit_generator.state for name, g in model.generators.items()}

    def call():
        for name, generator in model.generators.items():
            generator.bit_generator.state = states[name]
        return loss_vjp()

    call()[2]()
    generator = np.random.default_rng(4)
    for name, array in model.parameters.items():
        direction = generator.standard_normal(array.shape)
        kept, change = array.copy(), 1e-5
        array[...] = kept + change * direction
        above = call()[0]
        array[...] = kept - change * direction
        numeric = (above - call()[0]) / (2 * change)
        array[...] = kept
        analytic = (model.gradients[name] * direction).sum()
        assert np.isclose(analytic, numeric, rtol=1e-6, atol=1e-10), name
        assert abs(analytic) > least, name
