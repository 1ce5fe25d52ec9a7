"""What is deployed: the wheel, and the files of `deploy/` as far as they can be judged without running them."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from posecov.estimator import SHIPPED

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_has_what_the_package_needs_and_stays_small(wheel):
    assert wheel.stat().st_size < 60e6
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert {f"posecov/_resources/{file}" for file in SHIPPED.values()} <= names
    assert {"posecov/py.typed", "posecov/server/app.py", "posecov/_resources/configs/skeletons/lsp14.yaml"} <= names
    page = ROOT / "deploy" / "web" / "dist" / "index.html"
    assert ("posecov/_resources/deploy/web/dist/index.html" in names) == page.exists()
    assert {name.split("/")[0] for name in names} == {"posecov", f"posecov-{PROJECT['project']['version']}.dist-info"}
    assert not [name for name in names if "node_modules" in name or "__pycache__" in name]
    assert not re.search(r"^Requires-Dist: torch(?!.*extra ==)", metadata, re.MULTILINE)


@pytest.mark.parametrize(("kind", "runtime"), [("cpu", "onnxruntime"), ("cuda", "onnxruntime-gpu[cuda,cudnn]")])
def test_a_container_installs_everything_and_one_runtime(kind, runtime):
    spec = importlib.util.spec_from_file_location("requirements", ROOT / "deploy" / "requirements.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = [re.match(r"[^<>=~!;]+", line)[0].strip() for line in module.requirements(kind, PROJECT)]
    wanted = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["serve"]
    names = {re.match(r"[A-Za-z0-9._-]+", line)[0] for line in wanted} - {"onnxruntime", "onnxruntime-gpu", "opencv-python"}
    assert sorted(found) == sorted({*names, "opencv-python-headless", runtime})


def test_the_dockerfile_copies_what_is_there_and_runs_without_root():
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    stages = re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE)
    assert stages[-2:] == ["cuda", "cpu"]
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists() or source.startswith("deploy/web"), source
    for stage in re.findall(r"--from=(\S+)", text):
        assert stage in stages
    last = text[text.index("AS service") :]
    assert re.search(r"^USER [1-9]\d*$", last, re.MULTILINE)
    assert "HEALTHCHECK" in last
    assert not re.search(r"^RUN .*(pip|apt|npm)", last, re.MULTILINE)


def test_services_are_locked_up():
    document = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    for service in document["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert {"mem_limit", "healthcheck", "tmpfs", "pids_limit"} <= set(service)
        assert service["build"]["target"] in (ROOT / "deploy" / "Dockerfile").read_text()


def test_systemd_knows_every_word_of_the_unit(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd here")
    unit = tmp_path / "posecov.service"
    # The check wants the program to be there.
    unit.write_text((ROOT / "deploy" / "posecov.service").read_text().replace("/opt/posecov/bin/posecov", sys.executable))
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert not [line for line in (done.stdout + done.stderr).splitlines() if "posecov.service" in line]


@pytest.mark.parametrize("file", ["Dockerfile", "compose.yaml", "posecov.service"])
def test_options_of_the_command_exist(file):
    from posecov.commands.serve import Serve

    text = "\n".join(
        line for line in (ROOT / "deploy" / file).read_text().splitlines() if re.match(r"ENTRYPOINT|ExecStart|  command:", line)
    )
    options = {option.replace("-", "_") for option in re.findall(r"--([a-z-]+)", text)}
    assert options
    assert options <= set(Serve.__dataclass_fields__)
