"""The wheel of the template checks, installed with its own dependencies alone, checks anyone's templates."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
FOREIGN = ROOT / "tests" / "stacks" / "foreign" / "support_chat"
UV = Path(sys.executable).parent / "uv"


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [*map(str, command)], cwd=cwd, env=inherited, capture_output=True, text=True, timeout=60, check=False
    )


def done(*command: str | Path, cwd: Path = ROOT) -> str:
    finished = run(*command, cwd=cwd)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def needed(requirements: list[str], found: set[str]) -> set[str]:
    """Return the names of all distributions that requirements need, those that they need included."""
    for requirement in map(Requirement, requirements):
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and requirement.name not in found:
            found.add(requirement.name)
            needed(distribution(requirement.name).requires or [], found)
    return found


def copy_installed(name: str, site: Path) -> None:
    """Copy a distribution from the running environment: no test downloads anything."""
    for file in distribution(name).files or ():
        source = Path(str(distribution(name).locate_file(file)))
        if ".." not in file.parts and source.is_file():
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, site / file)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a virtual environment with the wheel, its dependencies, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    build = (UV, "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable)
    done(*build, "--out-dir", folder, ROOT / "template_checks")
    done(UV, "venv", "--quiet", "--python", sys.executable, folder / "env")
    programs = folder / "env" / "bin"
    (wheel,) = folder.glob("*.whl")
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    done(UV, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", programs / "python", wheel)
    project = tomllib.loads((ROOT / "template_checks" / "pyproject.toml").read_text(encoding="utf-8"))
    for name in needed(project["project"]["dependencies"], set()):
        copy_installed(name, site)
    return programs


def test_the_installed_command_rules_out_every_mistake_of_right_templates(
    environment: Path, tmp_path: Path
) -> None:
    printed = done(
        environment / "template-checks", "check", FOREIGN, "--facts", FOREIGN / "facts.toml", cwd=tmp_path
    )
    assert "0 refused, 0 not proven, 23 passed" in printed


def test_the_installed_module_refuses_paths_that_nobody_declared(environment: Path, tmp_path: Path) -> None:
    module = (environment / "python", "-m", "template_checks")
    finished = run(*module, "reach", FOREIGN, "--facts", FOREIGN / "facts.toml", cwd=tmp_path)
    assert (finished.returncode, finished.stderr) == (1, "")
    assert "no declared path allows it" in finished.stdout


def test_a_declared_path_is_not_refused(environment: Path, tmp_path: Path) -> None:
    reach = (environment / "template-checks", "reach", FOREIGN, "--facts", FOREIGN / "facts.toml")
    intended = tmp_path / "intended.toml"
    intended.write_text('[[paths]]\nsource = "tasks"\ntarget = "endpoints of AWS services"\n')
    row = "tasks endpoints of AWS services tcp 443 VPC"
    before, after = (
        {" ".join(line.split()) for line in run(*reach, *more, cwd=tmp_path).stdout.splitlines()}
        for more in ((), ("--intended", intended))
    )
    assert f"{row} undeclared" in before
    assert f"{row} declared" in after


def test_the_environment_has_nothing_of_the_product(environment: Path, tmp_path: Path) -> None:
    finished = run(environment / "python", "-c", "import assistant", cwd=tmp_path)
    assert "No module named 'assistant'" in finished.stderr


def test_a_missing_file_is_one_sentence(environment: Path, tmp_path: Path) -> None:
    finished = run(environment / "template-checks", "check", "nowhere.yaml", cwd=tmp_path)
    assert finished.returncode == 1
    assert finished.stderr == "template-checks: nowhere.yaml: there is no such file.\n"
