"""The report of Triton's calls reads Triton's statistics right."""

from __future__ import annotations

from typing import Any

from benchmarks.studies.triton_report import Calls, calls_between


def statistics(
    images: int, calls: int, queue: tuple[int, int], batches: dict[int, tuple[int, int]]
) -> dict[str, Any]:
    """As Triton gives them: counts and nanoseconds."""
    return {
        "inference_count": images,
        "execution_count": calls,
        "inference_stats": {"queue": dict(zip(("count", "ns"), queue, strict=True))},
        "batch_stats": [
            {"batch_size": size, "compute_infer": {"count": count, "ns": ns}}
            for size, (count, ns) in batches.items()
        ],
    }


def test_only_what_came_since_counts() -> None:
    before = {
        "stage_1": statistics(10, 10, (10, 1_000_000), {1: (10, 50_000_000)}),
        "stage_2": statistics(3, 3, (3, 0), {1: (3, 9_000_000)}),
    }
    after = {
        "stage_1": statistics(42, 18, (42, 65_000_000), {1: (10, 50_000_000), 4: (8, 80_000_000)}),
        "stage_2": before["stage_2"],
    }
    assert list(calls_between(before, after)) == [
        Calls("stage_1", images=32, calls=8, queue_ms=2, compute_ms=10)
    ]
