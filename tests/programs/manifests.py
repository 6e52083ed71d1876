"""Prints what stands in YAML files as JSON, one document a line; and what schemas say of it.

manifests.py json FILE…            each document
manifests.py schema DEFINITION…    reads documents as JSON lines, and prints for each the problems that the schema of its
                                   kind has with it, as a list
"""
import json
import sys

import jsonschema
import yaml


def documents(paths):
    for path in paths:
        with open(path) as file:
            yield from (document for document in yaml.safe_load_all(file) if document is not None)


def strict(schema):
    """As the API server is with `--validate=strict`: keys that the schema has not are problems."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(value) for key, value in schema.items()}
    if "properties" in schema and isinstance(schema["properties"], dict) and "type" in schema:
        schema.setdefault("additionalProperties", False)
    if schema.pop("x-kubernetes-int-or-string", False):
        schema["type"] = ["integer", "string"]
    return schema


def validators(definitions):
    for definition in documents(definitions):
        schema = strict(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
        schema["properties"]["metadata"] = {"type": "object"}
        jsonschema.Draft7Validator.check_schema(schema)
        yield definition["spec"]["names"]["kind"], jsonschema.Draft7Validator(schema)


if sys.argv[1] == "json":
    for document in documents(sys.argv[2:]):
        print(json.dumps(document))
else:
    by_kind = dict(validators(sys.argv[2:]))
    for line in sys.stdin:
        document = json.loads(line)
        errors = by_kind[document["kind"]].iter_errors(document)
        print(json.dumps([f"{error.json_path}: {error.message}" for error in errors]))
