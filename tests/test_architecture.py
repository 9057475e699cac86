"""Hold the shape of the project: who may import whom, one door a library, budgets, docstrings, a light start.

In: the syntax trees of `src/carspotter` and, for the light start, two fresh interpreters. Out: a list of violations,
each one line that says what to do. Every rule is a function of parsed modules, so that the last part of this file can
feed it bad sources and see it fail. Behaviour is tested elsewhere.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from waiting import NEVER_S

SOURCE = Path(__file__).parent.parent / "src" / "carspotter"

VOCABULARY = {"errors", "geometry", "taxonomy", "records", "headers", "pixels", "srgb", "hashes", "settings"}
VOCABULARY |= {
    "storage",
    "storage_errors",
    "web",
    "web_policy",
    "web_url",
    "webdav",
    "cores",
    "thumbnails",
    "crops",
    "csv_rows",
}
VOCABULARY |= {"quality", "progress", "opening"}
ENGINES = {"runtime", "catalog", "compute"}
STAGES = {"sources", "photos", "labels", "dataset", "recognition", "training", "export", "evaluation"}
WHOLE = {"project", "project_training"}
FACES = {"__main__", "cli", "serving", "review", "notebook", "client"}
STAGES |= {"review.decisions", "review.imported", "review.apply"}  # a build reads what people decided
LAYERS = (VOCABULARY, ENGINES, STAGES, WHOLE, FACES)  # each may import what stands before it

# A stage never imports another stage; ARCHITECTURE.md says why these do.
STAGE_EXCEPTIONS = {
    ("export", "training"),
    ("export", "evaluation"),
    ("compute", "catalog"),
    ("training", "dataset"),
    ("training", "evaluation"),
    ("evaluation", "recognition"),
    ("evaluation", "dataset"),
    ("__main__", "cli"),
    ("cli", "serving"),
    ("cli", "client"),
    ("cli", "review"),
    ("notebook", "review"),
    ("review", "serving"),
    ("review", "labels"),
    ("project_training", "project"),
}

# Third-party library → where it may be imported. A library that is not listed has no door and may not be used.
DOORS: dict[str, tuple[str, ...]] = {
    "supervision": ("recognition.interop",),
    "numpy": ("",),
    "PIL": (
        "pixels",
        "opening",
        "srgb",
        "hashes",
        "photos",
        "dataset",
        "thumbnails",
        "recognition.drawing",
        "recognition.letters",
        "training.finder.augment",
        "evaluation.gallery",
        "serving.feedback",
    ),
    "pillow_heif": ("opening",),
    "fsspec": ("storage",),
    "jinja2": ("project.report", "evaluation.report"),
    "aiohttp": ("web",),
    "yarl": ("web", "web_url"),  # aiohttp's own URLs, so that signed ones arrive unchanged
    "duckdb": ("catalog",),
    "pyarrow": ("catalog", "sources.lines", "evaluation.predictions"),
    "ray": ("compute",),
    "scrapy": ("sources.crawl.spider",),
    "protego": ("sources.crawl.spider", "photos.robots"),  # Scrapy's own reader of robots.txt
    "extruct": ("sources.crawl.data",),
    "lxml": ("sources.crawl.data",),
    "json5": ("sources.crawl.json_text",),
    "rapidfuzz": ("labels",),
    "google": ("dataset.tfrecord",),  # protobuf
    "google_crc32c": ("dataset.tfrecord",),
    "sklearn": ("labels.noise", "labels.outliers", "training.linear"),
    "skimage": ("training.baselines",),
    "cleanlab": ("labels.noise",),
    "lightning_fabric": ("training",),
    "tensorboard": ("training",),
    "scipy": ("photos", "dataset", "sources.stanford"),
    "onnxruntime": ("runtime.onnx", "export.quantize"),
    "openvino": ("runtime.openvino", "export.openvino"),
    "ai_edge_litert": ("runtime.litert", "export.litert"),
    "litert_torch": ("export.litert",),
    "ai_edge_quantizer": ("export.litert",),
    "flatbuffers": ("export.litert",),  # what .tflite files are written in
    "coremltools": ("export.coreml",),
    "torch": ("training", "export"),
    "torchvision": ("training", "export"),
    "timm": ("training", "export"),
    "safetensors": ("training", "export"),
    "huggingface_hub": ("training.weights",),
    "onnx": ("export", "training.start"),
    "onnxscript": ("export",),
    "fastapi": ("serving", "review.app"),
    "starlette": ("serving", "review.app"),
    "pydantic": ("serving",),
    "prometheus_client": ("serving.metrics",),
    "uvicorn": ("serving",),
    "markdown_it": ("serving.reference",),
    "httpx": ("client",),
    "anywidget": ("review.notebook",),
    "traitlets": ("review.notebook",),
    "typer": ("cli",),
    "rich": ("cli",),
}

FORBIDDEN_NAMES = {"util", "utils", "helper", "helpers", "common", "core", "base", "misc"}

# Methods that torch calls; what they take and give stands in the docstring of their class.
CALLED_BY_TORCH = {"forward", "train"}

MAX_FUNCTION_LINES = 50
MAX_FILE_LINES = 360
MAX_FILE_LINES_BESIDE = 400  # of tools/, which draws and is read less often
MAX_POSITIONAL = 4
# (module or module:function, budget) → reason. Empty is the aim.
BUDGET_EXCEPTIONS: dict[tuple[str, str], str] = {}

# Loading one of these before there is a photo costs tenths of seconds to seconds.
HEAVY = {"torch", "torchvision", "timm", "onnxruntime", "openvino", "onnx", "fsspec", "aiohttp", "pillow_heif"}
HEAVY |= {
    "duckdb",
    "pyarrow",
    "ray",
    "daft",
    "scrapy",
    "twisted",
    "extruct",
    "rapidfuzz",
    "scipy",
    "sklearn",
    "skimage",
    "cleanlab",
    "lightning_fabric",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A parsed source file: its dotted name below `carspotter` ("" for the package itself) and its tree."""

    name: str
    tree: ast.Module
    n_lines: int
    is_package: bool

    @property
    def part(self) -> str:
        """Give the first word of the name: the folder or top-level file the module belongs to."""
        return self.name.split(".")[0]


def parse(name: str, source: str, *, is_package: bool = False) -> Module:
    """Parse one source text as the module `name`."""
    return Module(name=name, tree=ast.parse(source), n_lines=len(source.splitlines()), is_package=is_package)


def read_modules(root: Path) -> list[Module]:
    """Parse every Python file below `root`, packages under the name of their folder."""
    modules = []
    for path in sorted(root.rglob("*.py")):
        words = path.relative_to(root).with_suffix("").parts
        is_package = words[-1] == "__init__"
        name = ".".join(words[:-1] if is_package else words)
        modules.append(parse(name, path.read_text(encoding="utf-8"), is_package=is_package))
    return modules


def imported_names(module: Module) -> Iterator[str]:
    """Yield the full dotted name of each import, at whatever depth; `from a import b` gives `a.b`."""
    package = ["carspotter", *(module.name.split(".") if module.name else [])]
    if not module.is_package:
        package.pop()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def inner_imports(module: Module, names: set[str]) -> set[str]:
    """Give the modules of the project that `module` imports, as names below `carspotter`."""
    found = set()
    for imported in imported_names(module):
        if imported.split(".")[0] != "carspotter":
            continue
        target = imported.removeprefix("carspotter").lstrip(".")
        # `from a import b`: b is a module, or a name inside the module a.
        found.add(target if target in names else target.rpartition(".")[0])
    return found - {module.name}


def layer_of(name: str) -> int | None:
    """Give the height of a module, 0 for vocabulary: its own, else that of its part; None where it has none."""
    names = (name, name.split(".")[0])
    return next((height for each in names for height, parts in enumerate(LAYERS) if each in parts), None)


def layer_violations(modules: Iterable[Module]) -> list[str]:
    """Find imports that go upwards or sideways between stages, and parts that stand in no layer."""
    modules = list(modules)
    names = {module.name for module in modules}
    found = []
    for module in modules:
        if not module.name or module.part == "models":  # the package's own face; the folder of bundles
            continue
        here = layer_of(module.name)
        if here is None:
            found.append(f"{module.name}: `{module.part}` stands in no layer; add it to LAYERS and ARCHITECTURE.md")
            continue
        for target in sorted(inner_imports(module, names)):
            part = target.split(".")[0]
            there = layer_of(target)
            if target == "" or there is None:
                continue
            if there > here:
                found.append(f"{module.name} imports {target}, which stands above it")
            elif there == here and here > 0 and part != module.part and (module.part, part) not in STAGE_EXCEPTIONS:
                found.append(f"{module.name} imports {target}: the two meet in files, not in imports")
    return found


def door_violations(modules: Iterable[Module]) -> list[str]:
    """Find third-party imports outside the library's door, or of a library that has none."""
    found = []
    for module in modules:
        for library in sorted({name.split(".")[0] for name in imported_names(module)}):
            if library in sys.stdlib_module_names or library == "carspotter":
                continue
            doors = DOORS.get(library)
            if doors is None:
                found.append(f"{module.name} imports {library}, which has no door; see DOORS")
            elif not any(door == "" or module.name == door or module.name.startswith(door + ".") for door in doors):
                found.append(f"{module.name} imports {library}; only {', '.join(doors)} may")
    return found


def cycle_violations(modules: Iterable[Module]) -> list[str]:
    """Find import cycles, each named once from its alphabetically first member."""
    modules = list(modules)
    names = {module.name for module in modules}
    graph = {module.name: inner_imports(module, names) for module in modules}
    found = set()

    def walk(name: str, trail: list[str]) -> None:
        if name in trail:
            cycle = trail[trail.index(name) :]
            start = cycle.index(min(cycle))
            found.add(" → ".join([*cycle[start:], *cycle[:start], cycle[start]]))
        elif name not in done:
            for target in sorted(graph.get(name, set())):
                walk(target, [*trail, name])
            done.add(name)

    done: set[str] = set()
    for name in sorted(graph):
        walk(name, [])
    return sorted(found)


def name_violations(modules: Iterable[Module]) -> list[str]:
    """Find files and folders whose name says nothing."""
    return [
        f"{module.name}: `{word}` says nothing; name the thing it holds"
        for module in modules
        for word in module.name.split(".")
        if word.lstrip("_") in FORBIDDEN_NAMES
    ]


def docstring_lines(node: ast.Module | ast.ClassDef | Function) -> int:
    """Count the lines a node's own docstring takes."""
    if ast.get_docstring(node, clean=False) is None:
        return 0
    first = node.body[0]
    return (first.end_lineno or first.lineno) - first.lineno + 1


def functions(module: Module) -> Iterator[Function]:
    """Yield every function and method, nested ones too."""
    return (node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def n_positional(function: Function) -> int:
    """Count the parameters that may be passed by position, `self` and `cls` left out."""
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    return len(names) - (bool(names) and names[0] in {"self", "cls"})


def over_budget(modules: Iterable[Module], file_lines: int = MAX_FILE_LINES) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield what is over a budget, whether excepted or not: its key in BUDGET_EXCEPTIONS and the message."""
    for module in modules:
        documented = (n for n in ast.walk(module.tree) if isinstance(n, ast.Module | ast.ClassDef | Function))
        n_lines = module.n_lines - sum(docstring_lines(node) for node in documented)
        if n_lines > file_lines:
            yield (module.name, "file"), f"{module.name}: {n_lines} lines without docstrings, at most {file_lines}"
        for function in functions(module):
            where = f"{module.name}:{function.name}"
            # The body alone: a command's options, one a line, are its documentation.
            n_lines = (function.end_lineno or function.lineno) - function.body[0].lineno + 1 - docstring_lines(function)
            if n_lines > MAX_FUNCTION_LINES:
                yield (where, "lines"), f"{where}: {n_lines} lines of body, at most {MAX_FUNCTION_LINES}"
            if (n := n_positional(function)) > MAX_POSITIONAL:
                yield (where, "positional"), f"{where}: {n} positional parameters, at most {MAX_POSITIONAL}"


def budget_violations(modules: Iterable[Module], file_lines: int = MAX_FILE_LINES) -> list[str]:
    """Find functions and files that are too long, and functions with too many positional parameters."""
    return [message for key, message in over_budget(modules, file_lines) if key not in BUDGET_EXCEPTIONS]


def docstring_violations(modules: Iterable[Module]) -> list[str]:
    """Find modules and public functions, classes and methods without a docstring."""
    found = []
    for module in modules:
        if not ast.get_docstring(module.tree):
            found.append(f"{module.name or 'carspotter'}: no module docstring")
        owners: list[tuple[str, ast.Module | ast.ClassDef]] = [(module.name, module.tree)]
        while owners:
            owner, tree = owners.pop()
            for node in tree.body:
                if not isinstance(node, ast.ClassDef | Function) or node.name.startswith("_"):
                    continue
                if isinstance(tree, ast.ClassDef) and node.name in CALLED_BY_TORCH and module.part in DOORS["torch"]:
                    continue
                if not ast.get_docstring(node) and not is_overload(node):
                    found.append(f"{owner}:{node.name}: no docstring")
                if isinstance(node, ast.ClassDef):
                    owners.append((f"{owner}:{node.name}", node))
    return found


def is_overload(node: ast.ClassDef | Function) -> bool:
    """Return whether a definition only states a further signature; the implementation is documented."""
    return any(ast.unparse(decorator).endswith("overload") for decorator in node.decorator_list)


def statement_violations(modules: Iterable[Module]) -> list[str]:
    """Find `print` outside the command line, broad `except`, and star imports."""
    found = []
    for module in modules:
        for node in ast.walk(module.tree):
            where = f"{module.name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                if module.part != "cli":
                    found.append(f"{where}: print belongs to cli/; use logging")
            elif isinstance(node, ast.ExceptHandler) and is_broad(node.type) and not may_be_broad(module, node):
                found.append(f"{where}: broad except; catch the narrowest class")
            elif isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                found.append(f"{where}: star import")
    return found


def may_be_broad(module: Module, handler: ast.ExceptHandler) -> bool:
    """Return whether a handler may catch everything: where any row may be bad, where a dead worker would hang all.

    Those are `compute` and `serving.batching`; and whoever re-raises it.
    """
    last = handler.body[-1]
    is_reraised = isinstance(last, ast.Raise) and last.exc is None
    return module.part == "compute" or module.name == "serving.batching" or is_reraised


def is_broad(caught: ast.expr | None) -> bool:
    """Return whether an `except` clause catches everything."""
    if caught is None:
        return True
    if isinstance(caught, ast.Tuple):
        return any(is_broad(item) for item in caught.elts)
    return isinstance(caught, ast.Name) and caught.id in {"Exception", "BaseException"}


def record_violations(modules: Iterable[Module]) -> list[str]:
    """Find dataclasses of the records that are not frozen, slotted and keyword-only."""
    found = []
    for module in modules:
        for node in ast.walk(module.tree):
            if module.name != "records" or not isinstance(node, ast.ClassDef):
                continue
            marks = " ".join(ast.unparse(decorator) for decorator in node.decorator_list)
            wanted = ("frozen=True", "slots=True", "kw_only=True")
            if "dataclass" in marks and not all(mark in marks for mark in wanted):
                found.append(f"{module.name}:{node.name}: a record is frozen, slotted and keyword-only")
    return found


RULES = {
    "layers": layer_violations,
    "doors": door_violations,
    "cycles": cycle_violations,
    "file names": name_violations,
    "budgets": budget_violations,
    "docstrings": docstring_violations,
    "statements": statement_violations,
    "records": record_violations,
}


@pytest.fixture(scope="module")
def modules() -> list[Module]:
    """Parse the project once."""
    return read_modules(SOURCE)


@pytest.mark.parametrize("rule", RULES)
def test_the_project_keeps(rule: str, modules: list[Module]) -> None:
    assert modules, f"no sources below {SOURCE}"
    violations = RULES[rule](modules)
    assert not violations, "\n" + "\n".join(violations)


@pytest.mark.parametrize("rule", ["file names", "budgets", "docstrings"])
def test_what_is_beside_the_package_keeps_the_habits(rule: str) -> None:
    modules = read_modules(SOURCE.parent.parent / "tools")
    assert modules
    found = budget_violations(modules, MAX_FILE_LINES_BESIDE) if rule == "budgets" else RULES[rule](modules)
    assert found == []


def test_every_part_in_a_layer_exists(modules: list[Module]) -> None:
    names = {name for module in modules for name in (module.part, module.name)}
    assert set().union(*LAYERS) - names == set()


def unreached(modules: list[Module], roots: set[str]) -> set[str]:
    """Return the modules that no root imports, however far down."""
    by_name = {module.name: module for module in modules}
    seen: set[str] = set()
    pending = set(roots)
    while pending:
        name = pending.pop()
        seen.add(name)
        pending |= {*inner_imports(by_name[name], set(by_name)), name.rpartition(".")[0]} & set(by_name) - seen
    return set(by_name) - seen


def test_every_module_is_used_by_a_command_or_a_public_name(modules: list[Module]) -> None:
    # The package's own public names are all of `cli.main`, too, but for the last.
    roots = {"__main__", "cli.main", "notebook", "client", "recognition.interop"}
    assert unreached(modules, roots) == set()
    alone = parse("labels.alone", "import carspotter.errors")
    assert unreached([*modules, alone], roots) == {"labels.alone"}


def test_every_budget_exception_is_still_needed(modules: list[Module]) -> None:
    assert set(BUDGET_EXCEPTIONS) <= {key for key, _ in over_budget(modules)}


def loaded_modules(program: str) -> set[str]:
    """Run a program in a fresh interpreter; give the top-level modules that it loaded."""
    tail = "\nimport json, sys; sys.stderr.write(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", program + tail], capture_output=True, text=True, timeout=NEVER_S)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


HELP = """
import sys
sys.argv = ["carspotter", "--help"]
from carspotter.cli.main import app
try:
    app()
except SystemExit as end:
    assert not end.code, end.code
"""


@pytest.mark.parametrize("program", ["import carspotter", HELP], ids=["import", "help"])
def test_starting_loads_nothing_heavy(program: str) -> None:
    # What is loaded, not how long it takes: the time is a benchmark's business (benchmarks/startup.py).
    assert loaded_modules(program) & HEAVY == set()


def test_a_photo_of_this_machine_loads_its_engine_and_nothing_else_heavy() -> None:
    photo = SOURCE / "serving" / "web" / "examples" / "front-left.jpg"
    loaded = loaded_modules(HELP.replace('"--help"', f'"identify", {str(photo)!r}'))
    assert loaded & (HEAVY | {"asyncio", "multiprocessing"}) == {"onnxruntime"}


# ---- the rules can fail ----

LONG = "def f():\n" + "    x = 1\n" * (MAX_FUNCTION_LINES + 1)
BAD_SOURCES = [
    ("layers", {"geometry": "from carspotter.runtime import session", "runtime.session": ""}, "above"),
    ("layers", {"training.data": "import carspotter.recognition.finder", "recognition.finder": ""}, "meet in files"),
    ("layers", {"training.data": "from ..recognition import finder", "recognition.finder": ""}, "meet in files"),
    ("layers", {"training.data": "def f():\n    from carspotter.cli.main import app", "cli.main": ""}, "above"),
    ("layers", {"review.apply": "from carspotter.review.session import x", "review.session": ""}, "above"),
    ("layers", {"stuff.thing": ""}, "no layer"),
    ("doors", {"recognition.finder": "import torch.nn as nn"}, "only training"),
    ("doors", {"runtime.session": "def f():\n    from onnxruntime import InferenceSession"}, "only runtime.onnx"),
    ("doors", {"runtime.onnx_more": "import onnxruntime"}, "only runtime.onnx"),
    ("doors", {"geometry": "import pandas"}, "no door"),
    ("cycles", {"errors": "import carspotter.records", "records": "from carspotter.errors import nearest"}, "→"),
    ("cycles", {"a": "from . import b", "b": "from . import c", "c": "from .a import x"}, "a → b → c → a"),
    ("file names", {"training.utils": ""}, "says nothing"),
    ("file names", {"helpers.thing": ""}, "says nothing"),
    ("budgets", {"geometry": LONG}, f"{MAX_FUNCTION_LINES + 1} lines"),
    ("budgets", {"geometry": "x = 1\n" * (MAX_FILE_LINES + 1)}, f"{MAX_FILE_LINES + 1} lines"),
    ("budgets", {"geometry": "class A:\n    def f(self, a, b, c, d, e): ..."}, "5 positional"),
    ("docstrings", {"geometry": "x = 1"}, "no module docstring"),
    ("docstrings", {"geometry": '"""Doc."""\ndef area(): ...'}, "area: no docstring"),
    ("docstrings", {"geometry": '"""Doc."""\nclass A:\n    """Doc."""\n    def f(self): ...'}, "A:f: no docstring"),
    ("statements", {"geometry": "print(1)"}, "print"),
    ("statements", {"cli.main": "try: ...\nexcept Exception: ..."}, "broad"),
    ("statements", {"geometry": "try: ...\nexcept (OSError, BaseException): ..."}, "broad"),
    ("statements", {"geometry": "try: ...\nexcept: ..."}, "broad"),
    ("statements", {"catalog.catalog": "try: ...\nexcept Exception as error: raise ValueError from error"}, "broad"),
    ("statements", {"geometry": "from math import *"}, "star"),
    ("records", {"records": "@dataclass(frozen=True)\nclass Photo: ..."}, "keyword-only"),
]


@pytest.mark.parametrize(("rule", "sources", "message"), BAD_SOURCES)
def test_the_rule_finds_a_bad_source(rule: str, sources: dict[str, str], message: str) -> None:
    violations = RULES[rule]([parse(name, source) for name, source in sources.items()])
    assert len(violations) == 1, violations
    assert message in violations[0]


GOOD_SOURCES = {
    "": '"""The package."""\nfrom carspotter.recognition.recognizer import Recognizer',
    "geometry": '"""Boxes."""\nimport math\nimport numpy as np\n\n\ndef area(a, b, c, d, *, e): "Give the area."',
    "runtime.session": '"""Seam."""\nfrom carspotter.geometry import area',
    "runtime.onnx": '"""Engine."""\ndef _open():\n    import onnxruntime',
    "recognition.finder": '"""Finder."""\nfrom carspotter.runtime.session import Session',
    "recognition.recognizer": '"""Answer."""\nfrom carspotter.recognition.finder import Finder',
    "cli.main": '"""Face."""\nfrom carspotter.recognition import recognizer\nprint("answer")',
}


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_passes_a_good_source(rule: str) -> None:
    assert RULES[rule]([parse(name, source) for name, source in GOOD_SOURCES.items()]) == []
