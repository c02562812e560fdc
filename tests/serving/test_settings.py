"""Server settings that make sense, and those that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from serving.engine.cores import usable_cores
from serving.engine.provider import Provider
from serving.errors import SettingsError
from serving.settings import ModelControl, Settings, TritonModel


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"port": -1}, "--port must lie between 0 and 65535, not -1"),
        ({"port": 65_536}, "--port must lie between 0 and 65535, not 65536"),
        ({"workers": -1}, "--workers must not be negative"),
        ({"max_body_bytes": -(2**20)}, "--max-body-mib must be positive, not -1"),
        ({"max_image_bytes": -5}, "--max-image-mib must be positive"),
        ({"max_image_pixels": 0}, "--max-image-pixels must be positive"),
        ({"max_images_per_request": 0}, "--max-images-per-request must be positive"),
        ({"max_waiting_images": 0}, "--max-waiting-images must be positive"),
        ({"body_timeout_s": 0.0}, "--body-timeout-s must be positive"),
        ({"body_timeout_s": float("nan")}, "--body-timeout-s must be positive"),
        ({"body_timeout_s": float("inf")}, "--body-timeout-s must be positive"),
        ({"body_timeout_s": 1e9}, "--body-timeout-s must be at most a day"),
        ({"poll_seconds": 0.0}, "--poll-seconds must be positive"),
        ({"latency_objective_s": -1.0}, "--latency-objective-ms must be positive, not -1000.0"),
        ({"latency_objective_s": 1e9}, "--latency-objective-ms must be at most a day"),
        ({"degrade_to": "full"}, "--degrade-to must be one of fast, balanced, not 'full'"),
        ({"audit_share": -0.1}, "--audit-share must lie between 0 and 1, not -0.1"),
        ({"audit_share": 1.1}, "--audit-share must lie between 0 and 1"),
        ({"audit_share": float("nan")}, "--audit-share must lie between 0 and 1"),
        ({"root_path": "models"}, "--root-path must be a path such as /models/ride"),
        ({"root_path": "/models/"}, "without a slash at its end, not '/models/'"),
        ({"root_path": "/"}, "--root-path must be a path"),
        ({"root_path": "/a//b"}, "--root-path must be a path"),
        ({"root_path": "https://host/a"}, "--root-path must be a path"),
        ({"root_path": "/v2/ride"}, "must not begin as this server's own paths do: '/v2/ride'"),
        ({"root_path": "/openapi.json"}, "must not begin as this server's own paths do"),
        ({"root_path": "/static-offline-docs/a"}, "must not begin as this server's own paths do"),
        ({"cors_origins": ("https://shop.example:443",)}, "leave the port out"),
        ({"cors_origins": ("http://[::1]:80",)}, "leave the port out"),
        ({"cors_origins": ("shop.example",)}, "--cors-origin takes a scheme, a host .* not 'shop"),
        ({"cors_origins": ("https://shop.example/",)}, "not 'https://shop.example/'"),
        ({"cors_origins": ("*", "https://*.example")}, r"not 'https://\*.example'"),
        ({"request_timeout_s": 0.0}, "--request-timeout-ms must be positive"),
        ({"request_timeout_s": 1.0}, "--request-timeout-ms is for Triton servers"),
        ({"triton_model": TritonModel.GRAPH}, "--triton-model is for Triton servers"),
        ({"triton": ("triton",)}, "must be given as HOST:PORT, not 'triton'"),
        ({"triton": ("http://triton:8001",)}, "must be given as HOST:PORT, not 'http://triton"),
        ({"triton": ("triton:0",)}, "must be given as HOST:PORT, not 'triton:0'"),
        ({"triton": ("triton:65536",)}, "must be given as HOST:PORT"),
        ({"triton": ("::1:8001",)}, "must be given as HOST:PORT"),
        ({"triton": ("unix:/tmp/x:1",)}, "must be given as HOST:PORT"),
        ({"triton": ("",)}, "must be given as HOST:PORT, not ''"),
        ({"triton": ("a:1", "b:1", "a:1")}, "a Triton server is named twice"),
    ],
)
def test_a_setting_out_of_range_is_named(setting: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence) as refused:
        Settings(**setting)
    field = next(iter(setting))
    assert "_" not in field or field not in str(refused.value)


def test_settings_at_their_bounds_are_accepted() -> None:
    Settings(port=0, workers=0, max_images_per_request=1, max_waiting_images=1)
    Settings(port=65_535, body_timeout_s=86_400)
    Settings(root_path="/v2x", cors_origins=("*",))
    Settings(root_path="/a/b-c_d.e~f", cors_origins=("http://[::1]:3000", "https://a.b:80"))


@pytest.mark.parametrize(
    ("setting", "flag"),
    [
        ({"provider": Provider.CUDA}, "--provider cuda"),
        ({"model_control": ModelControl.EXPLICIT}, "--model-control explicit"),
        ({"shared_memory": True}, "--shared-memory"),
        ({"audit_share": 0.5}, "--audit-share 0.5"),
    ],
)
def test_what_triton_would_have_to_do_is_refused_in_front_of_it(
    setting: dict[str, Any], flag: str
) -> None:
    with pytest.raises(SettingsError, match=f"{flag} makes no sense with --triton"):
        Settings(triton=("triton:8001",), **setting)


def test_servers_in_front_of_triton_take_names_and_addresses_of_both_kinds() -> None:
    Settings(triton=("triton-1.default.svc:8001", "10.0.0.1:1", "[::1]:65535"))
    Settings(triton=("localhost:8001",), request_timeout_s=0.5)


def test_no_number_of_workers_is_one_a_core() -> None:
    assert Settings().threads == usable_cores()
    assert Settings(workers=7).threads == 7
