// The keys of the review page: each goes to what is marked with it, and decides nothing by itself.
"use strict";

(() => {
  const OFF = "keys-off";
  const TYPING = "input, textarea, select, [contenteditable]";

  const go = (key) => {
    const target = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (!target) return false;
    if (target.tagName === "SUMMARY") {
      target.parentElement.open = true;
      target.parentElement.querySelector("textarea").focus();
    } else if (target.tagName === "A") {
      target.click();
    } else {
      target.focus();
      target.scrollIntoView({block: "center"});
    }
    return true;
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest(TYPING)) return;
    if (localStorage.getItem(OFF)) return;
    if (event.key === "?") document.getElementById("keys").showPopover();
    else if (event.key.length !== 1 || !go(event.key)) return;
    event.preventDefault();
  });

  addEventListener("DOMContentLoaded", () => {
    const box = document.getElementById("single-keys");
    box.checked = !localStorage.getItem(OFF);
    box.addEventListener("change", () => (box.checked ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, "yes")));
    const text = document.getElementById("content"), feedback = document.getElementById("feedback");
    if (!text) return;
    const approve = document.querySelector("button[value=approve]");
    const written = "edited" in text.dataset ? null : text.defaultValue;
    const say = (id, words) => (document.getElementById(id).textContent = words);
    // Each of the two forms leaves out what was typed into the other one.
    const name = () => {
      const isEdited = text.value !== written;
      approve.textContent = isEdited ? "Approve with your edit" : "Approve";
      say("not-edited", isEdited ? "Your edit is not sent: the model gets the draft without it." : "");
      say("not-asked", feedback.value.trim() ? "What should change is not sent with an approval." : "");
    };
    text.addEventListener("input", name);
    feedback.addEventListener("input", name);
    name();
    if (text.value !== written) document.getElementById("edit").open = true;
  });
})();
