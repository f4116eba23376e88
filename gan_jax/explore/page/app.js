// Starts the page: asks what there is to explore, and shows images or points.

import { FolderBackend, ServerBackend } from "./backend.js";
import { imagePage } from "./images.js";
import { pointPage } from "./points.js";

const root = document.getElementById("page");
const message = document.getElementById("message");

/** Shows a line at the foot of the page; an empty text hides it. */
function say(text) {
  message.textContent = text;
}

async function start() {
  const response = await fetch("explore.json");
  if (!response.ok) throw new Error(`explore.json: ${response.status}`);
  const description = await response.json();
  const backend = description.served ? new ServerBackend() : new FolderBackend(description);
  document.title = `${description.name} - explore`;
  const page = description.kind === "images" ? imagePage : pointPage;
  await page(root, backend, description, say);
  document.documentElement.dataset.ready = "true";
}

start().catch((error) => {
  root.replaceChildren();
  say(`The page cannot be shown: ${error.message}`);
  console.error(error);
});
