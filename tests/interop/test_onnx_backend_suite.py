"""The official node tests of the operators that we run, by the onnx package's own runner."""

import unittest
import warnings
from pathlib import Path

import pytest

pytest.importorskip("onnx")

import onnx
from onnx.backend.test import BackendTest
from onnx.backend.test.loader import load_model_tests
from tolerances import TOLERANCES, assert_close

import fastrnn.interop.onnx

pytestmark = pytest.mark.onnx

OPERATORS = ("RNN", "LSTM", "GRU")


def has_one_of_ours(case):
    model = case.model or onnx.load(Path(case.model_dir) / "model.onnx")
    return any(node.op_type in OPERATORS for node in model.graph.node)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of other operators' tests, while they are made
    CASES = {case.name: case for case in load_model_tests(kind="node") if has_one_of_ours(case)}
    SUITE = BackendTest(fastrnn.interop.onnx.Backend, __name__)
for name in CASES:  # the rest would be skipped
    SUITE.include(f"^{name}_cpu$")


def test_there_are_official_tests():
    assert len(CASES) >= 12
    assert {name.split("_")[1] for name in CASES} >= {"rnn", "lstm", "gru"}


@pytest.mark.parametrize("name", CASES)
def test_official(backend, name):
    result = unittest.TestResult()
    SUITE.test_cases["OnnxBackendNodeModelTest"](f"{name}_cpu").run(result)
    assert result.testsRun == 1
    assert not result.skipped
    assert not [message for _, message in result.errors + result.failures]


def is_in(case, opset):
    """Return whether an opset has all that a case is about."""
    model = case.model or onnx.load(Path(case.model_dir) / "model.onnx")
    return opset >= 14 or not any(a.name == "layout" for a in model.graph.node[0].attribute)


OLDER = [(name, n) for name, case in CASES.items() for n in (7, 14, 21) if is_in(case, n)]


@pytest.mark.parametrize(("name", "opset"), OLDER)
def test_official_in_older_opsets(name, opset):
    """They are written for the newest opset alone."""
    case = CASES[name]
    if case.model is None:
        pytest.skip("this onnx has the case in a file")
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    model.opset_import[0].version = opset
    for inputs, outputs in case.data_sets:
        for actual, expected in zip(fastrnn.interop.onnx.run_model(model, inputs), outputs):
            assert_close(actual, expected, TOLERANCES["float32"])
