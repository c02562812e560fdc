"""BentoML: one worker process a core, the PNG file as a form's file, as its clients send it."""

from __future__ import annotations

from benchmarks.environments import ORT
from benchmarks.images import Images
from benchmarks.servers.server import CHECKOUT, Contender, HttpWay, Place
from benchmarks.start import Start

_BOUNDARY = "ride-benchmark-boundary"


def _bodies(images: Images) -> list[bytes]:
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="image.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    ).encode()
    return [head + file + f"\r\n--{_BOUNDARY}--\r\n".encode() for file in images.files]


def _start(place: Place) -> Start:
    app = "benchmarks.servers.bentoml_app:Ride"
    command = [str(place.python), "-m", "bentoml", "serve", app, "--working-dir", str(CHECKOUT)]
    environment = {
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(place.folder),
        "RIDE_BENCH_WORKERS": str(place.cores),
    }
    return Start([*command, "--host", "127.0.0.1", "--port", str(place.port)], environment)


CONTENDER = Contender(
    name="bentoml",
    title="BentoML",
    settings="one worker process a core, no batching; the PNG file as a form's file",
    requirements=("bentoml==1.4.40", ORT, "pillow==13.0.0"),
    start=_start,
    way=HttpWay(
        "/classify", _bodies, {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    ),
    ready_path="/readyz",
)
