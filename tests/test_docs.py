"""README.md, docs/ and CHANGELOG.md name only what exists, and name all settings and commands."""

import re
import subprocess
from pathlib import Path

import pytest

from dicomweb.cli import commands, markdown_table
from dicomweb.settings import SETTINGS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def test_the_table_of_settings_is_the_one_that_is_generated() -> None:
    assert markdown_table() in README, "README.md needs the output of `dicomweb settings --markdown`"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_variable_that_is_named_is_a_setting(page: Path) -> None:
    named = set(re.findall(r"\bDICOMWEB_[A-Z_]+", page.read_text()))
    assert named - {"DICOMWEB_AREA_NAME"} <= {row.variable for row in SETTINGS}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    code = "\n".join(inline or block for inline, block in re.findall(r"`([^`\n]+)`|^ {4}(.+)$", text, flags=re.M))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    assert set(re.findall(r"\bmake ([a-z]+)", code)) <= targets
    assert set(re.findall(r"(?:^|bin/|\s)dicomweb ([a-z]+)", code, flags=re.M)) <= set(commands.commands)
    for module in re.findall(r"python -m ([a-z_.]+)", code):
        assert list(ROOT.glob(f"{module.replace('.', '/')}*")), module


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_readme_tells_every_command_and_every_make_target() -> None:
    for name in commands.commands:
        assert f"dicomweb {name}" in README
    shown = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True).stdout
    targets = re.findall(r"make ([a-z]+) ", shown)
    assert {"run", "demo", "test", "check", "bench", "clean"} <= set(targets)
    for name in ("run", "demo", "test", "check", "bench"):
        assert f"make {name}" in README
