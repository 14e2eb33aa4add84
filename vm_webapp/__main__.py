"""``python -m vm_webapp``."""

import signal
import sys

if __name__ == "__main__":
    # Until a command runs, Ctrl-C ends the process at once: nothing has to be undone, and a KeyboardInterrupt that is
    # raised during an import prints a traceback or gets lost. A background job of a script ignores the signal, and
    # goes on ignoring it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from vm_webapp.cli import main

    sys.exit(main())
