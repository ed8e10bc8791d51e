"""The documentation site: `make docs` builds it into docs/_build/html, without a network.

Sphinx reads from the root of the repository, so that the pages there and those in results/ are pages of the site, and
their links to one another are checked.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import wmr_tf  # noqa: E402  (found by the line above)

project = "wmr_tf"
version = release = wmr_tf.__version__
copyright = "the authors of wmr_tf, Apache-2.0"
language = "en"
smartquotes = False  # "--flag" stays what it is

root_doc = "docs/index"
include_patterns = ["docs/**", "results/*.md", "*.md"]
# The gallery's pages are made from docs/guides/*.py.
exclude_patterns = [
    ".*",
    "build",
    "dist",
    "runs",
    "**/node_modules",
    "docs/_build",
    "docs/guides/*.rst",
    "docs/guides/*.py",
    "docs/gallery/*.ipynb",
    "docs/gallery/sg_execution_times.rst",
    "README.md",
    "CODE_OF_CONDUCT.md",
    "SECURITY.md",
]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "docs.extensions.commands",
    "docs.extensions.docstrings",
    "docs.extensions.files",
    "docs.extensions.mathml",
    "docs.extensions.names",
    "docs.extensions.shell",
]

# Pages
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
default_role = "code-or-name"  # of extensions/docstrings.py
nitpicky = True
# What is not ours has no page here, and the site is built without a network: no inventories of others.
nitpick_ignore_regex = [(r"py:.*", r"(?!wmr_tf\.).*")]
# Ours, and not public: base classes, and what a result is made of.
nitpick_ignore = [
    ("py:class", f"wmr_tf.{name}")
    for name in (
        "data.source.Images",
        "evaluation.choosers.Choosers",
        "evaluation.diagnostics.Check",
        "evaluation.outcomes.Outcomes",
        "evaluation.robustness.Logits",
        "methods.base.PairMethod",
        "fit.resumable.Resumable",
    )
]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True
pygments_style = "friendly"
pygments_dark_style = "github-dark"

# Docstrings
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
toc_object_entries_show_parents = "hide"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Cost", "Source"]
python_maximum_signature_line_length = 80

# Guides: files that are run, and whose output is shown; one that has not changed since is not run again.
sphinx_gallery_conf = {
    "examples_dirs": "docs/guides",
    "gallery_dirs": "docs/gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "doc_module": ("wmr_tf",),
    "reference_url": {"wmr_tf": None},
    "min_reported_time": 3600,
    "image_srcset": ["2x"],
    "plot_gallery": not tags.has("without_guides"),  # noqa: F821  (Sphinx puts `tags` here; -t without_guides)
    "write_computation_times": False,
}

html_theme = "furo"
html_title = f"wmr_tf {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_root"]
html_copy_source = False
html_math_renderer = "mathml"
