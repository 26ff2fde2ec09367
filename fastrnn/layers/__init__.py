"""Layers: recurrent stacks and their single steps, embedding, dense, attention and more."""

from fastrnn.layers.attention import (
    AdditiveAttention,
    Attention,
    DotAttention,
    GeneralAttention,
)
from fastrnn.layers.base import Module, Pullback
from fastrnn.layers.cells import GRUCell, LSTMCell, RNNCell
from fastrnn.layers.dense import Dense
from fastrnn.layers.dropout import Dropout
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.gru import GRU
from fastrnn.layers.lstm import LSTM
from fastrnn.layers.pooling import AttentionPooling, LastPooling, MeanPooling
from fastrnn.layers.rnn import RNN

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AdditiveAttention",
    "Attention",
    "AttentionPooling",
    "Dense",
    "DotAttention",
    "Dropout",
    "Embedding",
    "GRUCell",
    "GeneralAttention",
    "LSTMCell",
    "LastPooling",
    "MeanPooling",
    "Module",
    "Pullback",
    "RNNCell",
]
