/** A picture file as a data URL, made smaller where it is large, or turned into what servers read. */

const READ = ["image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp"]; // by models and servers
const MOST_BYTES = 1024 * 1024; // of a file that is sent as it is: a request has a few megabytes for all its pictures
const MOST_PIXELS = 4_000_000; // of one that is made smaller; sixteen tiles show a model 1.8 million, in the same grid

/** Whether `url` is a picture as this page keeps it: nothing else may become the source of an image. */
export function isPicture(url) {
  return typeof url === "string" && /^data:image\/(png|jpeg|webp|gif|bmp);base64,/.test(url);
}

/** `text` and `photos` ({url}) as the API has them in one message. */
export function contentOf(text, photos = []) {
  const parts = photos.map(({ url }) => ({ type: "image_url", image_url: { url } }));
  return parts.length ? [...parts, ...(text ? [{ type: "text", text }] : [])] : text;
}

/** {name, url} of `file`. Throws an Error that names it if the browser sees no picture in it. */
export async function readPhoto(file) {
  const name = (file.name || "picture").slice(0, 200);
  const fits = READ.includes(file.type) && file.size <= MOST_BYTES;
  return { name, url: await dataUrl(fits ? file : await smaller(file, name)) };
}

/** A JPEG, over white, turned as the camera was held. */
async function smaller(file, name) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${name} is no picture that this browser can read.`);
  }
  const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (bitmap.width * bitmap.height)));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const made = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
  if (!made) throw new Error(`${name} is too large for this browser.`);
  return made;
}

function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`A picture cannot be read (${reader.error.name}). Choose it again.`));
    reader.readAsDataURL(blob);
  });
}
