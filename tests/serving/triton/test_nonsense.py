"""Triton servers that answer what does not fit the model, or serve versions that are none."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.running.load import CLASSIFY
from tests.running.server import RunningServer
from tests.running.waiting import wait_until
from tests.serving.triton.refusals import assert_refused
from tests.serving.triton.scripted_triton import ScriptedTriton, Tensors


def test_a_version_that_the_repository_lacks_is_told_to_clients_and_operators(
    front: RunningServer, triton: ScriptedTriton, pictures: tuple[bytes, ...]
) -> None:
    triton.versions = ["1", "3"]
    wait_until(lambda: front.get("/v2/health/ready").status_code == 503)
    refused = front.post(CLASSIFY, content=pictures[0])
    assert_refused(
        refused,
        503,
        "^Triton serves version 3 of the model, which is not in this server's model repository$",
    )
    assert re.search(
        r"ERROR: +Triton at .* not ready: it serves version 3, and .*manifest.json can't be read",
        front.log.read_text(),
    )


@pytest.mark.parametrize("versions", [["latest", "-1"], ["9" * 5_000]])
def test_versions_that_are_none_are_not_taken(
    front: RunningServer, triton: ScriptedTriton, pictures: tuple[bytes, ...], versions: list[str]
) -> None:
    triton.versions = versions
    wait_until(lambda: front.get("/v2/health/ready").status_code == 503)
    assert front.post(CLASSIFY, content=pictures[0]).status_code == 503


def without(name: str) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.pop(name)


def with_output(name: str, datatype: str, array: Any) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({name: (datatype, array)})


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (without("probabilities"), "no output 'probabilities'"),
        (without("router_scores"), "no output 'router_scores'"),
        (
            with_output("probabilities", "FP32", np.zeros((1, 7), np.float32)),
            r"probabilities of type FP32 and shape \[1, 7\], .* are FP32 and \[1, 100\]",
        ),
        (with_output("probabilities", "FP64", np.zeros((1, 100))), "probabilities of type FP64"),
        (
            with_output("probabilities", "FP32", np.zeros((1, 100))),
            "has 800 bytes of probabilities",
        ),
        (
            with_output("probabilities", "FP32", np.full((1, 100), np.nan, np.float32)),
            "don't lie between 0 and 1",
        ),
        (
            with_output("probabilities", "FP32", np.full((1, 100), 7, np.float32)),
            "don't lie between 0 and 1",
        ),
        (with_output("experts_used", "INT32", np.zeros(1, np.int32)), "experts_used beyond 1 to 3"),
        (with_output("experts_used", "INT32", np.full(1, 4, np.int32)), "experts_used beyond"),
        (with_output("experts_used", "INT32", np.ones((1, 2), np.int32)), r"shape \[1, 2\]"),
        (with_output("router_scores", "FP32", np.zeros((2, 2), np.float32)), r"shape \[2, 2\]"),
        (
            with_output("router_scores", "x" * 10_000, np.zeros((1,) * 60, np.float32)),
            "router_scores of type xxx",
        ),
    ],
)
def test_an_answer_that_does_not_fit_the_model_is_a_bad_gateway(
    front: RunningServer,
    triton: ScriptedTriton,
    pictures: tuple[bytes, ...],
    spoil: Callable[[Tensors], object],
    sentence: str,
) -> None:
    def spoilt(*_: Any) -> Any:
        tensors = triton.tensors(1)
        spoil(tensors)
        return triton.answer(tensors)

    triton.infer = spoilt
    assert_refused(front.post(CLASSIFY, content=pictures[0]), 502, sentence)
    assert f"Triton at {triton.address}: Triton's answer has" in front.log.read_text()


def test_an_answer_of_another_version_is_a_bad_gateway(
    front: RunningServer, triton: ScriptedTriton, pictures: tuple[bytes, ...]
) -> None:
    triton.infer = lambda *_: triton.answer(triton.tensors(1), "2")
    refused = front.post(CLASSIFY, content=pictures[0])
    assert_refused(
        refused, 502, "answered with version '2' of the model, and was asked for version 1"
    )


def test_outputs_without_contents_are_a_bad_gateway(
    front: RunningServer, triton: ScriptedTriton, pictures: tuple[bytes, ...]
) -> None:
    def spoilt(*_: Any) -> Any:
        message = triton.answer(triton.tensors(1))
        del message.raw_output_contents[1:]
        return message

    triton.infer = spoilt
    assert_refused(front.post(CLASSIFY, content=pictures[0]), 502, "raw content")


def test_an_answer_is_marked_as_degraded_where_triton_s_is(
    front: RunningServer, triton: ScriptedTriton, pictures: tuple[bytes, ...]
) -> None:
    def degraded(*_: Any) -> Any:
        message = triton.answer(triton.tensors(1))
        message.parameters["degraded"].bool_param = True
        return message

    triton.infer = degraded
    assert front.post(CLASSIFY, content=pictures[0]).json()["degraded"] is True
    assert "\nride_images_degraded_total 1.0\n" in front.get("/metrics").text


def test_bytes_that_are_no_message_are_a_bad_gateway(
    front: RunningServer, triton: ScriptedTriton, pictures: tuple[bytes, ...]
) -> None:
    triton.infer = lambda *_: b"\xff" * 100
    assert_refused(front.post(CLASSIFY, content=pictures[0]), 502, "answer can't be read")
    assert front.get("/v2/health/ready").is_success
