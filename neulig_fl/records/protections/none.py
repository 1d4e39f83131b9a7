"""No protection: the payload travels as it is. A real choice, and tested like the others."""

from __future__ import annotations

from neulig_fl.records.protections import NoOptions, Protection

PROTECTION = Protection(NoOptions)
