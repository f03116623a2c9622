"""The command line: `app.py` puts it together, and each command reads as a page of documentation.

While that is imported, Ctrl-C ends the process without a word; from then on `main` handles it.
"""

import signal
import threading

if (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from . import app as app

    signal.signal(signal.SIGINT, signal.default_int_handler)
