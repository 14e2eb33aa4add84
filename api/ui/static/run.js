// The text of a stage while the model writes it: pieces arrive beside the hints, and are shown as text and nothing else.
"use strict";

(() => {
  const NEAR = 40; // pixels from the end, within which a reader follows the text

  const boxOf = ({stage, attempt}) =>
    [...document.querySelectorAll("pre[data-stage]")].find(
      (each) => each.dataset.stage === stage && Number(each.dataset.attempt) === attempt);

  const show = (piece) => {
    const box = boxOf(piece);
    if (!box) return;
    const length = Number(box.dataset.length ?? piece.offset);
    const place = box.scrollTop;
    const atEnd = box.scrollHeight - place - box.clientHeight < NEAR;
    if (!piece.offset && piece.text.length > box.textContent.length) box.replaceChildren(); // all of it, from the start
    else if (piece.offset < length) return; // sent twice
    // What was written while this tab was hidden comes with the next connection, or not at all.
    if (piece.offset > length || (!box.hasChildNodes() && piece.offset)) box.append("[…] ");
    box.append(piece.text);
    box.dataset.length = piece.offset + [...piece.text].length;
    box.scrollTop = atEnd ? box.scrollHeight : place;
  };

  document.addEventListener("stage.progress", (event) => show(JSON.parse(event.detail.data)));
})();
