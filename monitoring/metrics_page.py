"""The page docs/metrics.md, from the definitions of the metrics.

Run `python -m monitoring.metrics_page > docs/metrics.md` after a change to them.
"""

from __future__ import annotations

import sys

from serving.metrics.definitions import ALL_METRICS, Metric, Server

_INTRODUCTION = """\
# Metrics

`GET /metrics` answers in OpenMetrics where the client accepts it, with exemplars that point from a
bucket or an error to a request (its trace id, or its request id), and in Prometheus' older text
otherwise. This page is made of the code: `python -m monitoring.metrics_page > docs/metrics.md`.

All values are in base units. No label takes a client's word for a value, so the number of series is
bounded: of versions there are those served and the newest before them, of codes those of a table.

| name | type | labels | unit | meaning | embedded | front | Triton |
|---|---|---|---|---|---|---|---|
"""

_NOTES = """
"embedded" is `ride serve`, "front" is `ride serve --triton`, and "Triton" is Triton's own
`/metrics`, of the model `ride`. A histogram is three series, `_bucket`, `_sum` and `_count`; in
Triton they are three counters. The servers of this package have Prometheus' usual metrics of a
process, `process_cpu_seconds_total`, `process_resident_memory_bytes` and so on, as well.

## Failures

Whatever goes wrong with a request moves one counter by one: `ride_requests_total` under the code of
its answer. `code` is not `200` (HTTP), `OK` (gRPC) or `OK` (`protocol="triton"`, where all that the
models refuse is `ERROR`) for exactly the requests that failed; a client that hung up is `499` or
`CANCELLED`. Messages of a gRPC stream are requests each. In the embedded server such a request also
counts once as `fail` in the statistics of its model ([protocol.md](protocol.md)); while the model
is unloaded it has none, and the counter alone moves. A probe of `/v2/health/ready` that is answered
with 503, not ready, is such a request too.

Not counted is what never becomes a request: over gRPC a message above the limit, a call beyond
`--max-waiting-images` and 256 more at a time, and the name of no method, which gRPC itself refuses;
in Triton what Triton refuses before it asks a model, such as a tensor of another shape. Triton's
own statistics take an answer with an error for a success of a Python model.

Counters never fall while a server runs, however often a model is loaded, unloaded or replaced.
`ride_version_*` show the versions served and the newest before them; one that comes back goes on
where it was.

## What Triton lacks

- `ride_full_ensemble_compute_seconds`: it rests on what batches of each stage cost, which the
  embedded server measures when it starts.
- Queues, decoding, degradation: those are Triton's own, see its `nv_inference_*` metrics.
- The drift alarm: its counts are in `ride_own_rule_images_total` all the same, and what they are to
  be compared with in `ride_expected_go_on_ratio`.
- The audit: there is no idle moment that a model could see in Triton. Audit the same model in an
  embedded server that gets a part of the traffic.

## What routing saved

Three answers, because they differ:

- **Images**: `ride_expert_runs_avoided_total` counts runs of an expert on an image that were left
  out.
- **Multiply-adds**: `ride_multiply_adds_avoided_total` weighs them by what they cost on paper.
- **Seconds**: `ride_compute_seconds_total` is the measured time in which graphs ran, and
  `ride_full_ensemble_compute_seconds_total` an estimate of what the full ensemble would have taken
  on the same images. The share of time saved is

      1 - rate(ride_compute_seconds_total[5m]) / rate(ride_full_ensemble_compute_seconds_total[5m])

  and it may be below zero: where few images go on, later stages run on small batches, and where
  small batches are dear this saves arithmetic and no time. The estimate is made batch by batch:
  when stage 1 has taken t seconds on n images, the full ensemble is charged t times the cost of
  all stages on n images over the cost of stage 1 on n images. How a stage's cost grows with n was
  measured at the start; its level follows what its batches take (a moving average over some 50), so
  a machine that is busy with something else slows both figures down alike. Seconds are those of a
  clock: a graph that waits for a processor counts.

The mean number of experts of an image is
`rate(ride_experts_per_image_sum[5m]) / rate(ride_experts_per_image_count[5m])`, and of a version
`rate(ride_version_expert_runs_total[5m]) / rate(ride_version_images_total[5m])`.

What routing costs in accuracy, and whether images have changed, is in [audit.md](audit.md).

## What metrics cost

While images are answered, what happened is only noted; notes are added up once 256 of a kind have
come together, or when somebody looks. `python -m benchmarks metrics-cost` measures what that takes
of the processor time of an image, how long a scrape takes under full load, and what the audit does
to latency.

On 2026-11-26, 2 shared cores AMD EPYC (AVX2), `--seconds 8 --rounds 2`: metrics took 13 us, 0.3 %
of an image's processor time. A scrape under full load took 18.8 ms at the median and 85 ms at the
99th percentile, where requests themselves took 181 ms: on two cores it waits for a processor as
they do.
What the audit does to latency did not show in the noise (p99 117 and 112 ms without it, 123 and
68 ms with 1 %).
"""


def metrics_page() -> str:
    """The text of docs/metrics.md."""
    return _INTRODUCTION + "".join(map(_row, ALL_METRICS)) + _NOTES


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    name = f"`{metric.series}`"
    who = ["yes" if server in metric.servers else "" for server in Server]
    cells = (name, metric.kind, labels, metric.unit, metric.help, *who)
    return "| " + " | ".join(cells) + " |\n"


if __name__ == "__main__":
    sys.stdout.write(metrics_page())
