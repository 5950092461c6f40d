/** The parts of JSON schema that typed inputs and outputs are made of. */

/** `schema` without its references and without null: {type, …, nullable}. `root` has the definitions. */
export function resolved(schema, root) {
  if (schema.$ref) {
    const { $ref, ...rest } = schema;
    return resolved({ ...root.$defs[$ref.split("/").at(-1)], ...rest }, root);
  }
  const choices = schema.anyOf;
  if (!choices) return schema;
  const others = choices.filter((choice) => choice.type !== "null");
  if (others.length !== 1) return schema;
  const { anyOf, ...rest } = schema;
  return { ...resolved(others[0], root), ...rest, nullable: others.length < choices.length };
}

/** What a field is called on the page: "first_token_p50" is "First token p50". */
export function labelOf(name) {
  const words = name.replaceAll("_", " ").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}
