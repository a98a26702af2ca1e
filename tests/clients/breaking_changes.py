"""What a new OpenAPI document breaks for the clients of an older one.

A comparison of our own, because no other could be had: npm's openapi-diff reads OpenAPI up to 3.0,
oasdiff and openapi-changes are fetched from places that a build should not depend on, and what PyPI
has are first attempts. It knows as much of JSON Schema as our documents use.
"""

from collections.abc import Iterator, Mapping
from typing import Any

#: What a description says of a choice of values that may get more of them in answers.
OPEN = "Later versions may answer with further values"

_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")


def breaking_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    """What clients of the old document cannot do with the new one, a line each.

    A request may be allowed more than before, an answer may tell more than before; never less.
    """
    return set(_Comparison(old, new).changes())


class _Comparison:
    def __init__(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        self.old, self.new = old, new

    def changes(self) -> Iterator[str]:
        for path, operations in self.old["paths"].items():
            for method, operation in operations.items():
                later = self.new["paths"].get(path, {}).get(method)
                place = f"{method.upper()} {path}"
                if later is None:
                    yield f"{place}: gone"
                else:
                    yield from self._operation(operation, later, place)
        components = self.new["components"]["schemas"]
        for name, schema in self.old["components"]["schemas"].items():
            if name not in components:
                yield f"component {name}: gone"
            elif schema.get("type") != components[name].get("type"):
                yield f"component {name}: is something else"

    def _operation(self, old: Any, new: Any, place: str) -> Iterator[str]:
        if old["operationId"] != new["operationId"]:
            yield f"{place}: its operationId is another"
        yield from self._parameters(old, new, place)
        before, after = old.get("requestBody", {}), new.get("requestBody", {})
        if after.get("required") and not before.get("required"):
            yield f"{place}: must have a body"
        yield from self._content(before, after, f"{place} body", asked=True)
        for status, answer in old["responses"].items():
            later = new["responses"].get(status)
            if later is not None:
                yield from self._content(answer, later, f"{place} {status}", asked=False)
                for name in set(answer.get("headers", {})) - set(later.get("headers", {})):
                    yield f"{place} {status}: no header {name}"
            elif status < "400":
                yield f"{place} {status}: gone"

    def _parameters(self, old: Any, new: Any, place: str) -> Iterator[str]:
        before, after = (
            {(one["in"], one["name"]): one for one in operation.get("parameters", ())}
            for operation in (old, new)
        )
        for key in before.keys() - after.keys():
            yield f"{place}: no parameter {key[1]}"
        for key, parameter in after.items():
            earlier = before.get(key, {})
            if parameter.get("required") and not earlier.get("required"):
                yield f"{place}: must have the parameter {key[1]}"
            if earlier:
                schemas = (earlier["schema"], parameter["schema"])
                yield from self._schema(*schemas, f"{place}?{key[1]}", asked=True)

    def _content(self, old: Any, new: Any, place: str, *, asked: bool) -> Iterator[str]:
        for media_type, told in old.get("content", {}).items():
            later = new.get("content", {}).get(media_type)
            if later is None:
                yield f"{place}: no {media_type}"
            else:
                yield from self._schema(told["schema"], later["schema"], place, asked=asked)

    def _schema(self, old: Any, new: Any, place: str, *, asked: bool) -> Iterator[str]:
        before, name = _plain(old, self.old)
        after, _ = _plain(new, self.new)
        if name is not None:  # said once of a component, not for each operation that leads to it
            place = f"{'requests' if asked else 'answers'} {name}"
        yield from self._kind(before, after, place, asked=asked)
        yield from self._values(before, after, place, asked=asked)
        if asked:
            yield from _bounds(before, after, place)
        yield from self._members(before, after, place, asked=asked)
        if "items" in before and "items" in after:
            yield from self._schema(before["items"], after["items"], f"{place}[]", asked=asked)

    def _kind(self, old: Any, new: Any, place: str, *, asked: bool) -> Iterator[str]:
        before, after = _kinds(old), _kinds(new)
        for kind in sorted(before - after) if asked else sorted(after - before):
            yield f"{place}: {'no longer' if asked else 'may be'} {kind}"
        for word in ("format", "pattern"):
            narrower, wider = (new, old) if asked else (old, new)
            if word in narrower and narrower[word] != wider.get(word):
                yield f"{place}: its {word} is another"

    def _values(self, old: Any, new: Any, place: str, *, asked: bool) -> Iterator[str]:
        before, after = _choices(old), _choices(new)
        narrower, wider = (after, before) if asked else (before, after)
        if narrower is None or (not asked and OPEN in old.get("description", "")):
            return
        if wider is None:
            yield f"{place}: {'only some values' if asked else 'any value'}"
        else:
            for value in sorted(wider - narrower):
                yield f"{place}: {'no longer' if asked else 'may be'} {value!r}"

    def _members(self, old: Any, new: Any, place: str, *, asked: bool) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        for name, schema in before.items():
            if name in after:
                yield from self._schema(schema, after[name], f"{place}.{name}", asked=asked)
            elif not asked or new.get("additionalProperties") is False:
                yield f"{place}.{name}: gone"
        must_before, must_after = set(old.get("required", ())), set(new.get("required", ()))
        if asked:
            for name in must_after - must_before:
                yield f"{place}.{name}: must be given"
        else:
            for name in (must_before - must_after) & after.keys():
                yield f"{place}.{name}: may be missing"


def _plain(schema: Any, document: Any) -> tuple[dict[str, Any], str | None]:
    """A schema without references and choices of null, and the name of the component that it is."""
    name, nullable, plain = None, False, dict(schema)
    while True:
        if "$ref" in plain:
            name = plain.pop("$ref").rpartition("/")[2]
            plain = {**plain, **document["components"]["schemas"][name]}
            continue
        choosing = next((word for word in ("oneOf", "anyOf", "allOf") if word in plain), None)
        if choosing is None:
            break
        choices = plain.pop(choosing)
        others = [one for one in choices if one != {"type": "null"}]
        assert len(others) == 1, "a choice between schemas: this comparison does not know it yet"
        nullable = nullable or len(others) < len(choices)
        plain |= others[0]
    kinds = _kinds(plain) | ({"null"} if nullable else set())
    return {**plain, "type": sorted(kinds)}, name


def _kinds(schema: Any) -> set[str]:
    given = schema.get("type", "string" if _choices(schema) else [])
    kinds = {given} if isinstance(given, str) else set(given)
    return kinds | ({"integer"} if "number" in kinds else set())


def _choices(schema: Any) -> set[str] | None:
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    return None if values is None else {value for value in values if value is not None}


def _bounds(old: Any, new: Any, place: str) -> Iterator[str]:
    for words, tighter in ((_LOWER, max), (_UPPER, min)):
        for word in words:
            if word in new and tighter(new[word], old.get(word, new[word])) != old.get(word):
                yield f"{place}: its {word} is tighter"
