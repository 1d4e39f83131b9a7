"""Kinds of options that several merge methods have."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from neulig_fl.config.values import Count, Number

Lambda = Annotated[Number, Field(description="Weight of the merged task vector.")]
Share = Annotated[Number, Field(ge=0, le=1)]
PositiveShare = Annotated[Number, Field(gt=0, le=1)]
Steps = Annotated[Count, Field(description="Steps of the optimiser.")]
