/** Pictures: those that are here, and those that are dropped, pasted, chosen or taken with a camera. */

import { $, el, radios } from "./dom.js";
import { ask, blob, json } from "./api.js";

export class Album {
  #mark;
  #thumbs = new Map();

  /** `choose(id)` is told which picture to show, `link(text)` of an address that was pasted, `fail(error)` what went wrong. */
  constructor({ choose, link, fail }) {
    this.choose = choose;
    this.fail = fail;
    this.#mark = radios($("pictures"), choose);
    $("file").addEventListener("change", () => this.add($("file").files));
    this.#drop();
    document.addEventListener("paste", (event) => {
      if (event.target.closest?.("input, textarea")) return;
      const text = event.clipboardData.getData("text");
      if (event.clipboardData.files.length) this.add(event.clipboardData.files);
      else if (text.includes("#") && text.includes("picture=")) link(text.slice(text.indexOf("#")).trim());
    });
    this.#camera();
  }

  #drop() {
    let depth = 0;
    const carries = (event) => event.dataTransfer?.types.includes("Files");
    const over = (by, event) => {
      if (!carries(event)) return;
      event.preventDefault();
      depth = Math.max(0, depth + by);
      $("dropping").hidden = depth === 0;
    };
    addEventListener("dragenter", (event) => over(1, event));
    addEventListener("dragleave", (event) => over(-1, event));
    addEventListener("dragover", (event) => over(0, event));
    addEventListener("drop", (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      depth = 0;
      $("dropping").hidden = true;
      this.add(event.dataTransfer.files);
    });
  }

  /** Send files to the server, one after the other, and show the last. */
  async add(files) {
    for (const file of [...files]) {
      try {
        const picture = await (await ask("pictures", { name: file.name || "pasted.png" }, { method: "POST", body: file })).json();
        await this.put(picture.id, picture.name);
        this.choose(picture.id);
      } catch (error) {
        this.fail(error);
      }
    }
    $("file").value = "";
  }

  /** A thumbnail in the row, unless it is there; settles once it shows the picture. */
  put(id, name) {
    if (!this.#thumbs.has(id)) this.#thumbs.set(id, this.#thumb(id, name));
    return this.#thumbs.get(id).shown;
  }

  #thumb(id, name) {
    const image = el("img", { alt: "", width: 40, height: 40 });
    const button = el("button", { type: "button", role: "radio", className: "thumb", title: name, aria: { label: name, checked: "false" }, tabIndex: -1, data: { value: id } }, image);
    $("pictures").append(button);
    this.#mark(this.shown);
    return { button, image, shown: this.#load(id, image) };
  }

  async #load(id, image) {
    try {
      image.src = URL.createObjectURL(await blob(`pictures/${id}/whole`, { side: 96 }, { lane: `.${id}` }));
    } catch (error) {
      this.fail(error);
    }
  }

  /** The address of a thumbnail, which is all of the picture; "" before it is there. */
  whole(id) {
    return this.#thumbs.get(id)?.image.src ?? "";
  }

  mark(id) {
    if (id === this.shown) return;
    this.shown = id;
    this.#mark(id);
    this.#thumbs.get(id)?.button.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  async #camera() {
    const devices = navigator.mediaDevices;
    if (!devices?.getUserMedia) return;
    const found = await devices.enumerateDevices().catch(() => []);
    $("camera").hidden = !found.some((device) => device.kind === "videoinput");
    const booth = $("booth"), video = $("video");
    $("camera").addEventListener("click", async () => {
      try {
        video.srcObject = await devices.getUserMedia({ video: { facingMode: "environment" } });
        booth.showModal();
        await video.play();
      } catch (error) {
        this.fail(new Error(`the camera: ${error.message}`));
      }
    });
    booth.addEventListener("close", () => {
      for (const track of video.srcObject?.getTracks() ?? []) track.stop();
      video.srcObject = null;
    });
    $("shoot").addEventListener("click", () => {
      const canvas = el("canvas", { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext("2d").drawImage(video, 0, 0);
      canvas.toBlob((taken) => {
        booth.close();
        this.add([new File([taken], "camera.png", { type: "image/png" })]);
      });
    });
  }
}

/** The picture `id`: what is known of it, and what the network sees, as an image that is decoded. */
export async function opened(id, signal) {
  const about = await json(`pictures/${id}`, {}, { signal });
  const image = new Image();
  image.src = URL.createObjectURL(await blob(`pictures/${id}/input`, {}, { signal }));
  await image.decode();
  return { ...about, image };
}
