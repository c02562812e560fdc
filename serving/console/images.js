// Where images come from: files, drops, the clipboard, examples.

import { byId, element } from "./dom.js";
import { words } from "./format.js";

// Test images of CIFAR-100, named for their true class; see the README's licence note.
const EXAMPLES = ["sunflower-few", "cup-many", "shrew-few", "dinosaur-many", "snake-few", "road-medium", "plate-medium", "bee-many"];

/** Call `take` with images {name, blob, truth} whenever the user gives some, `refuse` with a sentence. */
export function offerImages(take, refuse) {
  const takeFiles = (files) => {
    const images = [...files].map((blob) => ({ name: blob.name || "pasted image", blob, truth: null }));
    if (images.length) take(images);
  };
  byId("files").addEventListener("change", (event) => {
    takeFiles(event.target.files);
    event.target.value = ""; // so that the same file can be chosen again
  });
  offerDrops(takeFiles, refuse);
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) takeFiles(event.clipboardData.files);
  });
  byId("examples").append(...EXAMPLES.map((name) => exampleButton(name, take, refuse)));
}

function offerDrops(takeFiles, refuse) {
  const zone = byId("drop");
  let depth = 0; // entering a child comes before leaving its parent
  const mark = (change) => {
    depth = change ? Math.max(0, depth + change) : 0;
    zone.classList.toggle("over", depth > 0);
  };
  document.addEventListener("dragenter", () => mark(1));
  document.addEventListener("dragleave", () => mark(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    mark(0);
    if (event.dataTransfer.files.length) takeFiles(event.dataTransfer.files);
    else refuse("That was no file. Save the image first, then drop the file here.");
  });
}

function exampleButton(name, take, refuse) {
  const truth = name.slice(0, name.lastIndexOf("-"));
  const address = `console/examples/${name}.png`;
  const picture = element("img", { src: address, alt: "", width: 48, height: 48, class: "pixels" });
  const button = element("button", { type: "button", "aria-label": `Example: ${words(truth)}`, title: words(truth) }, picture);
  button.addEventListener("click", async () => {
    try {
      const blob = await (await fetch(address)).blob();
      take([{ name: `${name}.png`, blob, truth }]);
    } catch {
      refuse("The example can't be fetched: the server can't be reached.");
    }
  });
  return button;
}
