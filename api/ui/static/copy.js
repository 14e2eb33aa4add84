// A button that copies the source of a document, where the browser allows that.
"use strict";

addEventListener("DOMContentLoaded", () => {
  const button = document.querySelector("[data-copy]");
  if (!button || !navigator.clipboard) return;
  const say = (words) => (document.getElementById("copied").textContent = words);
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      const answer = await fetch(document.getElementById(button.dataset.copy).href);
      if (!answer.ok) throw new Error(answer.statusText);
      await navigator.clipboard.writeText(await answer.text());
      say("Copied");
    } catch {
      say("It could not be copied: download it instead");
    }
  });
});
