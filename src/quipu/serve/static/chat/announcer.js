/** What a screen reader hears of an answer: whole sentences as they come, not every token and nothing twice. */

import { byId, element } from "./element.js";

export function announce(text) {
  const place = byId("announcer");
  place.append(element("p", {}, text));
  while (place.childElementCount > 30) place.firstChild.remove();
}

export class Reader {
  constructor() {
    this._said = 0;
  }

  /** Say what is new in `text`, up to the end of its last whole sentence, or all of it if it is `complete`. */
  read(text, complete) {
    const fresh = text.slice(this._said);
    const end = complete ? fresh.length : lastEnd(fresh);
    if (end === 0) return;
    this._said += end;
    const words = fresh.slice(0, end).replace(/[#*_`>|]+/g, " ").replace(/\s+/g, " ").trim();
    if (words) announce(words);
  }
}

function lastEnd(text) {
  const ends = [...text.matchAll(/[.!?]\s|\n/g)];
  return ends.length ? ends.at(-1).index + ends.at(-1)[0].length : 0;
}
