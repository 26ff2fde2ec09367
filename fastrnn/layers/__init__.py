"""Layers: recurrent stacks, embedding, dense, dropout, attention and pooling."""

from fastrnn.layers.attention import (
    AdditiveAttention,
    Attention,
    DotAttention,
    GeneralAttention,
)
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
    "AdditiveAttention",
    "Attention",
    "AttentionPooling",
    "Dense",
    "DotAttention",
    "Dropout",
    "Embedding",
    "GeneralAttention",
    "LastPooling",
    "MeanPooling",
    "Module",
    "Pullback",
]
