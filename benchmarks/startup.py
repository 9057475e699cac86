"""How long until carspotter is there: the import, `--help`, and a first answer in a new process.

Each row is the wall time of a whole new process with the files in the page cache ("cold" means a new process, not a
new disk); `python` is the interpreter alone, to be taken off. Targets: import and help under 300 ms, identify under
600 ms on a machine with nothing else to do.

    python benchmarks/startup.py [--photo FILE] [--repeats 10] [--engine auto]
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from drawn import draw_noise, jpeg
from measure import parser, percentiles, report, timings

RUN = "from carspotter.cli.main import app; app(prog_name='carspotter')"


def programs(photo: Path, engine: str) -> dict[str, tuple[list[str], int | None]]:
    """Give each command line with the target of its median in milliseconds."""
    python = [sys.executable, "-c"]
    return {
        "python": ([*python, "pass"], None),
        "import carspotter": ([*python, "import carspotter"], 300),
        "carspotter --help": ([*python, RUN, "--help"], 300),
        "carspotter identify one.jpg": ([*python, RUN, "identify", str(photo), "--json", "--engine", engine], 600),
    }


def row(name: str, command: list[str], target: int | None, *, repeats: int) -> dict[str, Any]:
    """Measure one command line; a command that fails is a row that says so."""
    first = subprocess.run(command, capture_output=True, text=True, check=False)  # fills the page cache
    if first.returncode != 0:
        return {"program": name, "error": (first.stderr.strip().splitlines() or ["?"])[-1]}
    taken = timings(lambda: subprocess.run(command, capture_output=True, check=True), repeats=repeats)
    return {"program": name, **percentiles(taken), "target_ms": target or ""}


def main() -> None:
    """Measure the start of each program and print the table."""
    options = parser(__doc__)
    options.add_argument("--photo", type=Path, help="a photo to identify; without it one is drawn")
    options.add_argument("--repeats", type=int, default=10)
    options.add_argument("--engine", default="auto")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photo = chosen.photo or Path(folder) / "drawn.jpg"
        if not chosen.photo:
            photo.write_bytes(jpeg(draw_noise()))
        commands = programs(photo, chosen.engine).items()
        rows = [row(name, command, target, repeats=chosen.repeats) for name, (command, target) in commands]
    conditions = {"photo": chosen.photo.name if chosen.photo else "drawn 800x600", "engine": chosen.engine}
    report("startup", rows, as_json=chosen.json, conditions=conditions)


if __name__ == "__main__":
    main()
