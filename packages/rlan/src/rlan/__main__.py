"""`python -m rlan` is `train`, for launchers such as torchrun."""

from rlan.cli import main

raise SystemExit(main())
