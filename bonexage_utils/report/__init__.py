"""An evaluation to read: `write_report` makes the page, the model card, the tables and the figures."""

from bonexage_utils.report.page import headline, outputs, write_report

__all__ = ["headline", "outputs", "write_report"]
