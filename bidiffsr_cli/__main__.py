"""`python -m bidiffsr_cli` is `bidiffsr`."""

import sys

from .cli.app import main

sys.exit(main())
