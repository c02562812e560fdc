"""The model `ride`: takes prepared images through the stages, by serving/model/routing.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from serving.errors import InvalidRequest
from serving.in_triton.counters import Counters
from serving.in_triton.requests import cancelled_response, error_response, rule_of
from serving.in_triton.stage_graphs import StageGraphs
from serving.model.manifest import Manifest
from serving.model.manifest_json import load_manifest
from serving.model.parameters import NO_PARAMETERS
from serving.model.routing import (
    Routed,
    RoutingRule,
    RoutingState,
    Rows,
    StageCall,
    StageOutput,
    route_rows,
)


@dataclass
class _Job:
    """A request: what it wants, or why it gets nothing."""

    request: Any
    images: NDArray[np.uint8]
    rule: RoutingRule
    refusal: Any = None


class RoutingModel:
    """Triton's `TritonPythonModel`. Images of all requests of a call are routed as one batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the manifest of this version; Triton reports what it raises."""
        version = int(args["model_version"])
        repository = Path(args["model_repository"]).parent  # Triton names the model's own folder
        self._version = version
        self._manifest = load_manifest(repository, version)
        self._own_rule = NO_PARAMETERS.rule(self._manifest)
        on_gpu = args["model_instance_kind"] == "GPU"
        self._gpu = int(args["model_instance_device_id"]) if on_gpu else None
        self._counters = Counters(version, self._manifest)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request; what is wrong with one is its own error."""
        read = [_read(request, self._manifest) for request in requests]
        jobs = [job for job in read if isinstance(job, _Job)]
        answers = iter(self._answers(jobs)) if jobs else iter(())
        responses = [next(answers) if isinstance(job, _Job) else job for job in read]
        self._counters.observe_requests(
            "ERROR" if response.has_error() else "OK" for response in responses
        )
        return responses

    def finalize(self) -> None:
        """Hand over the last counts."""
        self._counters.close()

    def _answers(self, jobs: list[_Job]) -> list[Any]:
        sizes = [len(job.images) for job in jobs]
        owners = np.repeat(np.arange(len(jobs)), sizes)
        rules = [job.rule for job, size in zip(jobs, sizes, strict=True) for _ in range(size)]
        state = RoutingState.start(rules, self._manifest.num_experts, self._manifest.num_classes)
        images = jobs[0].images if len(jobs) == 1 else np.concatenate([job.images for job in jobs])
        self._route(images, state, jobs, owners)
        alive = np.array([job.refusal is None for job in jobs])
        answered = np.flatnonzero(alive[owners])
        routed = state.answers(answered)
        if len(routed):
            own = np.array([job.rule == self._own_rule for job in jobs])
            self._counters.observe_images(routed, own[owners[answered]])
        ends = np.cumsum(np.where(alive, sizes, 0))
        return [
            job.refusal or _response(routed, slice(end - size, end))
            for job, size, end in zip(jobs, sizes, ends.tolist(), strict=True)
        ]

    def _route(
        self, images: NDArray[np.uint8], state: RoutingState, jobs: list[_Job], owners: Rows
    ) -> None:
        """Take all rows as far as they go. What fails costs those who still needed it."""
        graphs = StageGraphs(images, self._manifest.num_experts, self._version, self._gpu)
        under_way: Rows = np.arange(len(images))

        def run_stage(call: StageCall) -> StageOutput:
            nonlocal under_way
            under_way = call.rows
            output = graphs.run(call)
            self._counters.observe_stage(call.stage, len(call.rows), graphs.seconds)
            return output

        try:
            route_rows(state, run_stage, lambda rows: _still_wanted(rows, jobs, owners))
        except Exception as error:  # noqa: BLE001 those who are done must be answered
            for owner in np.unique(owners[under_way]):
                jobs[owner].refusal = error_response(error)


def _read(request: Any, manifest: Manifest) -> _Job | Any:
    """A request as a job, or the error that answers it."""
    try:
        rule = rule_of(request, manifest)
        images = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
        if not len(images):
            raise InvalidRequest("the request holds no image")
    except Exception as error:  # noqa: BLE001 the requests beside it must be answered
        return error_response(error)
    return _Job(request, images, rule)


def _still_wanted(rows: Rows, jobs: list[_Job], owners: Rows) -> Rows:
    """Leave out rows whose client is gone. Triton itself looks only while a request waits."""
    for owner in np.unique(owners[rows]):
        if jobs[owner].request.is_cancelled():
            jobs[owner].refusal = cancelled_response()
    return rows[[jobs[owner].refusal is None for owner in owners[rows]]]


def _response(routed: Routed, rows: slice) -> Any:
    return pb_utils.InferenceResponse(
        [
            pb_utils.Tensor("probabilities", routed.probabilities[rows]),
            pb_utils.Tensor("experts_used", routed.experts_used[rows]),
            pb_utils.Tensor("router_scores", routed.router_scores[rows]),
        ]
    )
