"""Sphinx's settings; build_site.py writes the pages that it reads."""

import sys
from configparser import ConfigParser
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

settings = ConfigParser()
settings.read(HERE.parents[1] / "settings.ini", encoding="utf-8")
cfg = settings["DEFAULT"]

project = cfg["title"]
author = copyright = cfg["author"]
version = release = cfg["version"]

extensions = ["myst_nb", "sphinx.ext.mathjax", "mathml"]
html_math_renderer = (  # browsers draw it themselves, where MathJax would come over the network
    "mathml"
)
nb_execution_mode = "off"  # the outputs are those saved in the notebooks
nb_code_prompt_show, nb_code_prompt_hide = "Show the imports", "Hide the imports"  # all it folds
myst_enable_extensions = ["dollarmath", "amsmath", "fieldlist", "colon_fence", "html_image"]
nb_render_markdown_format = "myst"  # a table that a cell made is a table
myst_heading_anchors = 3
add_module_names = False
python_maximum_signature_line_length = 80
exclude_patterns = ["_build"]

html_static_path = ["static"]
html_css_files = ["site.css"]
html_theme = "sphinx_book_theme"
html_title = cfg["title"]
html_favicon = "favicon.svg"
html_copy_source = html_show_sourcelink = False
html_theme_options = {
    "use_download_button": False,
    "show_toc_level": 2,
    "show_navbar_depth": 1,
    "home_page_in_toc": True,
    "navbar_persistent": [],  # the sidebar has the search box; on a telephone, the page's own head
}
html_context = {"default_mode": "auto"}  # light or dark, as the reader's machine is
