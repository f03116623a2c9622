"""Results for people and programs: report files in JSON, CSV and Markdown, and what a terminal shows.

path = check_report(Path("run.csv"), overwrite=False)   # before the work
write_report([result.to_dict()], path, overwrite=False)  # after it
"""

from .files import check_report, check_suffix, write_report

__all__ = ["check_report", "check_suffix", "write_report"]
