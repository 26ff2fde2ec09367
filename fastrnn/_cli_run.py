"""A run of ``fastrnn train``: its text, its settings, and the files that it is saved to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastrnn._config import get_num_threads, set_num_threads
from fastrnn.checkpoint import Sections, load_checkpoint
from fastrnn.data import CharVocabulary, Windows, split
from fastrnn.models import LanguageModel
from fastrnn.models.language_model import language_model_from
from fastrnn.parameters import at_most
from fastrnn.training.callbacks import Callback, Checkpoint
from fastrnn.training.fit import OPTIMIZERS, not_resumable, restore
from fastrnn.training.trainer import Trainer

DEFAULTS: dict[str, Any] = {
    "cell": "lstm",
    "hidden_size": 128,
    "num_layers": 2,
    "embedding_size": 64,
    "dropout": 0.1,
    "seq_length": 50,
    "batch_size": 50,
    "epochs": 15,
    "learning_rate": 3e-3,
    "optimizer": "adam",
    "clip": 5.0,
    "validation_fraction": 0.1,
    "patience": None,
    "seed": 0,
    "threads": None,
}
# Settings that a resumed run may change; the number of threads can change the last bits.
MAY_CHANGE = ("epochs", "patience", "threads")
# Steps of one inference call when a text is scored; the score does not depend on it.
SCORING_STEPS = 1000
# Values, gradients and two buffers of the optimiser, float32.
_BYTES_A_PARAMETER = 4 * 4


class RunFiles(NamedTuple):
    """Where a run is saved: the last state, the best epoch, the history, the learning curve."""

    last: Path
    best: Path
    history: Path
    curve: Path

    @classmethod
    def beside(cls, output: str | Path) -> RunFiles:
        """Return the files of a run whose last state goes to `output`; ValueError for no name."""
        output = Path(output)
        if not output.name:
            raise ValueError(f"the output must be named, got {str(output)!r}")
        name = output.name.removesuffix(".safetensors")
        return cls(
            output,
            *(
                output.with_name(name + suffix)
                for suffix in (".best.safetensors", ".history.csv", ".curve.png")
            ),
        )


class Run:
    """A new run, or one that is resumed.

    Parameters
    ----------
    text : str
        The text to learn; its last part is for validation.
    files : RunFiles
    given : mapping of str to object
        Settings asked for. Those left out are the defaults in a new run, the run's own in a resumed
        one.
    resume : bool
        True resumes the run in ``files.last``, or starts one if there is no such file.

    Attributes
    ----------
    settings : dict
        One value for each of ``DEFAULTS``; ``embedding_size`` 0 is one-hot input, ``clip`` 0 none.
    model : LanguageModel
    vocabulary : CharVocabulary
    trainer : Trainer
        Without callbacks, at the point where the run begins or resumes.
    windows, validation : Windows
        Of the two parts of the text; validation is None where it has none.

    Raises
    ------
    CheckpointError
        If ``files.last`` does not hold a run that can be resumed.
    ValueError
        If the text is too short, a setting is out of range, or is not that of the resumed run. The
        message is one line, and nothing was written.
    """

    def __init__(
        self, text: str, files: RunFiles, given: Mapping[str, Any], *, resume: bool = False
    ) -> None:
        self.files = files
        saved = load_checkpoint(files.last) if resume and files.last.exists() else None
        settings = {**DEFAULTS, **given} if saved is None else self._resume(saved, given)
        if settings["threads"] is not None:
            set_num_threads(settings["threads"])
        self.settings = {**settings, "threads": get_num_threads()}
        self._digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        if saved is None:
            self.vocabulary = CharVocabulary(text)
        else:
            if saved["settings"].get("text_sha256") != self._digest:
                raise ValueError(
                    f"the run in {files.last} reads another text; give the same FILE, or another "
                    "--output"
                )
            self.model, self.vocabulary = language_model_from(saved, files.last)

        ids, validation_ids = split(
            self.vocabulary.encode(text), self.settings["validation_fraction"]
        )
        self.windows = Windows(ids, self.settings["batch_size"], self.settings["seq_length"])
        self.validation = None
        if len(validation_ids):
            self.validation = Windows(validation_ids, 1, SCORING_STEPS, keep_rest=True)
        if saved is None:
            self.model = self._new_model()
        self.trainer = Trainer(
            self.model,
            OPTIMIZERS[self.settings["optimizer"]](
                self.model.parameters, self.settings["learning_rate"]
            ),
            clip=self.settings["clip"] or None,
        )
        if saved is not None:
            restore(self.trainer, saved, files.last)
            self._check_progress()

    def fit(self, callbacks: Sequence[Callback], *, checkpoint_every: float) -> None:
        """Train to the end, saving the last state and the best epoch; see :meth:`Trainer.fit`.

        Parameters
        ----------
        callbacks : sequence of Callback
            Called after an epoch was saved.
        checkpoint_every : float
            Seconds from save to save within an epoch.
        """
        checkpoint = Checkpoint(
            self.files.last,
            self.files.best if self.validation else None,
            every_seconds=checkpoint_every,
            sections={
                "vocabulary": self.vocabulary.state(),
                "settings": {**self.settings, "text_sha256": self._digest},
            },
        )
        self.trainer.callbacks = [checkpoint, *callbacks]
        self.trainer.fit(self.windows, self.settings["epochs"], self.validation)

    def _resume(self, saved: Sections, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a saved run, with what may change taken from those given."""
        settings = {"patience": None, **saved.get("settings", {})}  # older files have no patience
        types = {
            key: (int, type(None)) if default is None else (type(default),)
            for key, default in DEFAULTS.items()
        }
        if (
            any(type(settings.get(key)) not in types[key] for key in types)
            or settings["optimizer"] not in OPTIMIZERS
        ):
            raise not_resumable(self.files.last, "its settings")
        differences = [
            f"--{key.replace('_', '-')} {value} (it has {settings[key]})"
            for key, value in given.items()
            if key not in MAY_CHANGE and value != settings[key]
        ]
        if differences:
            raise ValueError(
                f"the run in {self.files.last} has other settings than {', '.join(differences)}; "
                "leave them out to go on with it, or take another --output"
            )
        return {key: given.get(key, settings[key]) for key in DEFAULTS}

    def _check_progress(self) -> None:
        """Refuse a saved run that is beyond the end of its text, or of the epochs asked for."""
        if self.trainer.position > len(self.windows):
            raise not_resumable(self.files.last, "its position")
        if self.settings["epochs"] < self.trainer.epoch:
            raise ValueError(
                f"the run in {self.files.last} has finished {self.trainer.epoch} epochs; take "
                f"--epochs {self.trainer.epoch} or more"
            )

    def _new_model(self) -> LanguageModel:
        config = {
            "vocabulary_size": len(self.vocabulary),
            "embedding_size": self.settings["embedding_size"] or None,
            "dtype": "float32",
            "tie_weights": False,
            **{key: self.settings[key] for key in ("hidden_size", "num_layers", "cell", "dropout")},
        }
        rows = self.settings["batch_size"] * self.settings["seq_length"]
        # Sizes that are not refused here might make the system kill the process.
        available = _memory()
        with at_most(available // _BYTES_A_PARAMETER, "more than this machine's memory holds"):
            model = LanguageModel(**config, seed=self.settings["seed"])
        # Gates and a few states a layer, and the scores.
        a_row = 8 * config["num_layers"] * config["hidden_size"] + 3 * config["vocabulary_size"]
        needed = _BYTES_A_PARAMETER * model.parameters.flat_values.size + 4 * rows * a_row
        if needed > available:
            raise ValueError(
                f"these sizes need about {needed / 2**30:,.0f} GiB of memory, this machine has "
                f"{available / 2**30:,.0f}; take a smaller hidden size, batch size or sequence "
                "length"
            )
        return model


def _memory() -> int:
    """Return this machine's memory in bytes, or a large number if the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 1 << 62
