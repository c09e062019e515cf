"""Networks as JSON: the document beside the weights, which describes their network. Read without PyTorch."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lungforge.errors import ContentError, InputError
from lungforge.models.base import DataShape, ModelSpec
from lungforge.models.registry import find_generator, generator_names


def to_document(spec: ModelSpec[Any, Any], config: DataShape) -> dict[str, Any]:
    """The JSON document of a generator's network: its name, and every field of its configuration."""
    values = dataclasses.asdict(config)
    network = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    return {"model": spec.name, "network": network}


def from_document(document: Mapping[str, Any]) -> tuple[ModelSpec[Any, Any], Any]:
    """The generator that a document names, and the configuration of its network.

    Raises:
        ContentError: It names no known generator, or a field is missing, unknown or impossible.
    """
    name, network = document.get("model"), document.get("network")
    spec = find_generator(name) if isinstance(name, str) else None
    if spec is None:
        raise ContentError(
            f"config.json describes the model {name!r}; known are {', '.join(generator_names())}"
        )
    fields = dataclasses.fields(spec.network_config)
    known = {field.name for field in fields}
    if isinstance(network, dict):
        network = {field.name: field.default for field in fields if field.metadata.get("added")} | network
    if not isinstance(network, dict) or set(network) != known:
        wrong = sorted(set(network) ^ known) if isinstance(network, dict) else network
        raise ContentError(
            f"config.json: the network of {name} has the fields {', '.join(sorted(known))}; check {wrong}"
        )
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in network.items()}
    make: Any = spec.network_config
    try:
        return spec, make(**values)
    except InputError as error:
        raise ContentError(f"config.json: {error}") from error
