"""Training: a short loop, callbacks around it, and checkpoints."""

from fastrnn.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from fastrnn.models.language_model import load_language_model
from fastrnn.training.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochReport,
    HistoryFile,
    LearningCurve,
    ProgressBar,
    ReduceOnPlateau,
    RestoreBest,
)
from fastrnn.training.fit import fit
from fastrnn.training.trainer import Trainer, evaluate

__all__ = [
    "Callback",
    "Checkpoint",
    "CheckpointError",
    "EarlyStopping",
    "EpochReport",
    "HistoryFile",
    "LearningCurve",
    "ProgressBar",
    "ReduceOnPlateau",
    "RestoreBest",
    "Trainer",
    "evaluate",
    "fit",
    "load_checkpoint",
    "load_language_model",
    "save_checkpoint",
]
