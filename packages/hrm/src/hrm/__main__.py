"""`python -m hrm`, which torchrun starts."""

from hrm.cli import main

raise SystemExit(main())
