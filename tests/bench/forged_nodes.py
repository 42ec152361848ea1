"""A forged node of the tree before each true one, and still no more than one cycle.

    python -m tests.bench.forged_nodes [MEBIBYTES]

lets a receiver hear one cycle of an object, 64 MiB by default, with symbols of 256 bytes.
"""

import sys

from tests.core.test_forged_nodes import receive_with_forgeries

if __name__ == "__main__":
    drive = receive_with_forgeries(int(sys.argv[1]) if len(sys.argv) > 1 else 64)
    print(f"complete: {drive.is_complete}, refused: {drive.refused}")
    sys.exit(not drive.is_complete)
