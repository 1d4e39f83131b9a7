"""`python -m neulig_fl` is `neulig-fl`."""

from __future__ import annotations

from neulig_fl.cli import main

if __name__ == "__main__":
    main()
