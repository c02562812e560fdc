"""`ride serve` and `ride classify` as a shell sees them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving.engine.graphs import Engine
from tests.running.server import RunningServer, running_server
from tests.running.waiting import WAIT_S, wait_until

Ride = Callable[..., "subprocess.CompletedProcess[str]"]


def assert_fails(done: subprocess.CompletedProcess[str], sentence: str) -> None:
    """One sentence on standard error, exit status 1, nothing of our insides."""
    assert done.returncode == 1, done
    assert sentence in done.stderr
    assert done.stderr.startswith("ride: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stdout


@pytest.fixture
def altered(repository_copy: Path) -> Path:
    """A repository with one graph that is a byte longer."""
    with (repository_copy / "stage_2" / "1" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    return repository_copy


def test_serve_refuses_a_repository_that_is_not_there(run_ride: Ride, tmp_path: Path) -> None:
    assert_fails(run_ride("serve", tmp_path / "nowhere"), "name the folder that ride export wrote")


def test_serve_refuses_an_altered_graph(call_ride: Ride, altered: Path) -> None:
    assert_fails(call_ride("serve", altered, "--port", 0), "stage_2/1/model.onnx was altered")


def test_serve_refuses_a_file_that_is_no_manifest(call_ride: Ride, repository_copy: Path) -> None:
    (repository_copy / "ride" / "1" / "manifest.json").write_text("{}")
    assert_fails(call_ride("serve", repository_copy), "manifest.json is not a valid manifest")


def test_serve_in_front_of_triton_wants_a_manifest(call_ride: Ride, tmp_path: Path) -> None:
    done = call_ride("serve", tmp_path, "--triton", "127.0.0.1:8001")
    assert_fails(done, "holds no model: there is no ride/<version>/manifest.json")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--host", "no.such.host.invalid"], "can't listen on no.such.host.invalid, port 8000"),
        (["--host", "ü" * 70], "this is not a host name"),
        (["--host", "192.0.2.1"], "can't listen on 192.0.2.1, port 8000"),
        (["--port", "70000"], "--port must lie between 0 and 65535, not 70000"),
        (["--grpc-port", "-1"], "--grpc-port must lie between 0 and 65535, not -1"),
        (["--body-timeout-s", "nan"], "--body-timeout-s must be positive"),
        (["--max-image-pixels", "1000000000"], "pixels"),
        (
            ["--triton", "http://triton:8001"],
            "must be given as HOST:PORT, not 'http://triton:8001'",
        ),
        (["--triton", "triton:8001", "--shared-memory"], "--shared-memory makes no sense with"),
        (["--triton", "triton:8001", "--max-image-pixels", "1000000000"], "pixels"),
        (["--request-timeout-ms", "500"], "--request-timeout-ms is for Triton servers"),
    ],
)
def test_serve_refuses_settings_that_make_no_sense(
    call_ride: Ride, repository: Path, flags: list[str], sentence: str
) -> None:
    assert_fails(call_ride("serve", repository, *flags), sentence)


def test_grpc_can_be_switched_off(repository: Path, tmp_path: Path) -> None:
    with running_server(repository, tmp_path / "log.txt", ["--no-grpc"]) as server:
        assert "gRPC: switched off" in server.log.read_text()


def test_serve_refuses_a_port_that_another_server_has(
    call_ride: Ride, repository: Path, server: RunningServer
) -> None:
    host, port = server.address
    done = call_ride("serve", repository, "--host", host, "--port", port)
    assert_fails(done, f"port {port}: another program uses it; choose another with --port")
    grpc_port = server.grpc_address.rpartition(":")[2]
    done = call_ride("serve", repository, "--port", 0, "--grpc-port", grpc_port)
    assert_fails(done, f"{grpc_port}: another program uses it; choose another with --grpc-port")
    assert server.get("/v2/health/ready").status_code == 200


def test_flags_that_do_not_exist_are_named(call_ride: Ride) -> None:
    for command in ("serve", "classify"):
        done = call_ride(command, "--no-such-flag", "x")
        assert done.returncode == 2
        assert "--no-such-flag" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_port_that_is_no_number_is_named(call_ride: Ride) -> None:
    done = call_ride("serve", "--port", "http")
    assert done.returncode == 2
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_come_from_the_environment_too(
    call_ride: Ride, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIDE_PORT", "70001")
    assert_fails(call_ride("serve", repository), "not 70001")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_after_the_request_under_way(
    repository: Path, tmp_path: Path, pictures: tuple[bytes, ...], stop: signal.Signals
) -> None:
    log = tmp_path / "log.txt"
    with running_server(repository, log) as server, server.connect() as connection:
        connection.sendall(
            b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            b"Content-Length: %d\r\n\r\n" % len(pictures[0])
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")  # now it waits for the body
        server.process.send_signal(stop)
        wait_until(lambda: "Shutting down" in log.read_text())
        connection.sendall(pictures[0])
        answer = b"".join(iter(lambda: connection.recv(4_096), b""))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert len(json.loads(answer.partition(b"\r\n\r\n")[2])["results"]) == 1
        assert server.process.wait(WAIT_S) == 0


@pytest.fixture
def good(tmp_path: Path, pictures: tuple[bytes, ...]) -> Path:
    file = tmp_path / "good [bold].png"
    file.write_bytes(pictures[0])
    return file


def test_classify_answers_the_good_files_and_names_the_bad(
    run_ride: Ride, repository: Path, tmp_path: Path, good: Path
) -> None:
    text = tmp_path / "text.png"
    text.write_text("no image")
    missing = tmp_path / "missing.png"
    pattern = tmp_path / "*.jpg"
    done = run_ride(
        "classify", "--repository", repository, "--json", text, good, missing, pattern, good
    )
    assert done.returncode == 1
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["name"] for answer in answers] == [str(good)] * 2
    complaints = done.stderr.splitlines()
    assert [line.removeprefix("ride: ") for line in complaints] == [
        f"{text}: the bytes are text, which is not accepted; send a JPEG, PNG, WebP or AVIF file",
        f"there is no folder, file or glob {missing}",
        f"{pattern}: no image files there",
    ]


def test_classify_decodes_the_formats_that_it_is_told(
    run_ride: Ride, repository: Path, tmp_path: Path, good: Path
) -> None:
    gif = tmp_path / "moving.gif"
    first, second = Image.open(good), Image.new("RGB", (32, 32))
    first.save(gif, save_all=True, append_images=[second])
    command = ("classify", "--repository", repository, "--json")
    refused = run_ride(*command, gif)
    assert refused.returncode == 1
    assert "the bytes are a GIF image, which is not accepted" in refused.stderr
    for named in (gif, tmp_path):
        done = run_ride(*command, "--formats", "PNG, gif", named, good)
        assert (done.returncode, done.stderr) == (0, "")
    unknown = run_ride(*command, "--formats", "png,heic", good)
    assert unknown.returncode == 1
    assert "formats are some of jpeg, png, webp, avif, bmp, tiff, gif, not 'heic'" in unknown.stderr


def test_classify_prints_a_line_for_people(
    call_ride: Ride, repository: Path, good: Path, engine: Engine
) -> None:
    done = call_ride("classify", "--repository", repository, "--top-k", 1, "--max-experts", 1, good)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"{good}: ")
    costs = engine.manifest.multiply_adds
    assert f"{costs.spent(1, 0) / costs.all_experts:.0%}" in done.stdout
    best = engine.classify(np.array(Image.open(good))[np.newaxis], engine.rule(max_experts=1))
    label = engine.manifest.class_names[int(best.probabilities[0].argmax())]
    assert label in line


def test_classify_takes_folders_and_globs_as_score_does(
    call_ride: Ride, repository: Path, tmp_path: Path, pictures: tuple[bytes, ...]
) -> None:
    names = ("b.png", "a.PNG", "deeper/c.png", "._a.png", ".hidden/a.png", "notes.txt")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(pictures[0])
    (tmp_path / "empty").mkdir()
    command = ("classify", "--repository", repository, "--json")
    done = call_ride(*command, tmp_path, tmp_path / "*.png", tmp_path / "notes.txt")
    assert done.returncode == 0, done.stderr
    answered = [json.loads(line)["name"] for line in done.stdout.splitlines()]
    expected = ("a.PNG", "b.png", "deeper/c.png", "b.png", "notes.txt")
    assert answered == [str(tmp_path / name) for name in expected]
    done = call_ride(*command, tmp_path / "empty", tmp_path / "b.png")
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert done.stderr == f"ride: {tmp_path / 'empty'}: no image files there\n"


def test_classify_reads_standard_input(repository: Path, pictures: tuple[bytes, ...]) -> None:
    command = [
        sys.executable,
        "-m",
        "ride",
        "classify",
        "--repository",
        str(repository),
        "--json",
        "-",
    ]
    done = subprocess.run(command, input=pictures[0], capture_output=True, check=True)
    assert json.loads(done.stdout)["name"] == "-"


def test_classify_answers_each_image_as_soon_as_it_can(
    repository: Path, good: Path, pictures: tuple[bytes, ...]
) -> None:
    """The first answer is there while the second image, on standard input, has not come."""
    command = [
        sys.executable,
        "-m",
        "ride",
        "classify",
        "--repository",
        str(repository),
        str(good),
        "-",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().startswith(os.fsencode(f"{good}: "))
        process.stdin.write(pictures[0])
        process.stdin.close()
        assert process.stdout.readline().startswith(b"-: ")
    assert process.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are Unicode")
def test_classify_takes_files_whose_names_are_not_unicode(
    run_ride: Ride, repository: Path, tmp_path: Path, good: Path
) -> None:
    odd = good.rename(tmp_path / "odd\udcff.png")
    done = run_ride("classify", "--repository", repository, "--json", odd)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == str(tmp_path / "odd\ufffd.png")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--top-k", "0"], "--top-k must lie between 1 and 100, not 0"),
        (["--top-k", "101"], "--top-k must lie between 1 and 100, not 101"),
        (["--max-experts", "4"], "--max-experts must lie between 1 and 3, not 4"),
        (["--max-experts", "0"], "--max-experts is wrong"),
        (["--threshold", "nan"], "--threshold is wrong"),
        (["--threshold", "1.5"], "--threshold is wrong"),
    ],
)
def test_classify_refuses_parameters_out_of_range_once(
    call_ride: Ride, repository: Path, good: Path, flags: list[str], sentence: str
) -> None:
    assert_fails(call_ride("classify", "--repository", repository, *flags, good, good), sentence)


def test_classify_refuses_an_altered_repository(call_ride: Ride, altered: Path, good: Path) -> None:
    done = call_ride("classify", "--repository", altered, good)
    assert_fails(done, "stage_2/1/model.onnx was altered")
