"""Run `coadtr live` from a checkout: the same settings, the same result."""

import sys

from coadtr.cli.main import main

if __name__ == "__main__":
    sys.argv[1:1] = ["live"]
    main()
