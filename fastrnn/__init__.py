"""fastrnn: recurrent networks for Python on a compiled core.

A recurrent layer is one formula applied at every time step with the same parameters,
h_t = f_W(h_{t-1}, x_t). Here are the tanh RNN, LSTM and GRU as layers, the models, losses,
optimisers and training that go with them, and a NumPy backend that verifies the compiled one.
"""

from fastrnn import data, interop, layers, losses, models, optim, parameters, training
from fastrnn._config import get_num_threads, set_num_threads, show_config
from fastrnn._version import __version__
from fastrnn.backends import use_backend
from fastrnn.layers import (
    GRU,
    LSTM,
    RNN,
    Dense,
    Dropout,
    Embedding,
    GRUCell,
    LSTMCell,
    RNNCell,
)
from fastrnn.training import Trainer, fit

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Dense",
    "Dropout",
    "Embedding",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "Trainer",
    "__version__",
    "data",
    "fit",
    "get_num_threads",
    "interop",
    "layers",
    "losses",
    "models",
    "optim",
    "parameters",
    "set_num_threads",
    "show_config",
    "training",
    "use_backend",
]
