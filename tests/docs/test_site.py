"""The documentation site: every page is in its menu, and it is built without a warning."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest

from gan_jax.diagnostics.alarms import NON_FINITE_HELPS, RULES
from tests.docs.pages import ROOT

DOCS = ROOT / "docs"


def test_every_page_is_in_the_menu():
    """By its name, or in a folder that is there as a whole."""
    listed = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    menu = set(re.findall(r"^ +- [^:]+: (\S+)$", listed, re.MULTILINE))
    for page in DOCS.rglob("*.md"):
        place = page.relative_to(DOCS)
        assert menu & {place.as_posix(), place.parent.as_posix()}, place
    assert not [name for name in menu if name != "api" and not (DOCS / name).exists()]


def test_every_alarm_is_explained_with_what_usually_helps():
    text = (DOCS / "troubleshooting.md").read_text()
    helps = {**{name: rule[1] for name, rule in RULES.items()}, "non_finite": NON_FINITE_HELPS}
    for name, what in helps.items():
        section = " ".join(text.partition(f"### {name}\n")[2].partition("###")[0].split())
        assert f"What usually helps: {what}." in section, name


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="the extra [docs] is not installed")
def test_the_site_is_built_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert 'id="gan_jax.objectives.wgan_gp.wgan_gp"' in (tmp_path / "api" / "gan_jax.html").read_text()
    assert (tmp_path / "pictures/experiments/results/resnet_digits.png").exists()
    for page in tmp_path.rglob("*.html"):
        text = page.read_text()
        for target in re.findall(r'<img[^>]+src="([^"#]+)"', text):
            if not target.startswith(("http:", "https:", "data:")):
                assert (page.parent / target).exists(), (page, target)
