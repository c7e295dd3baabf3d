"""`python -m swiftlite`."""

import sys

from swiftlite.cli import main

sys.exit(main())
