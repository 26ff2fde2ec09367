"""Layers: recurrent stacks, embedding, dense, dropout and pooling."""

from fastrnn.layers.base import Module, Pullback
from fastrnn.layers.dense import Dense
from fastrnn.layers.dropout import Dropout
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.pooling import AttentionPooling, LastPooling, MeanPooling
from fastrnn.layers.recurrent import GRU, LSTM, RNN

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AttentionPooling",
    "Dense",
    "Dropout",
    "Embedding",
    "LastPooling",
    "MeanPooling",
    "Module",
    "Pullback",
]
