"""Read settings.ini, the one place where versions and requirements stand."""

import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
settings = ConfigParser()
settings.read(here / "settings.ini", encoding="utf-8")
cfg = settings["DEFAULT"]
readme = (here / "README.md").read_text(encoding="utf-8")
if cfg[
    "git_url"
]:  # a registry shows the README without the files beside it: its links lead to the public address
    readme = re.sub(
        r"(!?)(\[[^\]]*\]\()(?![a-z]+:|#)",
        lambda m: f"{m[1]}{m[2]}{cfg['git_url']}/{'raw' if m[1] else 'blob'}/{cfg['branch']}/",
        readme,
    )

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=readme,
    long_description_content_type="text/markdown",
    author=cfg["author"],
    keywords=cfg["keywords"].split(),
    project_urls={"Source": cfg["git_url"]} if cfg["git_url"] else {},
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=find_packages(include=[cfg["lib_path"], f"{cfg['lib_path']}.*"]),
    package_data={cfg["lib_path"]: ["py.typed", "assets/*"]},
    python_requires=">=" + cfg["min_python"],
    install_requires=cfg["requirements"].split(),
    extras_require={
        name.removesuffix("_requirements"): cfg[name].split()
        for name in cfg
        if name.endswith("_requirements")
    },
    entry_points={"console_scripts": cfg["console_scripts"].split()},
)
