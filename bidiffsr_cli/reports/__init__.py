"""Results for people and programs: report files in JSON, CSV, Markdown and HTML, and what a terminal shows.

check_report(path, overwrite=False)                      # before the work
write_report([result.to_dict()], path, overwrite=False)  # after it
"""

from .files import check_report, check_suffix, write_report

__all__ = ["check_report", "check_suffix", "write_report"]
