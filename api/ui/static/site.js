// What the pages of the workspace need beside htmx: local times, forms sent once, drafts kept.
"use strict";

(() => {
  const UNITS = [["day", 86400], ["h", 3600], ["min", 60]];
  const LOST = "The connection is lost. This page tries again by itself.";
  const SIGNED_OUT = "You are signed out, and this page no longer follows what happens. Reload it to sign in.";
  const absolute = new Intl.DateTimeFormat(undefined, {dateStyle: "medium", timeStyle: "short"});
  const zone = new Intl.DateTimeFormat(undefined, {timeZoneName: "short"});
  const zoneOf = (time) => zone.formatToParts(time).find((part) => part.type === "timeZoneName").value;

  const ago = (seconds) => {
    for (const [unit, length] of UNITS) {
      const number = Math.floor(seconds / length);
      if (number >= 1) return `${number} ${unit}${unit === "day" && number > 1 ? "s" : ""} ago`;
    }
    return "just now";
  };

  // The server writes times in UTC; a reader sees them in the own zone, which is named.
  const showTimes = () => {
    for (const element of document.querySelectorAll("time[datetime]")) {
      const time = new Date(element.dateTime);
      const local = `${absolute.format(time)} ${zoneOf(time)}`;
      const shown = "ago" in element.dataset ? ago((Date.now() - time) / 1000) : local;
      if (element.textContent !== shown) element.textContent = shown;
      if ("ago" in element.dataset) element.title = local;
    }
  };

  const trouble = (words) => {
    const region = document.getElementById("trouble");
    region.replaceChildren();
    if (!words) return;
    const line = document.createElement("p");
    line.className = "notice bad";
    line.textContent = words;
    region.append(line);
  };

  // Longer text than the server takes is refused here, and stays in its field.
  const checkLength = (field) => {
    const most = Number(field.dataset.most), length = [...field.value].length;
    const format = (number) => number.toLocaleString("en");
    field.setCustomValidity(length > most ? `At most ${format(most)} characters; this has ${format(length)}.` : "");
  };

  const showBusy = (element) => {
    element.setAttribute("aria-busy", "true");
    element.dataset.words = element.textContent;
    if (element.dataset.busy) element.textContent = element.dataset.busy;
  };

  // A second click sends nothing; the server would make nothing twice either.
  const sendOnce = (event) => {
    const form = event.target;
    if (event.defaultPrevented) return;
    if (form.method !== "post") {
      if (event.submitter?.dataset.busy) showBusy(event.submitter);
      return;
    }
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "yes";
    const draft = form.querySelector("[data-draft]");
    if (draft) sessionStorage.setItem(SENT, nameOf(draft));
    if (event.submitter) showBusy(event.submitter);
  };

  // What is typed into a field with a data-draft stays in this tab until a form that has it was accepted: until then
  // another page, a page that could not be loaded and Back lose nothing.
  const SENT = "sent";
  const nameOf = (field) => `draft:${document.body.dataset.actor}:${field.dataset.draft}`;

  const restoreDrafts = () => {
    const fields = [...document.querySelectorAll("[data-draft]")];
    const sent = sessionStorage.getItem(SENT);
    // Sent, and it has led here, to what is not the same form again: it was accepted. Errors lead nowhere.
    const isLedHere = performance.getEntriesByType("navigation")[0].redirectCount > 0;
    if (sent && isLedHere && !fields.some((field) => nameOf(field) === sent)) sessionStorage.removeItem(sent);
    sessionStorage.removeItem(SENT);
    for (const field of fields) {
      if (field.value === field.defaultValue) field.value = sessionStorage.getItem(nameOf(field)) ?? field.value;
      if (field.dataset.most) checkLength(field);
    }
  };

  const keepDraft = (field) => {
    try {
      // NUL cannot be stored: the server takes it out of what it sends back, and it must not come back from here.
      sessionStorage.setItem(nameOf(field), field.value.replaceAll("\0", ""));
    } catch {
      // The browser has no room, or allows no storage: the text is still in its field.
    }
  };

  // Browsers do not keep what is typed into fields without suggestions, so the history's entry has it.
  const WITHOUT_SUGGESTIONS = "[id][autocomplete=off]";

  const keepTyped = (field) =>
    history.replaceState({...history.state, typed: {...history.state?.typed, [field.id]: field.value}}, "");

  const restoreTyped = () => {
    if (performance.getEntriesByType("navigation")[0].type !== "back_forward") return;
    for (const [id, text] of Object.entries(history.state?.typed ?? {})) {
      const field = document.getElementById(id);
      if (field?.matches(WITHOUT_SUGGESTIONS)) field.value = text;
    }
  };

  const pickAll = (boxes) => {
    const picked = ![...boxes].every((box) => box.checked);
    for (const box of boxes) box.checked = picked;
  };

  // Back brings what was typed, but reads the page anew, with another token: with the former one nothing is made twice.
  const keepToken = () => {
    const field = document.querySelector("[data-token]");
    if (!field) return;
    field.value = history.state?.token ?? field.value;
    history.replaceState({...history.state, token: field.value}, "");
  };

  const allowAgain = () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
    for (const button of document.querySelectorAll("[aria-busy]")) {
      button.removeAttribute("aria-busy");
      button.textContent = button.dataset.words;
    }
  };

  document.addEventListener("DOMContentLoaded", () => {
    restoreDrafts();
    restoreTyped();
    keepToken();
    showTimes();
    setInterval(showTimes, 20000);
    document.querySelector("[data-focus]")?.focus();
  });
  document.addEventListener("htmx:after:swap", showTimes);
  document.addEventListener("htmx:sse:after:connection", () => (document.body.dataset.following = "yes"));
  document.addEventListener("htmx:sse:error", (event) => {
    const signedOut = event.detail.status === 401;
    trouble(signedOut ? SIGNED_OUT : LOST);
    if (signedOut) document.getElementById("changes").remove();  // otherwise it would go on asking
  });
  document.addEventListener("htmx:error", () => trouble(LOST));
  document.addEventListener("input", (event) => {
    if (event.target.dataset.most) checkLength(event.target);
    if (event.target.dataset.draft) keepDraft(event.target);
    if (event.target.matches(WITHOUT_SUGGESTIONS)) keepTyped(event.target);
  });
  document.addEventListener("submit", sendOnce);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-busy]");
    if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) showBusy(link);
    const picker = event.target.closest("[data-pick-all]");
    if (picker) pickAll(picker.form.querySelectorAll("[name=run]"));
  });
  addEventListener("pageshow", allowAgain);
})();
