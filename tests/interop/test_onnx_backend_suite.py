"""The official node tests of the operators that we run, by the onnx package's own runner."""

import unittest
import warnings
from pathlib import Path

import pytest

pytest.importorskip("onnx")

import onnx
from onnx.backend.test import BackendTest
from onnx.backend.test.loader import load_model_tests

import fastrnn.interop.onnx

pytestmark = pytest.mark.onnx

OPERATORS = ("RNN", "LSTM", "GRU")


def has_one_of_ours(case):
    model = case.model or onnx.load(Path(case.model_dir) / "model.onnx")
    return any(node.op_type in OPERATORS for node in model.graph.node)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of other operators' tests, while they are made
    NAMES = [case.name for case in load_model_tests(kind="node") if has_one_of_ours(case)]
    SUITE = BackendTest(fastrnn.interop.onnx.Backend, __name__)
for name in NAMES:  # the rest would be skipped
    SUITE.include(f"^{name}_cpu$")


def test_there_are_official_tests():
    assert len(NAMES) >= 12


@pytest.mark.parametrize("name", NAMES)
def test_official(backend, name):
    result = unittest.TestResult()
    SUITE.test_cases["OnnxBackendNodeModelTest"](f"{name}_cpu").run(result)
    assert result.testsRun == 1
    assert not result.skipped
    assert not [message for _, message in result.errors + result.failures]
