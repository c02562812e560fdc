"""Execution providers, and what batches are measured to cost."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from serving.engine.graphs import Engine, host, load_engine
from serving.engine.provider import Provider
from serving.engine.stage_costs import StageCosts, measure_costs
from serving.errors import SettingsError
from serving.model.routing import RoutingState

Pixels = NDArray[np.uint8]


def has_cuda(repository: Path) -> bool:
    session = ort.InferenceSession(
        repository / "stage_3" / "1" / "model.onnx", providers=["CUDAExecutionProvider"]
    )
    return "CUDAExecutionProvider" in session.get_providers()


@pytest.mark.parametrize("provider", [Provider.CUDA, Provider.TENSORRT])
def test_a_provider_that_does_not_work_here_is_an_error_and_no_silent_fallback(
    repository: Path,
    call_ride: Callable[..., subprocess.CompletedProcess[str]],
    provider: Provider,
) -> None:
    if has_cuda(repository):
        pytest.skip("CUDA works here")
    with pytest.raises(SettingsError, match="--provider cpu"):
        load_engine(repository, provider=provider)
    run = call_ride("serve", repository, "--port=0", f"--provider={provider}")
    assert run.returncode == 1
    assert f"{provider} provider" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.gpu
def test_cuda_gives_the_answers_of_the_cpu(repository: Path, pixels: Pixels) -> None:
    cuda, cpu = load_engine(repository, provider=Provider.CUDA), load_engine(repository)
    rule = cpu.rule(threshold=0.0)
    np.testing.assert_allclose(
        cuda.classify(pixels, rule).probabilities,
        cpu.classify(pixels, rule).probabilities,
        atol=1e-3,
    )


def test_costs_are_measured_for_every_stage(engine: Engine) -> None:
    costs = measure_costs(engine)
    assert costs.sizes == tuple(2**power for power in range(len(costs.sizes)))
    assert len(costs.seconds) == engine.manifest.num_experts
    assert all(second > 0 for stage in costs.seconds for second in stage)
    # Backbone and expert 1 together are dearer than expert 2 alone.
    assert costs.of(1, 1) > costs.of(2, 1)
    assert costs.best_batch == costs.sizes[-1]


def test_stages_one_after_the_other_are_the_engines_answer(engine: Engine, pixels: Pixels) -> None:
    rule, images = engine.rule(threshold=0.0), pixels[:5]
    state = RoutingState.start([rule] * 5, engine.manifest.num_experts, engine.manifest.num_classes)
    inputs: NDArray[Any] = images
    for stage in range(1, engine.manifest.num_experts + 1):
        call = state.call(stage)
        run = engine.run_stage(call, inputs)
        assert run.seconds > 0
        on, inputs = state.advance(call, run.output), host(run.features)
    assert not len(on)
    answers, expected = state.answers(), engine.classify(images, rule)
    np.testing.assert_allclose(answers.probabilities, expected.probabilities, atol=1e-6)


def test_a_cost_table_of_one_size() -> None:
    costs = StageCosts((1,), ((0.5,), (0.25,)))
    assert costs.best_batch == 1
    assert costs.of(1, 1) == 0.5
    assert costs.of(2, 4) == 1.0
