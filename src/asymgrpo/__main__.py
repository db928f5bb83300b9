"""``python -m asymgrpo``."""

from asymgrpo.cli import main

raise SystemExit(main())
