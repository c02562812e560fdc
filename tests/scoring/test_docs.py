"""The commands of docs/scoring.md do what the page says, as they are pasted."""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from _pytest.mark import ParameterSet

from scoring.parts import Kept
from tests.checkout import ROOT
from tests.scoring.conftest import RAY_WARNINGS

PAGE = (ROOT / "docs" / "scoring.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
IMAGES = {
    "scores/folder": 12,
    "scores/glob": 4,
    "scores/parquet": 1000,
    "scores/tar": 12,
    "scores/text": 12,
    "scores/csv": 12,
    "scores/web": 2,
    "scores/bucket": 48,
    "scores/budget": 12,
    "scores/ray": 12,
    "scores/fast": 1000,
    "scores/full": 1000,
}


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a checkout has, in a folder to write into."""
    for name in ("examples", "model_repository", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)


@contextmanager
def shell(line: str, port: int) -> Iterator[None]:
    """Run a line of a block; a server that it puts into the background ends with the block."""
    if not line.endswith("&"):
        subprocess.run(line, shell=True, check=True, executable="/bin/bash")
        yield
        return
    command = shlex.split(line.removesuffix("&"))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_open(port)
        yield
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _case(number: int, block: str) -> ParameterSet:
    marks = RAY_WARNINGS if "--engine ray" in block else []
    return pytest.param(block, id=str(number), marks=marks)


@pytest.mark.parametrize("block", [_case(i, block) for i, block in enumerate(BLOCKS)])
def test_each_block_can_be_pasted(
    block: str,
    call_ride: Callable[..., subprocess.CompletedProcess[str]],
    request: pytest.FixtureRequest,
) -> None:
    if "--engine ray" in block:
        pytest.importorskip("ray")
    if "s3://" in block:
        request.getfixturevalue("bucket")
    port = free_port()
    lines = block.replace("8765", str(port)).splitlines()
    assert any(line.startswith("ride ") for line in lines)
    with ExitStack() as stack:
        for line in lines:
            if not line.startswith("ride "):
                stack.enter_context(shell(line, port))
                continue
            done = call_ride(*shlex.split(line)[1:])
            assert done.returncode == 0, done.stderr
            if line.startswith("ride compare "):
                assert "label changed" in done.stdout
                continue
            output = line.rpartition(" ")[2]
            summary = json.loads((Path(output) / "_summary.json").read_bytes())
            assert (summary["images"], summary["errors"]) == (IMAGES[output], {})


def wait_until_open(port: int) -> None:
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    pytest.fail("the web server does not listen")


def test_every_command_is_known() -> None:
    outputs = re.findall(r"--output (\S+)$", "".join(BLOCKS), re.MULTILINE)
    assert sorted(outputs) == sorted(IMAGES)


def test_the_columns_are_those_of_the_output(
    score: Callable[..., pa.Table], picture_parquet: Path
) -> None:
    kept = Kept(5, embeddings=True, all_probabilities=True)
    table = score(picture_parquet, kept=kept, labels="class", part_rows=20)
    rows = re.findall(r"^\| (`.*?) \| ([^|]*) \|", PAGE.split("## Output")[1], re.MULTILINE)
    written = [name for names, _ in rows for name in re.findall(r"`(\w+)`", names)]
    columns = [*table.column_names]
    assert sorted(columns) == sorted(written[: len(columns)])
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    exec(code.replace("scores/parquet", str(picture_parquet.parent / "out")))
