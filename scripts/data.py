"""Run `coadtr data import`, `coadtr data inspect` and the other `data` commands from a checkout."""

import sys

from coadtr.cli.main import main

if __name__ == "__main__":
    sys.argv[1:1] = ["data"]
    main()
