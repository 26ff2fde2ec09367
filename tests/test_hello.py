"""The lecture's example, run as a script is."""

import runpy
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "examples" / "hello.py"


def test_each_cell_spells_hello(capsys):
    predictions = runpy.run_path(str(EXAMPLE))["main"]()
    assert predictions == {"tanh RNN": "ello", "LSTM": "ello", "GRU": "ello"}
    printed = capsys.readouterr().out.splitlines()
    for name in predictions:
        table = printed[printed.index(name) + 2 :][:4]
        assert [line[0] + line[-1] for line in table] == ["he", "el", "ll", "lo"]
        # Three hidden units and four scores a step.
        assert all(len(line[1:-1].split()) == 7 for line in table)
