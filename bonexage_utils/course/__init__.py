"""What notebooks import: here what several share, and in `nb00` … `nb10` what one of them alone needs."""

from bonexage_utils.course.start import Course, start

__all__ = ["Course", "start"]
