"""JSON Schema of a scenario with what the files of its variants add to it: protections' options."""

from __future__ import annotations

from typing import Any

from neulig_fl.config.scenario import json_schema as bare_schema
from neulig_fl.core import variants
from neulig_fl.records import protections

_REF = "#/$defs/{model}"


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a scenario, for editors.

    Example:
        >>> json_schema()["$defs"]["GaussianOptions"]["required"]
        ['clip', 'delta']
    """
    schema = bare_schema()
    defined, alone, examples = schema["$defs"], [], []
    mappings: dict[str, dict[str, Any]] = {}
    for name in variants.names(protections.__name__):
        protection = protections.load(name)
        options = protection.options.model_json_schema(ref_template=_REF)
        defined |= options.pop("$defs", {})
        if not options.get("required"):
            alone.append(name)
        if protection.example:
            options["examples"] = [dict(protection.example)]
            examples.append({name: dict(protection.example)})
        if options["properties"]:
            title = "".join(part.capitalize() for part in name.split("-")) + "Options"
            defined[title] = options
            mappings[name] = {"$ref": _REF.format(model=title)}
        else:
            mappings[name] = {"type": ["null", "object"], "maxProperties": 0}
    by_name, by_mapping = defined["Share"]["properties"]["protection"]["anyOf"]
    by_name["enum"] = alone
    by_mapping |= {"properties": mappings, "additionalProperties": False, "examples": examples}
    return schema
