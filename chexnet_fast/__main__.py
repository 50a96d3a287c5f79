"""Run the command line: ``python -m chexnet_fast``, and ``torchrun -m chexnet_fast``."""

from chexnet_fast.cli import main

main()
