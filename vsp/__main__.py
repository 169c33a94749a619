"""`python -m vsp` is the `vsp` command."""

import sys

from vsp.cli import main

sys.exit(main())
