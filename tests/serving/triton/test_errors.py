"""What becomes of every error of Triton's."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tritonclient.utils import InferenceServerException

from serving.errors import RideError
from serving.http.errors import STATUS
from serving.triton.errors import BackendLost, error_of, sentence

REFUSED = "Triton refused the request"


@settings(max_examples=30)
@given(text=st.text(max_size=50))
def test_every_failure_is_an_error_for_the_client_or_another_try(text: str) -> None:
    for code in (*map(str, grpc.StatusCode), None):
        error = error_of(InferenceServerException(text, status=code))
        assert isinstance(error, RideError | BackendLost)
        assert isinstance(error, BackendLost) or STATUS[type(error)] in {400, 413, 502, 503, 504}


@given(text=st.text())
@example("x" * 10_000)
@example("a\r\nb")
@example("[[[[]]]]")
@example("Error: " * 1_000)
def test_a_sentence_is_one_short_printable_line(text: str) -> None:
    line = sentence(text)
    assert line.isprintable()
    assert 0 < len(line) <= 300


@given(inner=st.text("abc ,'", min_size=1).map(str.strip).filter(bool))
def test_a_sentence_is_what_triton_wrapped(inner: str) -> None:
    assert sentence(f"[request id: 7] in ensemble 'ride', {inner}") == inner
    assert sentence(f"[request id: <id_unknown>] ValueError: {inner}\n\nAt:\n  /m.py(1)") == inner


@pytest.mark.parametrize(
    "text",
    [
        *("/models/ride/1/model.py(12): execute", "no such file: '/opt/tritonserver/x'"),
        *("Traceback (most recent call last):", "<Tensor at 0x7f0a12>", " ", "\x00"),
        "in ensemble 'ride', ",
    ],
)
def test_what_would_tell_of_triton_s_insides_is_not_told(text: str) -> None:
    assert sentence(text) == REFUSED


def test_what_a_path_is_not_is_told() -> None:
    assert sentence("send image/png, 1/2 of it and/or more") == (
        "send image/png, 1/2 of it and/or more"
    )
