"""A trainer that kills its own process in the middle of writing a checkpoint.

    python -m tests.distribution.killed_trainer NUMBER FLAGS

`NUMBER` is that of the checkpoint, of those that this process writes.
"""

import sys

from tests.faults.killed_study import kill_in_write
from trainers import train

if __name__ == "__main__":
    kill_in_write(int(sys.argv.pop(1)))
    train.main()
