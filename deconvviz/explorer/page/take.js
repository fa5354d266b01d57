/** What can be taken along: the exact call, files, a link. */

import { $, quiet } from "./dom.js";
import { Newest, ask, json } from "./api.js";

export class Take {
  #question = null;
  #newest;

  /** `said(text)` tells what was done, `fail(error)` what went wrong. */
  constructor({ said, fail }) {
    this.said = said;
    this.fail = fail;
    this.#newest = new Newest(async ({ picture, values }, signal) => {
      const call = await json(`pictures/${picture}/call`, values, { signal });
      $("python").textContent = call.python;
      $("command").textContent = call.command ?? call.why ?? "No command makes this.";
      for (const button of document.querySelectorAll("[data-copy=command]")) button.hidden = !call.command;
    }, fail);
    this.soon = quiet(() => this.#question && this.#newest.want(this.#question), 300);
    for (const button of document.querySelectorAll("[data-copy]")) {
      button.addEventListener("click", () => this.copy($(button.dataset.copy).textContent, button, `The ${button.dataset.copy === "python" ? "Python" : "command"} is copied.`));
    }
    for (const button of document.querySelectorAll("[data-file]")) button.addEventListener("click", () => this.#download(button));
  }

  /** What is seen now, as the server wants it said. */
  show(picture, values) {
    this.#question = { picture, values };
    this.soon();
  }

  async copy(text, button, done) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      return this.fail(new Error("the browser does not let this page copy: select the text instead"));
    }
    button.classList.add("done");
    setTimeout(() => button.classList.remove("done"), 1500);
    this.said(done);
  }

  async #download(button) {
    if (!this.#question) return;
    button.disabled = true;
    try {
      const { picture, values } = this.#question, format = button.dataset.file;
      const response = await ask(`pictures/${picture}/file`, { ...values, format });
      const given = /filename\*?=(?:UTF-8'')?"?([^";]+)/i.exec(response.headers.get("Content-Disposition") ?? "")?.[1];
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await response.blob());
      link.download = given ? decoded(given) : `explore.${format}`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
      this.said(`${link.download} is downloaded.`);
    } catch (error) {
      this.fail(error);
    } finally {
      button.disabled = false;
    }
  }
}

function decoded(name) {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}
