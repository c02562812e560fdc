"""What compose.yml mounts is where it says."""

from __future__ import annotations

import re

from tests.checkout import ROOT

DEPLOY = ROOT / "deploy"


def test_files_that_containers_mount_are_there() -> None:
    mounted = re.findall(r"^ +- (\.\S+?):/", (DEPLOY / "compose.yml").read_text(), re.MULTILINE)
    assert mounted
    assert not [path for path in mounted if not (DEPLOY / path).exists()]
