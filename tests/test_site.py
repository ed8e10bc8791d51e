"""The documentation site has every page, public name and flag; where Sphinx is, it builds and needs no network."""

import ast
import fnmatch
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

import wmr_tf
from docs.extensions.public import MODULES, flags_of, names_in
from trainers.command import modules

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TOCTREE = re.compile(
    r"^```\{toctree\}\n(.*?)^```$|^\.\. toctree::\n((?:[ \t]+.*\n|\n)+)", flags=re.DOTALL | re.MULTILINE
)
NOT_PAGES = {"README", "CODE_OF_CONDUCT", "SECURITY"}
GALLERY = "docs/gallery/index"  # made of docs/guides


def pages() -> dict[str, Path]:
    """Return the pages of the site by name, as a toctree calls them from the root."""
    found = [*DOCS.rglob("*.md"), *DOCS.rglob("*.rst"), *(ROOT / "results").glob("*.md"), *ROOT.glob("*.md")]
    made = (DOCS / "_build", DOCS / "gallery")
    named = {
        path.relative_to(ROOT).with_suffix("").as_posix(): path
        for path in found
        if not any(path.is_relative_to(folder) for folder in made)
    }
    header = named.pop("docs/guides/GALLERY_HEADER")
    return {name: path for name, path in named.items() if name not in NOT_PAGES} | {GALLERY: header}


def listed_in(name: str, path: Path, every: dict[str, Path]) -> set[str]:
    """Return the pages in the toctrees of a page."""
    found: set[str] = set()
    for block in map("".join, TOCTREE.findall(path.read_text(encoding="utf-8"))):
        for entry in filter(None, map(str.strip, block.splitlines())):
            if not entry.startswith(":"):
                wanted = os.path.normpath(Path(name).parent / entry)
                found |= {each for each in every if fnmatch.fnmatchcase(each, wanted)} or {wanted}
    return found


def directives(name: str) -> list[str]:
    """Return the arguments of a directive in the reference."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((DOCS / "reference").glob("*.rst"))]
    return [found for text in texts for found in re.findall(rf"^\.\. {name}:: (.+)$", text, flags=re.MULTILINE)]


def test_every_page_is_in_a_toctree():
    every = pages()
    listed = set().union(*(listed_in(name, path, every) for name, path in every.items()))
    assert listed == set(every) - {"docs/index"}


def test_every_public_module_is_in_the_reference():
    assert sorted(directives("public-names")) == sorted(MODULES)
    modules = {importlib.import_module(name) for name in MODULES}
    public = {getattr(wmr_tf, name) for name in wmr_tf.__all__}
    public |= {getattr(wmr_tf, name) for name in wmr_tf._MORE_MODULES if name != "model"}  # whose only name is wmr_tf's
    missing = {each.__name__ for each in public if isinstance(each, ModuleType)} - {each.__name__ for each in modules}
    assert not missing


def test_a_module_without_a_list_of_its_public_names_shows_what_it_defines():
    names = names_in(importlib.import_module("wmr_tf.losses"))
    assert "cross_entropy" in names and "softmax" not in names
    assert not [name for name in names if name.startswith("_")]


def test_every_flag_is_in_the_reference():
    shown = [flag for command in directives("command") for flag in flags_of(modules()[command])]
    assert {flag.name for flag in shown} >= {"alpha_train", "epsilon", "suite", "objective", "budget", "output"}
    assert all(flag.help for flag in shown)
    as_shown = {flag.name: flag for flag in shown}
    alike = {"train": "train custom", "table": "table1"}  # what the pages say of those that are not shown
    for name, module in modules().items():
        of_page = name if name in directives("command") else alike.get(re.match("[a-z]+", name)[0])
        assert of_page, f"{name} has no place in the reference"
        names = {flag.name for flag in flags_of(modules()[of_page])}
        assert {flag.name for flag in flags_of(module)} <= names <= set(as_shown)


class References(HTMLParser):
    """What a page loads, and what it links to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video", "audio", "object", "embed") or (
            tag == "link" and given.get("rel") != "canonical"
        ):
            self.loaded += [given[name] for name in ("src", "href", "data") if given.get(name)]
        elif tag == "a" and given.get("href"):
            self.links.append(given["href"])


def missing_packages() -> list[str]:
    """Return those of the extra `docs` that are not here."""
    conf = ast.parse((DOCS / "conf.py").read_text(encoding="utf-8"))
    given = {node.targets[0].id: node.value for node in conf.body if isinstance(node, ast.Assign)}
    extensions = [name.split(".")[0] for name in ast.literal_eval(given["extensions"])]
    return [name for name in (*extensions, "furo", "math_core") if importlib.util.find_spec(name) is None]


@pytest.mark.slow
@pytest.mark.skipif(bool(missing_packages()), reason=f"needs {', '.join(missing_packages())}: make docs installs them")
def test_the_site_builds_without_a_warning_and_needs_no_network(tmp_path):
    html, options = (
        tmp_path / "html",
        ["-W", "--keep-going", "-q", "-t", "without_guides"],
    )  # test_guides runs the guides
    command = [sys.executable, "-m", "sphinx", *options, "-c", str(DOCS), "-d", str(tmp_path / "doctrees"), str(ROOT)]
    done = subprocess.run([*command, str(html)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-5000:]
    built = sorted(html.rglob("*.html"))
    assert len(built) > 60
    for page in built:
        if "_downloads" in page.parts:  # reports, which tests/test_html.py looks at
            continue
        found = References(page.read_text(encoding="utf-8"))
        outside = [link for link in found.loaded if link.startswith(("http:", "https:", "//"))]
        assert not outside, page
        local = [link.split("#")[0].split("?")[0] for link in (*found.loaded, *found.links) if "://" not in link]
        lost = [link for link in local if link and ":" not in link and not (page.parent / link).exists()]
        assert not lost, page
    for style in html.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text(encoding="utf-8")), style
