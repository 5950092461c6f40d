"""JSON Schemas at random: what programs send, what they might, and now and then what cannot be kept."""

PATTERNS = ("^[a-z]{3,8}$", "^\\d{2}-\\d{4}$", "foo|bar", "^[A-Z][a-z]+( [A-Z][a-z]+)*$", "^.{2,5}$", "^(ab)+c?$", "x")
FORMATS = ("date", "time", "date-time", "email", "uuid", "ipv4", "ipv6", "hostname", "uri", "duration")
NAMES = ("name", "a", "the total amount", "größe", "id", "items", "x-y", 'été "q"', "日本", "line\nbreak", "")
REFUSED = (
    {"not": {"type": "string"}}, {"uniqueItems": True}, {"if": {}, "then": {}}, {"contains": {}}, {"$ref": "http://x/y"},
    {"dependentRequired": {"a": ["b"]}}, {"propertyNames": {}}, {"format": "iri"}, {"multipleOf": 99991},
    {"unevaluatedProperties": False}, {"type": "strange"}, {"minLength": -1}, {"pattern": "(?=a)b"}, {"pattern": "("},
)  # fmt: skip


def random_schema(random, depth=3):
    """One schema; about one in twenty has something that is refused."""
    schema = _schema(random, depth)
    if random.random() < 0.05 and isinstance(schema, dict):
        schema |= random.choice(REFUSED)
    if random.random() < 0.15:
        wrapped = {"$ref": "#/$defs/it", "$defs": {"it": schema}}
        schema = wrapped if isinstance(schema, dict) and not schema.keys() & {"$ref", "$defs"} else schema
    if random.random() < 0.05:
        return {
            "$defs": {"tree": {"type": "object", "properties": {
                "value": _schema(random, 0), "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
                "required": ["value"], "additionalProperties": False}},
            "$ref": "#/$defs/tree",
        }  # fmt: skip
    return schema


def _schema(random, depth):
    kinds = [_string, _string, _number, _integer, _constant, _enumeration, _anything]
    if depth > 0:
        kinds += [_object] * 6 + [_array] * 3 + [_any_of, _all_of, _one_of, _union]
    schema = random.choice(kinds)(random, depth)
    if random.random() < 0.2 and isinstance(schema, dict):
        schema["description"] = 'what "it" is'
    return schema


def _string(random, depth):
    schema = {"type": "string"}
    choice = random.random()
    if choice < 0.15:
        schema["pattern"] = random.choice(PATTERNS)
    elif choice < 0.3:
        schema["format"] = random.choice(FORMATS)
    elif choice < 0.45:
        schema["maxLength"] = random.randint(0, 30)
        if random.random() < 0.5:
            schema["minLength"] = random.randint(0, schema["maxLength"])
    elif choice < 0.5:
        schema["minLength"] = random.randint(1, 40)
    return schema


def _number(random, depth):
    schema = {"type": "number"}
    if random.random() < 0.3:
        schema["minimum"] = round(random.uniform(-1000, 1000), 2)
    if random.random() < 0.3:
        schema["exclusiveMaximum"] = round(schema.get("minimum", 0) + random.uniform(0.5, 500), 1)
    if random.random() < 0.1:
        schema = {"type": "number", "multipleOf": random.choice([0.01, 0.5, 0.25])}
    return schema


def _integer(random, depth):
    schema = {"type": "integer"}
    if random.random() < 0.4:
        schema["minimum"] = random.randint(-100, 100_000)
    if random.random() < 0.4:
        schema["maximum"] = schema.get("minimum", 0) + random.randint(0, 1000)
    if random.random() < 0.1:
        schema = {"type": "integer", "multipleOf": random.choice([2, 5, 7, 100])}
    return schema


def _constant(random, depth):
    return {"const": random.choice([None, True, 1, -2.5, 'a"b', "été", [], {}, [1, "x"], {"a": None}])}


def _enumeration(random, depth):
    values = ["red", "green", "dark green", "größer", 1, 2.5, None, False, "", "a/b", "\u2028", [1], {"k": "v"}]
    return {"enum": random.sample(values, random.randint(1, 6))}


def _anything(random, depth):
    return random.choice([{}, True, {"type": ["string", "null"]}, {"type": "boolean"}, {"type": "null"}])


def _object(random, depth):
    names = random.sample(NAMES, random.randint(0, 5))
    schema = {"type": "object", "properties": {name: _schema(random, depth - 1) for name in names}}
    schema["required"] = [name for name in names if random.random() < 0.6]
    choice = random.random()
    if choice < 0.6:
        schema["additionalProperties"] = False
    elif choice < 0.75:
        schema["additionalProperties"] = _schema(random, 0)
    if random.random() < 0.08:
        schema["patternProperties"] = {"^z[0-9]+$": _schema(random, 0)}
    if random.random() < 0.05:
        schema["maxProperties"] = random.randint(len(schema["required"]), 6)
    return schema


def _array(random, depth):
    schema = {"type": "array", "items": _schema(random, depth - 1)}
    if random.random() < 0.4:
        schema["maxItems"] = random.randint(0, 6)
        if random.random() < 0.5:
            schema["minItems"] = random.randint(0, schema["maxItems"])
    elif random.random() < 0.2:
        schema["minItems"] = random.randint(1, 4)
    if random.random() < 0.15:
        schema |= {"prefixItems": [_schema(random, depth - 1)], "items": random.choice([False, schema["items"]])}
    return schema


def _any_of(random, depth):
    return {"anyOf": [_schema(random, depth - 1) for _ in range(random.randint(1, 4))]}


def _one_of(random, depth):
    kinds = random.sample(["one", "two", "three", "four"], random.randint(1, 3))
    return {
        "oneOf": [
            {"type": "object", "properties": {"kind": {"const": kind}, "value": _schema(random, depth - 1)},
             "required": ["kind", "value"], "additionalProperties": False}
            for kind in kinds
        ]
    }  # fmt: skip


def _all_of(random, depth):
    return {"allOf": [_object(random, depth - 1), {"type": "object", "properties": {"more": _schema(random, 0)}}]}


def _union(random, depth):
    return {"type": random.sample(["string", "integer", "null", "boolean", "array", "object"], 2)}
