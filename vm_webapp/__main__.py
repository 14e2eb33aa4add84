"""``python -m vm_webapp``."""

import sys

from vm_webapp.cli import main

if __name__ == "__main__":
    sys.exit(main())
