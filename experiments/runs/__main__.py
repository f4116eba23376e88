"""See the package's own text."""

import sys

from experiments.runs import main

if __name__ == "__main__":
    sys.exit(main())
