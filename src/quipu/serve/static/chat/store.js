/** Conversations in this browser's IndexedDB; nowhere else. Where that is forbidden, they last as long as the page. */

const NAME = "quipu";
const CONVERSATIONS = "conversations";

export class Store {
  /** Open the database. `onchange` is called when another tab has changed a conversation. */
  static async open(onchange) {
    const store = new Store();
    store.durable = true;
    store._channel = new BroadcastChannel(NAME);
    store._channel.onmessage = onchange;
    try {
      store._database = await opened();
    } catch {
      store.durable = false;
    }
    return store;
  }

  /** All conversations, in no order. */
  async all() {
    return this.durable ? asPromise(this._objects("readonly").getAll()) : [];
  }

  async save(conversation) {
    await this._write((objects) => objects.put(conversation));
  }

  async remove(id) {
    await this._write((objects) => objects.delete(id));
  }

  async _write(change) {
    if (!this.durable) return;
    await asPromise(change(this._objects("readwrite")));
    this._channel.postMessage("changed");
  }

  _objects(mode) {
    return this._database.transaction(CONVERSATIONS, mode).objectStore(CONVERSATIONS);
  }
}

function opened() {
  const request = indexedDB.open(NAME, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(CONVERSATIONS, { keyPath: "id" });
  return asPromise(request);
}

function asPromise(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** A small choice that lasts, as JSON in localStorage; `fallback` where there is none. */
export function recall(name, fallback) {
  try {
    return JSON.parse(localStorage.getItem(`quipu.${name}`)) ?? fallback;
  } catch {
    return fallback;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`quipu.${name}`, JSON.stringify(value));
  } catch {
    // Storage is full or forbidden: the choice lasts as long as the page.
  }
}
