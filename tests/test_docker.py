"""What can be held of the images without an engine to build them: their instructions, and the files beside them.

A small parser reads the Dockerfiles. Compose is checked against the published schema, alerts against the metrics that
the service really has, each where the package that knows it is installed.
"""

import json
import re
import shlex
import subprocess
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "docker"
DOCKERFILES = ("Dockerfile", "Dockerfile.gpu")
"""Of the service."""
TRAINS = "Dockerfile.train"
COMPOSES = ("compose.yaml", "project.yaml", "project.gpu.yaml")

if not DOCKER.is_dir():
    pytest.skip("a source distribution has no docker/", allow_module_level=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction of a Dockerfile: its word, and the rest with continuations joined."""

    word: str
    text: str

    @property
    def command(self) -> list[str]:
        """The arguments of a CMD or ENTRYPOINT in the form that needs no shell."""
        return list(json.loads(self.text))


def read_stages(text: str) -> list[list[Instruction]]:
    """Read a Dockerfile into its stages; each begins with its FROM."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    stages: list[list[Instruction]] = []
    for line in joined.splitlines():
        word, _, rest = line.partition(" ")
        assert re.fullmatch(r"[A-Z]+", word), f"no instruction: {line!r}"
        if word == "FROM":
            stages.append([])
        stages[-1].append(Instruction(word=word, text=rest.strip()))
    return stages


def of(stage: list[Instruction], word: str) -> list[Instruction]:
    """Give the instructions of a stage by word."""
    return [instruction for instruction in stage if instruction.word == word]


def commands(stage: list[Instruction]) -> list[list[str]]:
    """Give the commands that a stage runs, split at &&."""
    return [shlex.split(part) for run in of(stage, "RUN") for part in run.text.split("&&")]


def stages_of(name: str) -> list[list[Instruction]]:
    """Read one of the Dockerfiles."""
    return read_stages((DOCKER / name).read_text(encoding="utf-8"))


@pytest.fixture(params=DOCKERFILES)
def service(request: pytest.FixtureRequest) -> list[list[Instruction]]:
    return stages_of(request.param)


@pytest.fixture(params=[*DOCKERFILES, TRAINS])
def stages(request: pytest.FixtureRequest) -> list[list[Instruction]]:
    return stages_of(request.param)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"])


def loaded(name: str) -> Any:
    """Read a YAML file of the folder."""
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((DOCKER / name).read_text(encoding="utf-8"))


def test_the_parser_reads_what_docker_reads() -> None:
    text = 'FROM a AS b\n# RUN no\nRUN one \\\n  # a comment inside\n  && two "x y"\nFROM c\nCMD ["d", "e"]\n'
    first, second = read_stages(text)
    assert [instruction.word for instruction in first] == ["FROM", "RUN"]
    assert commands(first) == [["one"], ["two", "x y"]]
    assert of(second, "CMD")[0].command == ["d", "e"]
    with pytest.raises(AssertionError, match="no instruction"):
        read_stages("FROM a\nrun b")


# ---- the images


def test_bases_are_pinned_by_tag(stages: list[list[Instruction]]) -> None:
    for stage in stages:
        image = stage[0].text.split()[0]
        assert re.fullmatch(r"[a-z/]+:\d+\.\d+[\w.-]*", image), image
        assert "latest" not in image


def test_what_is_installed_exists_in_the_project(stages: list[list[Instruction]], project: dict[str, Any]) -> None:
    installed = [command for command in commands(stages[0]) if command[0] == "pip" and "install" in command]
    words = [word for command in installed for word in command[command.index("install") + 1 :]]
    wanted = [word for word in words if word[0] not in "-$"]
    own = [word for word in wanted if word.startswith(".")]
    assert [word.partition("[")[0] for word in own] == [".", "."]
    extras = {extra for word in own for extra in re.findall(r"\[(.*)\]", word) for extra in extra.split(",")}
    assert extras & {"serve", "train"}
    assert extras <= set(project["optional-dependencies"])
    bounds = [*project["dependencies"], *(word for name in extras for word in project["optional-dependencies"][name])]
    for word in set(wanted) - set(own) - set(bounds):  # what takes the place of a dependency is that dependency, pinned
        name, _, version = word.partition("==")
        assert re.fullmatch(r"\d+(\.\d+)+", version), word
        replaced = name.removesuffix("-gpu")
        least = {re.split(r"[<>=\[]", text)[0]: text for text in project["dependencies"]}
        assert replaced in least, word
        assert _is_at_least(version, least[replaced]), f"{word} against {least[replaced]}"
        assert ["pip", "--python", "/venv", "uninstall", "--yes", replaced] in commands(stages[0])


def _is_at_least(version: str, bound: str) -> bool:
    least = bound.partition(">=")[2]
    return tuple(map(int, version.split("."))) >= tuple(map(int, least.split(".")))


@pytest.mark.parametrize("name", ["Dockerfile", TRAINS])
def test_python_is_one_that_the_project_runs_on(name: str, project: dict[str, Any]) -> None:
    base = stages_of(name)[0][0].text
    match = re.search(r"python:(\d+)\.(\d+)", base)
    assert match
    assert f"Programming Language :: Python :: {match[1]}.{match[2]}" in project["classifiers"]


def test_what_is_copied_is_there_and_not_ignored(stages: list[list[Instruction]]) -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    let_in = {line[1:] for line in lines if line.startswith("!")}
    sources = [word for copy in of(stages[0], "COPY") for word in copy.text.split()[:-1]]
    assert {source.split("/")[0] for source in sources} == let_in
    assert all((ROOT / source).exists() for source in sources)
    needed = {"pyproject.toml", "README.md", "LICENSE", "NOTICE"}  # what the build of the package names
    assert needed <= set(sources)


def test_the_last_stage_holds_the_environment_and_no_tools(stages: list[list[Instruction]]) -> None:
    last = stages[-1]
    assert [copy.text for copy in of(last, "COPY")] == ["--from=build /venv /venv"]
    assert stages[0][0].text.endswith(" AS build")
    for command in commands(last):
        assert "install" not in command or command[:2] == ["apt-get", "install"]
        packages = [word for word in command[2:] if word[0] != "-"] if command[:2] == ["apt-get", "install"] else []
        assert set(packages) <= {"python3"}, packages


def test_nobody_is_root(stages: list[list[Instruction]]) -> None:
    user = of(stages[-1], "USER")[-1].text
    assert re.fullmatch(r"[1-9]\d{3,4}:[1-9]\d{3,4}", user), "a number, so that an orchestrator can see it"
    words = [instruction.word for instruction in stages[-1]]
    assert "RUN" not in words[words.index("USER") :]


def test_the_service_is_started_as_it_can_be(service: list[list[Instruction]]) -> None:
    from carspotter.cli.serve import serve

    last = service[-1]
    command = of(last, "ENTRYPOINT")[0].command + of(last, "CMD")[0].command
    assert command[:2] == ["carspotter", "serve"]
    options = dict(zip(command[2::2], command[3::2], strict=True))
    known = {f"--{name.replace('_', '-')}" for name in serve.__annotations__}
    assert set(options) <= known
    assert options["--host"] == "0.0.0.0"
    assert of(last, "EXPOSE")[0].text == options["--port"]
    is_gpu = "nvidia/cuda" in last[0].text
    assert options.get("--device", "cpu") == ("cuda" if is_gpu else "cpu")


def health_command(stage: list[Instruction]) -> list[str]:
    """Give the command of a stage's health check."""
    return list(json.loads(of(stage, "HEALTHCHECK")[0].text.partition(" CMD ")[2]))


def test_the_health_check_tells_life_from_death(
    service: list[list[Instruction]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/livez" and not self.server.is_ill else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    python, option, code = health_command(service[-1])
    assert (python, option) == ("python", "-c")
    port = of(service[-1], "EXPOSE")[0].text
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # a proxy in the environment must not matter
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.is_ill = False
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        assert f"127.0.0.1:{port}/livez" in code
        here = [sys.executable, "-c", code.replace(f":{port}/", f":{server.server_port}/")]
        assert subprocess.run(here, timeout=20, check=False).returncode == 0
        server.is_ill = True
        assert subprocess.run(here, timeout=20, check=False, stderr=subprocess.DEVNULL).returncode != 0
        server.shutdown()
    assert subprocess.run(here, timeout=20, check=False, stderr=subprocess.DEVNULL).returncode != 0


def test_labels(stages: list[list[Instruction]], project: dict[str, Any]) -> None:
    labels = dict(word.split("=", 1) for word in shlex.split(of(stages[-1], "LABEL")[0].text))
    prefix = "org.opencontainers.image."
    assert labels[f"{prefix}title"] == project["name"]
    assert labels[f"{prefix}licenses"] == project["license"]
    assert labels[f"{prefix}description"].startswith(project["description"])


# ---- compose


@pytest.mark.parametrize("name", COMPOSES)
def test_compose_is_valid(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    pytest.importorskip("check_jsonschema")  # it holds a copy of the schema that compose-spec publishes
    text = resources.files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text("utf-8")
    schema = json.loads(text)
    jsonschema.validate(loaded(name), schema)
    with pytest.raises(jsonschema.ValidationError):  # the schema does look
        jsonschema.validate(loaded(name) | {"servics": {}}, schema)


@pytest.mark.parametrize("name", ["carspotter", "prometheus"])
def test_a_container_may_little(name: str) -> None:
    service = loaded("compose.yaml")["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert "privileged" not in service
    assert "cap_add" not in service
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert "healthcheck" in service
    assert "build" in service or not re.search(r":latest$|^[^:]*$", service["image"])


def test_compose_builds_and_asks_as_the_image_does() -> None:
    service = loaded("compose.yaml")["services"]["carspotter"]
    dockerfile = (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).resolve()
    assert dockerfile == DOCKER / "Dockerfile"
    last = read_stages(dockerfile.read_text(encoding="utf-8"))[-1]
    assert service["healthcheck"]["test"] == ["CMD", *health_command(last)]
    assert service["ports"][0].endswith(f":{of(last, 'EXPOSE')[0].text}")


# ---- a project: build, train, serve

STEPS = ("build", "train")


def test_each_step_waits_until_the_one_before_has_ended_well() -> None:
    services = loaded("project.yaml")["services"]
    assert tuple(services) == (*STEPS, "carspotter")
    for before, after in zip(services, list(services)[1:], strict=False):
        assert services[after]["depends_on"] == {before: {"condition": "service_completed_successfully"}}
    assert services["carspotter"]["extends"] == {"file": "compose.yaml", "service": "carspotter"}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_may_write_the_project_and_no_more(name: str) -> None:
    service = loaded("project.yaml")["services"][name]
    assert service["build"]["dockerfile"] == f"docker/{TRAINS}"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    assert service["restart"] == "no"
    (mount,) = service["volumes"]
    assert mount["target"] == of(stages_of(TRAINS)[-1], "WORKDIR")[0].text
    assert mount["bind"] == {"create_host_path": False}, "a folder that docker makes belongs to root"


def variables(text: str, known: dict[str, str]) -> str:
    """Fill in ${NAME:-default} as compose does."""
    return re.sub(r"\$\{(\w+)(?::-(.*?))?\}", lambda found: known.get(found[1]) or found[2] or "", text)


def test_sources_that_want_a_password_open_in_the_container_too() -> None:
    given = loaded("project.yaml")["services"]["build"]["environment"]
    assert all("=" not in name for name in given), "a secret is handed on from outside, and stands in no file"
    known = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    asked = set(re.findall(r"export (AWS_\w+|CARSPOTTER_WEBDAV_\w+)=| (AWS_\w+|CARSPOTTER_WEBDAV_\w+)=…", known))
    names = {one or other for one, other in asked}
    assert {"AWS_ACCESS_KEY_ID", "CARSPOTTER_WEBDAV_USER"} <= names <= set(given)


def words_of(name: str, known: dict[str, str]) -> list[str]:
    """Give the command of a step of a project, as compose splits it."""
    command = loaded("project.yaml")["services"][name]["command"]
    return shlex.split(variables(command, known)) if isinstance(command, str) else command


def test_steps_hand_over_what_the_next_one_takes() -> None:
    from carspotter.project.folder import TRAINED

    assert words_of("train", {}) == ["train", "."], "the folder that the project is mounted at"
    assert of(stages_of(TRAINS)[-1], "ENTRYPOINT")[0].command == ["carspotter"]
    serve = words_of("carspotter", {})
    assert serve[serve.index("--identifier") + 1] == f"/models/{TRAINED}"
    (volume,) = loaded("project.yaml")["services"]["carspotter"]["volumes"]
    assert variables(volume, {"PROJECT": "/cars"}) == "/cars/models:/models:ro"
    last = stages_of("Dockerfile")[-1]
    assert serve[:5] == of(last, "CMD")[0].command, "the service listens as in its image"


def test_commands_of_steps_are_commands_of_carspotter() -> None:
    from typer.main import get_command

    from carspotter.cli.main import app

    known = get_command(app).commands  # type: ignore[attr-defined]
    for name in ("train", "carspotter"):
        command, *words = words_of(name, {"TRAIN": "--recipe efficientnet-b1 --fresh"})
        options = {option for parameter in known[command].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize(("status", "goes_on"), [(0, True), (3, True), (1, False), (137, False)])
def test_a_build_with_a_warning_goes_on_to_the_training(status: int, goes_on: bool, tmp_path: Path) -> None:
    shell, option, script = loaded("project.yaml")["services"]["build"]["entrypoint"]
    command = tmp_path / "carspotter"
    command.write_text(f'#!/bin/sh\n[ "$1" = build ] && exit {status}\n')
    command.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    done = subprocess.run([shell, option, script.replace("$$", "$")], env={"PATH": path}, check=False)
    assert (done.returncode == 0) is goes_on


def test_the_gpu_is_for_the_training_alone() -> None:
    (name,) = loaded("project.gpu.yaml")["services"]
    assert name == "train"
    service = loaded("project.gpu.yaml")["services"][name]
    assert service["image"] != loaded("project.yaml")["services"][name]["image"], "or one takes the other's name"
    assert set(service["build"]["args"]) == {arg.text.partition("=")[0] for arg in of(stages_of(TRAINS)[0], "ARG")}
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


# ---- Prometheus


def test_prometheus_finds_service_and_files() -> None:
    compose, prometheus = loaded("compose.yaml"), loaded("prometheus.yml")
    (job,) = prometheus["scrape_configs"]
    ((target,),) = [config["targets"] for config in job["static_configs"]]
    host, _, port = target.partition(":")
    assert host in compose["services"]
    assert job["job_name"] == host
    assert compose["services"][host]["ports"][0].endswith(f":{port}")
    assert job["metrics_path"] == "/metrics"
    mounts = dict(volume.split(":")[:2] for volume in compose["services"]["prometheus"]["volumes"])
    files = {Path(inside).name for outside, inside in mounts.items() if (DOCKER / outside).is_file()}
    assert set(prometheus["rule_files"]) | {"prometheus.yml"} == files
    assert f"--config.file={mounts['./prometheus.yml']}" in compose["services"]["prometheus"]["command"]
    assert "prometheus" in compose["volumes"]


def alerts() -> list[dict[str, Any]]:
    """Give the rules."""
    return [rule for group in loaded("alerts.yml")["groups"] for rule in group["rules"]]


def test_alerts_are_written_on_metrics_that_exist() -> None:
    pytest.importorskip("prometheus_client")
    from carspotter.serving.metrics import Metrics

    metrics = Metrics(lambda: 0, lambda: 0)
    metrics.requests.labels("/v1/photos", "200").observe(1)
    metrics.errors.labels("fault").inc()
    metrics.photos.labels("exterior").inc()
    known = set(re.findall(r"^(\w+)", metrics.text().decode(), flags=re.MULTILINE)) | {"up"}
    rules = alerts()
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 3
    for rule in rules:
        used = set(re.findall(r"\b(carspotter_\w+|up)\b", re.sub(r'"[^"]*"', "", rule["expr"])))
        assert used, rule["alert"]
        assert used <= known, rule["alert"]
        assert re.fullmatch(r"\d+m", rule["for"])
        assert {"severity"} == set(rule["labels"])
        assert "{{ $labels.instance }}" in rule["annotations"]["summary"]


def test_alerts_name_codes_and_routes_of_the_service() -> None:
    pytest.importorskip("fastapi")
    from carspotter.serving.problems import BUSY, DEADLINE, FAULT, QUEUE_FULL

    named: set[str] = set()
    for rule in alerts():
        for codes in re.findall(r'code=~?"([^"]+)"', rule["expr"]):
            named.update(codes.split("|"))
        for pattern in re.findall(r'route=~?"([^"]+)"', rule["expr"]):
            assert re.fullmatch(pattern, "/v1/photos"), rule["alert"]
    assert named == {FAULT, DEADLINE, QUEUE_FULL, BUSY}


def test_alerts_are_promql() -> None:
    parser = pytest.importorskip("promql_parser")
    for rule in alerts():
        assert parser.parse(rule["expr"])
    with pytest.raises(ValueError, match=r"\S"):
        parser.parse("sum by (instance) (rate(x[5m])")
