"""Layers: recurrent stacks, embedding, dense and dropout."""

from fastrnn.layers.base import Module, Pullback
from fastrnn.layers.dense import Dense
from fastrnn.layers.dropout import Dropout
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.recurrent import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN", "Dense", "Dropout", "Embedding", "Module", "Pullback"]
