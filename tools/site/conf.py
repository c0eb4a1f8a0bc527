"""Sphinx configuration of the course site. The notebooks come executed; nothing is run or fetched."""

project = "BoneXage"
author = "the BoneXage authors"
language = "en"

extensions = ["myst_nb", "tools.site.extension"]
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # else every page would fetch them

html_theme = "sphinx_book_theme"
html_title = "BoneXage"
html_math_renderer = "mathml"
html_show_copyright = False
html_show_sphinx = False
html_use_index = False
html_theme_options = {
    "launch_buttons": {},
    "navbar_persistent": [],  # else a second search field above the page
    "use_repository_button": False,
    "use_download_button": True,
    "use_fullscreen_button": True,
    "show_toc_level": 2,
    # The a11y themes keep their contrast for readers who see colours differently.
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
# Figures are drawn on white: begin light, and let readers choose the dark mode.
html_context = {"default_mode": "light"}
