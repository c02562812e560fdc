"""`python -m benchmarks`: the command that finds the studies."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import main


@pytest.mark.parametrize("arguments", [["--help"], ["training-speed", "--help"]])
def test_help_needs_no_study_but_its_own(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code
    assert "Usage: python -m benchmarks" in capsys.readouterr().out


def test_what_a_study_yields_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["results", "--list", "--row", "ride-3"])
    assert not ended.value.code
    assert capsys.readouterr().out.startswith("ride-3: ride train --preset ")


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["decoding", "--seconds", "0"], "--seconds"),
        (["training-speed", "--steps", "0"], "--steps"),
    ],
)
def test_a_flag_that_makes_no_sense_is_refused(
    arguments: list[str], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert flag in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["scoring", "--data", "nowhere"], "there is no nowhere/test.parquet"),
        (["results", "--row", "nothing"], "there is no row nothing"),
        (["training-speed", "--preset", "no"], "there is no preset 'no' of small images"),
        (["graph-speed", "nowhere", "nowhere"], "there is no model repository nowhere"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert str(ended.value.code).startswith(f"benchmarks: {sentence}")
