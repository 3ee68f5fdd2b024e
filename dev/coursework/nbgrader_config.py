"""nbgrader's settings for this course; made by `make course`."""

import os
import sys
from pathlib import Path

from nbgrader.converters import Autograde

sys.path.insert(0, str(Path(__file__).resolve().parent))
from grading import Grades, GuardedExecute, Tidy  # noqa: E402

c = get_config()  # noqa: F821

c.CourseDirectory.course_id = "purification_nb"
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\nraise NotImplementedError()"}
# nbgrader's own steps, with ours before them and in the place of the one that runs the notebook
before, steps = Autograde.sanitize_preprocessors, Autograde.autograde_preprocessors
c.Autograde.sanitize_preprocessors = [Tidy, *before.default()]
c.Autograde.autograde_preprocessors = [GuardedExecute, *steps.default()[1:]]
c.GuardedExecute.timeout = 180  # seconds a cell may take
c.GuardedExecute.total = 600  # and all of them together
c.GuardedExecute.memory = int(os.environ.get("GRADING_MEMORY") or 0)  # bytes of address space
c.GuardedExecute.user = os.environ.get("GRADING_USER", "")  # only root can become another user
# warnings, progress bars and empty lines in a test cell cost no points; nbgrader would give 0
c.IgnorePattern.enabled = True
c.IgnorePattern.pattern = "(?s)."
# STUDENT_anything_NAME.ipynb, or NAME.ipynb somewhere in STUDENT_anything.zip
c.FileNameCollectorPlugin.named_regexp = (
    r".*/extracted/(?P<student_id>[^/_]+)[_/](?:.*[_/])?"
    r"(?P<file_id>\d\d_[a-z_]+)(?:-\d+| ?\(\d+\))?\.ipynb$"
)
c.ExportApp.plugin_class = Grades
