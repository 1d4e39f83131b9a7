"""Kinds of options that several merge methods have."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from neulig_fl.config.values import Number

Lambda = Annotated[Number, Field(description="Weight of the merged task vector.")]
Share = Annotated[Number, Field(ge=0, le=1)]
PositiveShare = Annotated[Number, Field(gt=0, le=1)]
