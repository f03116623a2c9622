"""The command line: `app.py` puts it together, and each command is one file that reads as a page of documentation."""
