"""The commands as a user runs them: their output, their files, their errors, and interruptions."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fastrnn import _cli_run, cli, set_num_threads, use_backend
from fastrnn._cli_parser import DEFAULT_OUTPUT, make_parser
from fastrnn.training import load_checkpoint, save_checkpoint

TEXT = "the cat sat on the mat, the rat ate the oats.\n" * 12
SIZES = [
    "--hidden-size",
    "5",
    "--num-layers",
    "2",
    "--embedding-size",
    "4",
    "--seq-length",
    "6",
    "--batch-size",
    "4",
]
OPTIONS = [*SIZES, "--epochs", "2", "--dropout", "0.2", "--threads", "1"]
# Where the fastrnn under test is, for child processes: installed, or these sources.
ROOT = Path(cli.__file__).parents[1]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, set_threads):
    """A directory of its own with a text, and the number of threads as it was."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


@pytest.fixture
def run(capsys):
    """Return a function that runs a command line and returns exit code, output and errors."""

    def call(*arguments):
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = error.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def model(run):
    """A trained model."""
    assert run("train", "text.txt", *OPTIONS, "--output", "model.safetensors")[0] == 0
    return "model.safetensors"


def assert_refused(result, *expected):
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.startswith("fastrnn: error: ")
    assert err.count("\n") == 1
    for part in expected:
        assert part in err


def files():
    return {name: Path(name).read_bytes() for name in os.listdir()}


def test_training_reports_samples_and_saves(run):
    set_num_threads(2)
    code, out, err = run("train", "text.txt", *OPTIONS, "--output", "m.safetensors")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("552 characters, 14 different; 2 x lstm of 5, ")
    assert lines[0].endswith(" backend, threads: 1")
    for epoch, line in enumerate(lines[1:3], 1):
        assert line.startswith(f"epoch {epoch}/2: training ")
        assert ", validation " in line
        assert line.count("bits/char") == 2
    sample = out.split("-\n", 1)[1].rsplit("\n---", 1)[0]
    assert len(sample) == cli.SAMPLE_LENGTH
    assert set(sample) <= set(TEXT)
    assert "saved m.safetensors" in lines
    assert sample in run("train", "text.txt", *OPTIONS, "--output", "m.safetensors", "--force")[1]
    assert sorted(files()) == [
        "m.best.safetensors",
        "m.history.csv",
        "m.safetensors",
        "text.txt",
    ]
    assert len(Path("m.history.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("embedding", [0, 3])
def test_cells_and_inputs(run, cell, embedding):
    options = [*OPTIONS, "--cell", cell, "--embedding-size", embedding, "--output", "m"]
    assert run("train", "text.txt", *options)[0] == 0
    config = load_checkpoint("m")["architecture"]["config"]
    assert (config["cell"], config["embedding_size"]) == (cell, embedding or None)


@pytest.mark.parametrize("optimizer", _cli_run.OPTIMIZERS)
def test_optimizers(run, optimizer):
    options = [*OPTIONS, "--optimizer", optimizer, "--clip", 0, "--output", "m"]
    assert run("train", "text.txt", *options)[0] == 0
    assert load_checkpoint("m")["optimizer"]["algorithm"].lower() == optimizer


@pytest.mark.parametrize(("given", "clip"), [({}, 5.0), ({"clip": 0.5}, 0.5), ({"clip": 0}, None)])
def test_clip(given, clip):
    settings = {"hidden_size": 5, "batch_size": 4, "seq_length": 6, **given}
    run = _cli_run.Run(TEXT, _cli_run.RunFiles.beside("m"), settings)
    assert run.trainer.clip == clip


def test_training_without_validation(run):
    options = [*OPTIONS, "--validation-fraction", 0, "--patience", 1, "--output", "m"]
    code, out, _ = run("train", "text.txt", *options)
    assert code == 0
    assert "validation" not in out
    assert not Path("m.best.safetensors").exists()


def test_without_a_file_the_languages_documentation_is_read(run, monkeypatch):
    monkeypatch.setattr(cli, "python_documentation", lambda: "def lambda yield " * 40)
    code, out, _ = run("train", *OPTIONS)
    assert code == 0
    assert out.startswith("680 characters")
    assert Path(DEFAULT_OUTPUT).exists()


def test_early_stopping(run):
    options = [*SIZES, "--epochs", 50, "--patience", 2, "--learning-rate", 1e-30, "--output", "m"]
    code, out, _ = run("train", "text.txt", *options)
    assert code == 0
    assert "epoch 3/50" in out
    assert "epoch 4/50" not in out
    assert "stopped early: no better epoch than 1 in 2 epochs" in out
    assert " bits/char in epoch 1: m.best.safetensors" in out
    # Resumed, it stays stopped.
    for options in ([], ["--patience", 2]):
        out = run("train", "text.txt", "--output", "m", "--resume", *options)[1]
        assert "epoch 4/50" not in out
    Path("m.best.safetensors").unlink()
    out = run("train", "text.txt", "--output", "m", "--resume", "--patience", 3)[1]
    assert "epoch 4/50" in out
    assert "epoch 5/50" not in out
    assert " bits/char in epoch 1\n" in out


def test_the_curve_is_drawn(run):
    pytest.importorskip("matplotlib")
    assert run("train", "text.txt", *OPTIONS, "--plot", "--output", "m.safetensors")[0] == 0
    assert Path("m.curve.png").read_bytes()[:4] == b"\x89PNG"


def test_sampling(run, model):
    def sample(*options):
        code, out, err = run("sample", model, "--length", 40, *options)
        assert (code, err) == (0, "")
        return out.removesuffix("\n")

    assert len(sample()) == 40
    assert sample("--seed", 1) == sample("--seed", 1) != sample("--seed", 2)
    assert sample("--temperature", 0) == sample("--temperature", 0, "--seed", 5)
    assert sample("--top-k", 1) == sample("--temperature", 0)
    prompted = sample("--prompt", "the cat")
    assert prompted.startswith("the cat")
    assert len(prompted) == 47
    assert sample("--length", 0) == ""


def test_scoring(run, model):
    code, out, err = run("eval", model, "text.txt")
    assert (code, err) == (0, "")
    assert out.endswith(f"over {len(TEXT) - 1} predictions\n")
    # The last row of the history is the last tenth, scored the same way.
    Path("end.txt").write_text(TEXT[int(0.9 * len(TEXT)) :])
    bits = float(run("eval", model, "end.txt")[1].split()[0])
    table = Path("model.history.csv").read_text().splitlines()
    assert bits == pytest.approx(float(table[-1].split(",")[-1]), abs=1e-4)


def test_config_and_version(run):
    code, out, _ = run("config")
    assert code == 0
    assert "NumPy" in out
    assert run("--version")[1].startswith("fastrnn ")


@pytest.mark.parametrize("command", [[], ["train"], ["sample"], ["eval"], ["config"]])
def test_help(run, command):
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert out.startswith("usage: fastrnn")


@pytest.mark.parametrize("columns", ["60", "80"])
def test_the_first_try_stands_in_one_line(run, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    assert "  fastrnn train && fastrnn sample fastrnn-model.safetensors\n" in run("--help")[1]


# Bad input: one line, exit code 2, nothing written.


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "there is no file bad.txt"),
        (b"", "bad.txt is empty"),
        (b"abc", "the text is too short"),
        (b"abc" * 40, "the text is too short"),
        (b"caf\xe9" * 100, "bad.txt is not UTF-8 text"),
        (bytes(range(256)) * 10, "bad.txt is not UTF-8 text"),
    ],
)
def test_unusable_texts(run, content, expected):
    if content is not None:
        Path("bad.txt").write_bytes(content)
    before = files()
    assert_refused(run("train", "bad.txt", "--output", "m"), expected)
    assert files() == before
    assert_refused(run("train", ".", "--output", "m"), "cannot read .")


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--hidden-size", ["0", "-1", "1.5", "x", "", "nan", "1" * 5000]),
        ("--hidden-size", ["1000000000", "1" * 30]),
        ("--num-layers", ["0", "1000000000000"]),
        ("--embedding-size", ["-1", "100000000000"]),
        ("--seq-length", ["0", "10000000"]),
        ("--batch-size", ["0", "10000000", "9" * 40]),
        ("--epochs", ["0", "-5"]),
        ("--learning-rate", ["0", "-1", "nan", "inf", "x"]),
        ("--dropout", ["1", "-0.1", "nan"]),
        ("--clip", ["-1", "nan"]),
        ("--validation-fraction", ["1", "-1", "0.9999999", "nan"]),
        ("--seed", ["-1", "x"]),
        ("--threads", ["0", "-1", "x", "257"]),
        ("--patience", ["0"]),
        ("--checkpoint-every", ["-1"]),
        ("--cell", ["LSTM", "elman"]),
        ("--optimizer", ["adagrat"]),
        ("--no-such-option", ["1"]),
    ],
)
def test_impossible_settings(run, option, values):
    before = files()
    for value in values:
        assert_refused(run("train", "text.txt", *SIZES, f"{option}={value}", "--output", "m"))
        assert files() == before


@pytest.mark.parametrize(
    "arguments",
    [[], ["learn"], ["sample"], ["eval"], ["eval", "m"], ["train", "a", "b"], ["--no-such-option"]],
)
def test_incomplete_commands(run, arguments):
    assert_refused(run(*arguments), "--help)")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ["--prompt", "the zebra!"],
            'the prompt has characters outside the vocabulary of 14: "!", "b", "z"',
        ),
        (["--prompt", "日本\n語"], '"日", "本", "語"'),
        (["--temperature", "-1"], "--temperature"),
        (["--temperature", "nan"], "--temperature"),
        (["--top-k", "0"], "--top-k"),
        (["--length", "-1"], "--length"),
        (["--seed", "x"], "--seed"),
    ],
)
def test_wrong_requests_for_a_sample(run, model, options, expected):
    assert_refused(run("sample", model, *options), expected)


def test_wrong_requests_for_a_score(run, model):
    Path("other.txt").write_text("Zürich")
    assert_refused(run("eval", model, "other.txt"), 'characters outside the vocabulary of 14: "Z"')
    Path("other.txt").write_text("t")
    assert_refused(run("eval", model, "other.txt"), "the text is too short")
    assert_refused(run("eval", model, "absent.txt"), "there is no file absent.txt")


def test_unusable_models(run, model):
    whole = Path(model).read_bytes()
    bad = Path("bad.safetensors")
    for data in (b"", TEXT.encode(), whole[:100], whole[:-1], whole + b"x", whole[:-4] + b"abcd"):
        bad.write_bytes(data)
        before = files()
        assert_refused(run("sample", bad), "bad.safetensors")
        assert_refused(run("eval", bad, "text.txt"), "bad.safetensors")
        assert_refused(run("train", "text.txt", "--output", bad, "--resume"), "bad.safetensors")
        assert files() == before
    assert_refused(run("sample", "absent.safetensors"), "there is no file absent.safetensors")
    assert_refused(run("sample", "."), ". is not a file")


def test_divergence_is_explained(run, monkeypatch):
    monkeypatch.setattr(
        "fastrnn.models.language_model.softmax_cross_entropy",
        lambda logits, targets: (float("nan"), logits),
    )
    code, _, err = run("train", "text.txt", *OPTIONS, "--learning-rate", 0.5, "--output", "m")
    assert code == 2
    assert err.startswith("fastrnn: error: training diverged: the loss became nan in epoch 1")
    assert "take a lower learning rate (now 0.5)" in err
    assert err.count("\n") == 1


def test_absurd_steps_warn_of_nothing_else(run):
    options = [*SIZES, "--optimizer", "sgd", "--learning-rate", 1e38, "--clip", 0, "--output", "m"]
    code, _, err = run("train", "text.txt", *options)
    assert code == 0 or err.count("\n") == 1


def test_scores_that_overflow_are_one_error_without_warnings(run, model):
    sections = load_checkpoint(model)
    for name in ("output.weight", "output.bias"):
        sections["model"][name] = np.full_like(sections["model"][name], 3.4e38)
    save_checkpoint("large", sections)
    with use_backend("reference"):
        assert_refused(run("eval", "large", "text.txt"), "the scores of large are not finite")


def test_memory_that_does_not_suffice_is_explained(run, monkeypatch):
    def fail(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(_cli_run, "_memory", lambda: 12_000)  # of which 9,600 for parameters
    refused = run("train", "text.txt", *OPTIONS, "--output", "m")
    assert_refused(refused, "these sizes need about 0 GiB of memory", "take a smaller hidden size")
    monkeypatch.setattr(_cli_run, "LanguageModel", fail)
    assert_refused(run("train", "text.txt", *OPTIONS, "--output", "m"), "not enough memory")


def test_errors_of_imports_and_of_names_with_line_ends_are_one_line(run, model, monkeypatch):
    assert_refused(run("eval", model, "no\nfile"), "there is no file no file")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert_refused(run("train", "text.txt", *OPTIONS, "--plot", "--output", "m"), "Matplotlib")


def test_defaults_are_those_that_help_states():
    sample, train = (make_parser().parse_args(line) for line in (["sample", "m"], ["train"]))
    assert (sample.length, sample.temperature, train.checkpoint_every) == (500, 0.7, 30)


def test_an_output_that_cannot_be_written(run):
    code, _, err = run("train", "text.txt", *OPTIONS, "--output", "absent/m")
    assert (code, err) == (2, "fastrnn: error: No such file or directory: absent/m\n")
    assert_refused(run("train", "text.txt", *OPTIONS, "--output", ""), "must be named")
    code, _, err = run("train", "text.txt", *OPTIONS, "--force", "--output", os.devnull)
    assert (code, err) == (2, f"fastrnn: error: {os.devnull} is not a regular file\n")


# Other runs' files are safe.


@pytest.mark.parametrize(
    "name", ["m.safetensors", "m.best.safetensors", "m.history.csv", "m.curve.png"]
)
def test_nothing_is_overwritten_unasked(run, name):
    Path(name).write_bytes(b"precious")
    before = files()
    options = ["train", "text.txt", *OPTIONS, "--plot", "--output", "m.safetensors"]
    assert_refused(run(*options), f"{name} exists", "--resume", "--output", "--force")
    assert files() == before
    pytest.importorskip("matplotlib")
    assert run(*options, "--force")[0] == 0
    assert Path(name).read_bytes() != b"precious"


@pytest.mark.parametrize("option", ["--force", "--resume", "--plot"])
def test_a_model_is_no_folder(run, option):
    Path("m").mkdir()
    refused = run("train", "text.txt", *OPTIONS, option, "--output", "m")
    assert_refused(refused, "m is a folder; take another --output, such as m/model")


def test_a_forced_run_leaves_nothing_of_the_other(run, model):
    options = [*OPTIONS, "--validation-fraction", 0, "--force", "--output", model]
    assert run("train", "text.txt", *options)[0] == 0
    assert sorted(files()) == ["model.history.csv", model, "text.txt"]


def test_the_text_is_never_overwritten(run):
    for option in ("--force", "--resume"):
        assert_refused(run("train", "text.txt", *OPTIONS, option, "--output", "text.txt"))
        assert Path("text.txt").read_text() == TEXT
    Path("link").symlink_to("text.txt")
    assert_refused(run("train", "text.txt", *OPTIONS, "--force", "--output", "link"), "overwrite")
    Path("broken").symlink_to("nothing")
    assert_refused(run("train", "text.txt", *OPTIONS, "--output", "broken"), "broken exists")


# Resuming.


def test_more_epochs_can_be_asked_for(run):
    assert run("train", "text.txt", *OPTIONS, "--epochs", 3, "--output", "a")[0] == 0
    assert run("train", "text.txt", *OPTIONS, "--epochs", 1, "--output", "b")[0] == 0
    code, out, _ = run("train", "text.txt", "--epochs", 3, "--output", "b", "--resume")
    assert code == 0
    assert "going on after epoch 1" in out
    assert "epoch 1/3" not in out
    for name in ("", ".best.safetensors", ".history.csv"):
        assert Path("a" + name).read_bytes() == Path("b" + name).read_bytes()


def test_a_finished_run_stays_as_it_is(run, model):
    before = files()
    code, out, _ = run("train", "text.txt", *OPTIONS, "--output", model, "--resume")
    assert code == 0
    assert "all its epochs are done" in out
    assert files() == before


def test_resuming_where_nothing_is_starts(run):
    assert run("train", "text.txt", *OPTIONS, "--output", "a")[0] == 0
    code, out, _ = run("train", "text.txt", *OPTIONS, "--output", "b", "--resume")
    assert code == 0
    assert "nothing was trained in b yet" in out
    assert Path("a").read_bytes() == Path("b").read_bytes()


def test_other_settings_are_named(run, model):
    before = files()
    resume = ["train", "text.txt", "--output", model, "--resume"]
    other = [
        "--cell",
        "gru",
        "--hidden-size",
        "6",
        "--learning-rate",
        "0.1",
        "--seed",
        "9",
        "--clip",
        "1",
        "--optimizer",
        "sgd",
    ]
    result = run(*resume, *other)
    assert_refused(
        result,
        "--cell gru (it has lstm)",
        "--hidden-size 6 (it has 5)",
        "--learning-rate 0.1 (it has 0.003)",
        "--seed 9 (it has 0)",
        "--clip 1.0 (it has 5.0)",
        "--optimizer sgd (it has adam)",
    )
    assert_refused(run(*resume, "--epochs", 1), "has finished 2 epochs; take --epochs 2 or more")
    assert_refused(run(*resume, "--force"), "not allowed with argument")
    Path("text.txt").write_text(TEXT + "more")
    assert_refused(run(*resume), "reads another text")
    Path("text.txt").write_text(TEXT)
    assert files() == before
    assert run(*resume, *OPTIONS)[0] == 0


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("settings", "seq_length", "6"),
        ("settings", "optimizer", "adagrat"),
        ("settings", "epochs", None),
        ("settings", "batch_size", 0),
        ("progress", "position", 10**6),
        ("progress", "history", [{"epoch": 1}]),
        ("optimizer", "steps", -1),
        ("generators", "dropout", {}),
        ("model", "output.bias", np.zeros(3, np.float32)),
    ],
)
def test_forged_runs_are_refused(run, model, section, name, value):
    sections = load_checkpoint(model)
    sections[section] = {**sections[section], name: value}
    save_checkpoint(model, sections)
    before = files()
    assert_refused(run("train", "text.txt", "--output", model, "--resume"))
    assert files() == before


def test_a_model_without_a_run_is_refused(run, model):
    sections = load_checkpoint(model)
    for name in ("settings", "progress", "optimizer"):
        rest = {key: value for key, value in sections.items() if key != name}
        save_checkpoint("m", rest)
        assert_refused(
            run("train", "text.txt", "--output", "m", "--resume"), "holds no run", "resumed"
        )
    assert run("sample", "m", "--length", 5)[0] == 0


# Processes: killed, interrupted, cut off.

# Ends its own process at the n-th call of a function: (module, function, n).
SUICIDE = """
import importlib, os, signal, sys
module, name, count = importlib.import_module(sys.argv[1]), sys.argv[2], int(sys.argv[3])
original = getattr(module, name)
def counted(*arguments):
    global count
    count -= 1
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)
setattr(module, name, counted)
from fastrnn.cli import main
sys.exit(main(sys.argv[4:]))
"""


def command(*arguments, script=None):
    start = ["-c", script] if script else ["-m", "fastrnn"]
    return [sys.executable, *start, *(str(argument) for argument in arguments)]


def environment():
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


needs_sigkill = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@needs_sigkill
def test_killed_anywhere_a_run_ends_in_the_same_bits(run):
    assert run("train", "text.txt", *OPTIONS, "--output", "whole.safetensors")[0] == 0
    options = [*OPTIONS, "--checkpoint-every", 0, "--resume", "--output", "killed.safetensors"]
    # In turn: a file written but not yet in place; a file in place, but not yet its directory's
    # entry on disk; the update of a step; a line of the report, between two files of one epoch.
    for module, name, count in [
        ("os", "replace", 1),
        ("os", "fsync", 2),
        ("fastrnn.training.trainer", "clip_gradient_norm", 5),
        ("os", "replace", 9),
        ("fastrnn.training.callbacks", "save_checkpoint", 13),
        ("os", "fsync", 30),
        ("fastrnn.training.callbacks", "bits_per_token", 3),
    ]:
        arguments = command(module, name, count, "train", "text.txt", *options, script=SUICIDE)
        killed = subprocess.run(arguments, env=environment(), capture_output=True, timeout=60)
        assert killed.returncode == -signal.SIGKILL, (name, count, killed.stderr)
    assert run("train", "text.txt", *options)[0] == 0
    for name in (".safetensors", ".best.safetensors", ".history.csv"):
        assert Path("killed" + name).read_bytes() == Path("whole" + name).read_bytes()
    assert len(files()) == 7  # and nothing half written is left


@needs_sigkill
def test_killed_at_any_time_a_run_ends_in_the_same_bits(run):
    options = [*OPTIONS, "--epochs", 8]
    assert run("train", "text.txt", *options, "--output", "whole")[0] == 0
    options += ["--checkpoint-every", 0, "--resume", "--output", "killed"]
    delays = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen(
            command("train", "text.txt", *options),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        process.stdout.readline()  # it has started
        time.sleep(delays.uniform(0, 0.05))
        process.kill()
        process.communicate()
    assert run("train", "text.txt", *options)[0] == 0
    for name in ("", ".best.safetensors", ".history.csv"):
        assert Path("killed" + name).read_bytes() == Path("whole" + name).read_bytes()


@pytest.mark.skipif(not os.path.exists("/dev/stdin"), reason="no file of standard input")
def test_a_dash_is_standard_input(run):
    assert run("train", "text.txt", *OPTIONS, "--output", "m")[0] == 0
    arguments = command("eval", "m", "-")
    piped = subprocess.run(
        arguments, env=environment(), input=TEXT, capture_output=True, text=True, timeout=60
    )
    assert piped.returncode == 0
    assert piped.stdout == run("eval", "m", "text.txt")[1]


@needs_sigkill
def test_interrupted_a_run_saves_and_says_how_to_go_on(run):
    process = subprocess.Popen(
        command("train", "text.txt", *OPTIONS, "--epochs", 100000, "--output", "m"),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == ("fastrnn: interrupted; to go on: fastrnn train text.txt --output m --resume\n")
    progress = load_checkpoint("m")["progress"]
    done, position = progress["epoch"], progress["position"]
    assert done >= 2
    # It goes on to where an uninterrupted run comes.
    assert run("train", "text.txt", "--epochs", done + 1, "--output", "m", "--resume")[0] == 0
    assert run("train", "text.txt", *OPTIONS, "--epochs", done + 1, "--output", "whole")[0] == 0
    assert Path("m").read_bytes() == Path("whole").read_bytes(), position


@needs_sigkill
def test_a_reader_that_leaves_is_no_error(model):
    process = subprocess.Popen(
        command("sample", model, "--length", 100000),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@needs_sigkill
@pytest.mark.parametrize("arguments", [["config"], ["--help"]])
def test_a_reader_that_has_left_before_is_no_error(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    env = {**environment(), "PYTHONUNBUFFERED": ""}
    result = subprocess.run(
        command(*arguments), env=env, stdout=writing, stderr=subprocess.PIPE, timeout=60
    )
    os.close(writing)
    assert (result.returncode, result.stderr) == (1, b"")


def test_training_needs_no_output(run, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main(["train", "text.txt", *OPTIONS, "--output", "m"]) == 0
    assert len(load_checkpoint("m")["progress"]["history"]) == 2


def test_errors_do_not_go_to_the_output(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)  # closed by `2>&-`
    assert cli.main(["train", "absent.txt"]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}])
def test_any_terminal_can_show_a_sample(run, model, locale):
    Path("text.txt").write_text("äöü\n" * 100)
    assert run("train", "text.txt", *OPTIONS, "--output", "m")[0] == 0
    result = subprocess.run(
        command("sample", "m", "--prompt", "ä", "--length", 5),
        env={**environment(), "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", **locale},
        capture_output=True,
        timeout=60,
    )
    assert result.returncode == 0
    assert result.stderr == b""
    assert result.stdout.startswith(b"\\xe4")
