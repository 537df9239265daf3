"""Starts the gate: `python3 -I -S .../bulkhead/gate/__main__.py hold` (or `watch`).

Isolated mode leaves both the environment and this file's directory off the module path, so the package's own place is
put there. The rest is imported, and therefore read from bytecode, which a started file is not.
"""

import sys

sys.path.insert(0, __file__.rsplit("/", 3)[0])

from bulkhead.gate.program import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
