/**
 * Calls of tools: {name, given}, `given` being [[argument, value]]. Those that an answer makes have them as JSON; some
 * models write calls at the end of an answer though they were told of no tools, in JSON or as a list in Python.
 */

const TAG = "<|python_tag|>"; // what Llama 3 writes before a call; the text of a remote model may have it
const BEGINS = /^(?:\[\s*[a-zA-Z_][\w.-]*\(|\[?\s*\{\s*"(?:type|name)")/;
const DEEPEST = 100; // brackets in each other

/** What `text` says, and the calls that end it, as tools/closing.py finds them: what text follows is an example of one. */
export function closing(text) {
  const none = { said: text, calls: [] };
  if (!"]};,".includes(text.trimEnd().at(-1) ?? " ")) return none; // most text, and all that is still being written
  let fenced = false;
  let start = 0;
  let failed = -1; // up to here there are calls, and what follows them is text
  for (const line of text.split("\n")) {
    const begun = line.trimStart();
    if (begun.startsWith("```")) fenced = !fenced;
    else if (!fenced && start > failed && (/^[[{]/.test(begun) || begun.startsWith(TAG))) {
      const rest = untagged(text.slice(start));
      const { calls, end } = BEGINS.test(rest) ? callsOf(rest) : {};
      if (calls) return { said: text.slice(0, start), calls };
      failed = end === undefined ? failed : text.length - rest.length + end;
    }
    start += line.length + 1;
  }
  return none;
}

function untagged(text) {
  const begun = text.trimStart();
  return begun.startsWith(TAG) ? begun.slice(TAG.length).trimStart() : begun;
}

/** The arguments of a call in JSON as [[name, value]]; null while they are no whole object. */
export function argumentsOf(json) {
  try {
    const reader = new Literals(json);
    const found = reader.value();
    return found instanceof Map && reader.ends(/\s*/y) ? [...found] : null;
  } catch {
    return null;
  }
}

/** A value for people: a text as it is, anything else as JSON. */
export function plain(value) {
  return typeof value === "string" ? value : written(value);
}

function written(value) {
  if (value instanceof Map) return `{${[...value].map(([key, each]) => `${JSON.stringify(key)}: ${written(each)}`).join(", ")}}`;
  if (Array.isArray(value)) return `[${value.map(written).join(", ")}]`;
  return value instanceof Numeral ? value.text : JSON.stringify(value);
}

/** A call in a line: `get_weather(city: Paris)`. */
export function inOneLine({ name, given }) {
  return `${name}(${(given ?? []).map(([key, value]) => `${key}: ${plain(value)}`).join(", ")})`;
}

/** All that an answer says; its calls as Meta's models write them, which `closing` reads again. */
export function textOf({ content, calls }) {
  const written = (calls ?? []).map(({ name, arguments: json }) => `{"name": ${JSON.stringify(name)}, "parameters": ${json || "{}"}}`);
  return [content, ...written].filter(Boolean).join("\n");
}

/** The `calls` that are all of `text`, or the `end` of those that it begins with. */
function callsOf(text) {
  const reader = new Literals(text);
  const calls = [];
  let end = 0;
  try {
    while (!reader.ends(/[\s;,\]]*/y)) {
      calls.push(...reader.calls());
      end = reader.at;
    }
    return { calls };
  } catch {
    return { end };
  }
}

/** A number as it was written: as one of JavaScript's, a long one would be another. */
class Numeral {
  constructor(text) {
    this.text = text;
  }
}

/** Literals of JSON and of Python, of which nothing is run. Every method throws on anything else. */
class Literals {
  constructor(text) {
    this._text = text;
    this.at = 0;
    this._depth = 0;
  }

  /** Whether there is nothing after `between`, which is skipped. */
  ends(between) {
    this._take(between);
    return this.at >= this._text.length;
  }

  /** Those of one group: a list in Python, or an object of JSON, which may be the first of a list. */
  calls() {
    if (this._looking(/\s*\[\s*[a-zA-Z_]/y)) return this._listed("[", "]", () => this._pythonCall());
    this._take(/\s*\[/y);
    return [this._jsonCall()];
  }

  _pythonCall() {
    const name = this._must(/\s*([a-zA-Z_][\w.-]*)/y)[1];
    const given = this._listed("(", ")", () => {
      if (this._take(/\s*\*\*/y)) return [...this._object()];
      const key = this._must(/\s*([a-zA-Z_]\w*)\s*=/y)[1];
      return [[key, this.value()]];
    });
    return { name, given: given.flat() };
  }

  _jsonCall() {
    const call = this._object();
    const name = call.get("name");
    const given = call.get("parameters") ?? call.get("arguments");
    const known = ["type", "name", "parameters", "arguments"];
    if (typeof name !== "string" || !(given instanceof Map) || [...call.keys()].some((key) => !known.includes(key))) throw new Error("no call");
    return { name, given: [...given] };
  }

  value() {
    if (this._looking(/\s*\{/y)) return this._object();
    if (this._looking(/\s*\[/y)) return this._listed("[", "]", () => this.value());
    if (this._looking(/\s*["']/y)) return this._string();
    const number = this._take(/\s*(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/y);
    if (number) return new Numeral(number[1]);
    const word = this._must(/\s*(true|false|null|True|False|None)\b/y)[1].toLowerCase();
    return { true: true, false: false, null: null, none: null }[word];
  }

  _object() {
    return new Map(this._listed("{", "}", () => {
      const key = this._string();
      this._must(/\s*:/y);
      return [key, this.value()];
    }));
  }

  _listed(open, close, item) {
    const [opens, closes] = [new RegExp(`\\s*\\${open}`, "y"), new RegExp(`\\s*\\${close}`, "y")];
    this._must(opens);
    if ((this._depth += 1) > DEEPEST) throw new Error("nested too deep");
    const found = [];
    while (!this._take(closes)) {
      if (found.length) {
        this._must(/\s*,/y);
        if (this._take(closes)) break;
      }
      found.push(item());
    }
    this._depth -= 1;
    return found;
  }

  _string() {
    const [, inDouble, inSingle] = this._must(/\s*(?:"((?:[^"\\]|\\[^])*)"|'((?:[^'\\]|\\[^])*)')/y);
    return (inDouble ?? inSingle).replace(/\\(?:u([\da-fA-F]{4})|x([\da-fA-F]{2})|([^]))/g, (_, four, two, one) =>
      one === undefined ? String.fromCharCode(parseInt(four ?? two, 16)) : ({ n: "\n", t: "\t", r: "\r", b: "\b", f: "\f", "\n": "" }[one] ?? one));
  }

  _take(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this._text);
    if (found) this.at = pattern.lastIndex;
    return found;
  }

  _looking(pattern) {
    pattern.lastIndex = this.at;
    return pattern.test(this._text);
  }

  _must(pattern) {
    const found = this._take(pattern);
    if (!found) throw new Error("no literal");
    return found;
  }
}
