"""Gradients against central differences."""

import numpy as np


def slope(loss, array, direction, step=1e-5):
    """Return the slope of `loss`, a function of no arguments that reads `array`, along a direction.

    The array is changed in place, and back.
    """
    kept = array.copy()
    array[...] = kept + step * direction
    above = loss()
    array[...] = kept - step * direction
    below = loss()
    array[...] = kept
    return (above - below) / (2 * step)


def central_differences(loss, array):
    """Return the gradient of `loss`, a function of no arguments that reads `array`."""
    gradient = np.empty_like(array)
    for index in np.ndindex(array.shape):
        direction = np.zeros_like(array)
        direction[index] = 1
        gradient[index] = slope(loss, array, direction)
    return gradient


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
        numeric = slope(lambda: call()[0], array, direction)
        analytic = (model.gradients[name] * direction).sum()
        assert np.isclose(analytic, numeric, rtol=1e-6, atol=1e-10), name
        assert abs(analytic) > least, name
