/** The pictures that go with the next question: chosen, dropped or pasted, each with the tokens that it costs. */

import { announce } from "./announcer.js";
import { number } from "./answering.js";
import { pictureTokens } from "./api.js";
import { toast } from "./dialog.js";
import { byId, element, iconButton } from "./element.js";
import { readPhoto } from "./photo.js";

export class Pictures {
  /** `onchange` is called when there are more or fewer, or when one is ready. */
  constructor(onchange) {
    this._onchange = onchange;
    this._tray = byId("pictures");
    this._button = byId("add-picture");
    this._items = []; // {photo: {name, url}, tokens, element}
    this._reading = 0;
    this._model = null;
    this._button.addEventListener("click", () => byId("picture-files").click());
    byId("picture-files").addEventListener("change", (event) => {
      this.add([...event.target.files]);
      event.target.value = "";
    });
    document.addEventListener("paste", (event) => this._paste(event));
    this._takeDrops();
  }

  /** Some are still being read: a question sent now would lack them. */
  get reading() {
    return this._reading > 0;
  }

  /** How many go with a question to this model. */
  get count() {
    return this._sees ? this._items.length : 0;
  }

  /** Show them for `model` ({id, input_modalities}, or undefined). For one that reads text only, they wait. */
  show(model) {
    const same = this._model?.id === model?.id && this._sees === sees(model);
    this._model = model;
    if (same) return;
    this._sees = sees(model);
    this._button.hidden = !this._sees;
    this._draw();
    if (!this._sees && this._items.length) toast("This model reads text only: the pictures wait for one that sees.");
    if (this._sees) for (const item of this._items) this._count(item);
  }

  /** Take them out, to be sent: [{name, url}]. */
  take() {
    if (!this._sees) return [];
    const taken = this._items.map(({ photo }) => photo);
    this._items = [];
    this._draw();
    return taken;
  }

  /** Put `files` in. */
  async add(files) {
    if (!this._sees) {
      toast(this._model?.input_modalities ? `${this._model.id} reads text only, and sees no pictures.` : "This model is not loaded yet: ask it something first.");
      return;
    }
    this._reading += 1;
    this._onchange();
    for (const file of files) {
      try {
        this._put(await readPhoto(file));
      } catch (error) {
        toast(error.message);
      }
    }
    this._reading -= 1;
    this._onchange();
  }

  _put(photo) {
    const item = { photo, cost: element("span", { class: "picture-cost" }, "…") };
    item.element = element("li", {}, element("img", { src: photo.url, alt: photo.name, title: photo.name }),
      iconButton("close", `Remove ${photo.name}`, () => this._remove(item)), item.cost);
    this._items.push(item);
    this._draw();
    this._count(item);
  }

  _remove(item) {
    const place = this._items.indexOf(item);
    if (place < 0) return;
    const focused = item.element.contains(document.activeElement);
    this._items.splice(place, 1);
    this._draw();
    const next = this._items[place] ?? this._items[place - 1];
    if (focused) (next?.element.querySelector("button") ?? byId("question")).focus();
  }

  /** Ask the server, which also says at once what is no picture. */
  async _count(item) {
    const { id } = this._model;
    try {
      const tokens = await pictureTokens(id, item.photo);
      if (id !== this._model?.id || !this._items.includes(item)) return;
      item.cost.textContent = `${number(tokens)} tokens`;
      announce(`${item.photo.name} costs ${number(tokens)} tokens.`);
    } catch (error) {
      item.cost.textContent = "";
      if (error.status !== 400 && error.status !== 413) return; // when it is sent, that will be said in its place
      toast(`${item.photo.name}: ${error.message}`);
      this._remove(item);
    }
  }

  _draw() {
    this._tray.replaceChildren(...this._items.map((item) => item.element));
    this._tray.hidden = this.count === 0;
    this._onchange();
  }

  /** Text with a picture of it, as office programs copy it, is pasted as text. */
  _paste(event) {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length || event.clipboardData.types.includes("text/plain") || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    this.add(files);
  }

  _takeDrops() {
    const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
    const mark = (on) => document.body.classList.toggle("dropping", on && this._sees);
    document.addEventListener("dragover", (event) => {
      if (!carriesFiles(event)) return;
      event.preventDefault(); // else the browser would leave the page for the file
      mark(true);
    });
    document.addEventListener("dragleave", (event) => event.relatedTarget || mark(false));
    document.addEventListener("drop", (event) => {
      mark(false);
      if (!carriesFiles(event)) return;
      event.preventDefault();
      this.add([...event.dataTransfer.files]);
    });
  }
}

function sees(model) {
  return model?.input_modalities?.includes("image") ?? false;
}
