"""The three lists of packages agree: pyproject.toml, environment.yml, constraints.txt."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PIP_NAME = {"pytorch": "torch"}  # conda's name: pip's name


def declared() -> dict[str, SpecifierSet]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + project["optional-dependencies"]["dev"]
    found = {canonicalize_name(r.name): r.specifier for r in map(Requirement, lines)}
    assert len(found) == len(lines), "a package is declared twice in pyproject.toml"
    return found


def conda_lines() -> list:
    return yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]


def pip_lines() -> list[str]:
    return conda_lines()[-1]["pip"]


def conda() -> dict[str, SpecifierSet]:
    lines = [line for line in conda_lines() if isinstance(line, str)] + pip_lines()[1:]
    pairs = [re.fullmatch(r"(\S+)(?: (\S+))?", line).groups(default="") for line in lines]
    found = {canonicalize_name(PIP_NAME.get(n, n)): SpecifierSet(bounds) for n, bounds in pairs}
    assert len(found) == len(lines), "a package is listed twice in environment.yml"
    return found


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): pin for name, pin in pairs}


def test_environment_lists_what_pyproject_declares():
    listed = conda()
    python, _pip = listed.pop("python"), listed.pop("pip")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert listed == declared()
    assert python == SpecifierSet(project["requires-python"])
    assert pip_lines()[0] == "-e ."


@pytest.mark.parametrize("name", sorted(declared()))
def test_constraint_is_exact_and_within_bounds(name):
    assert pinned()[name] in declared()[name]


@pytest.mark.parametrize("name", sorted(declared()))
def test_installed_version_is_within_bounds(name):
    assert version(name) in declared()[name]


def test_constraints_hold_for_every_platform():
    text = (ROOT / "constraints.txt").read_text()
    assert not re.search(r"\+| @ |://|nvidia|triton", text), "a build for one platform is pinned"
