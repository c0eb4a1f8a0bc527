"""What only the notebooks need: `start` (profile, device, cohort), the exercises, the widgets, and their making."""

from bonexage_utils.course.start import Course, start

__all__ = ["Course", "start"]
