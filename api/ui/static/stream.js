// Which windows have a stream: a browser has six connections to a host, for all its windows and their pages together.
// At most four windows that are seen hold a stream, each with a lock. The others hear from them that something has
// changed, and take over the next lock that is free.
"use strict";

(() => {
  const LOCKS = ["stream 1", "stream 2", "stream 3", "stream 4"];
  const stream = document.getElementById("changes");
  const channel = new BroadcastChannel("changes");
  let seen = null; // is aborted when this window is out of sight
  let holds = false, isOpen = false;

  const open = () => holds && !isOpen && htmx.trigger(stream, "shown");

  const hold = (signal) => (lock) => {
    if (!lock || signal.aborted) return null;
    holds = true;
    open();
    return new Promise((end) => signal.addEventListener("abort", end));
  };

  const leave = () => {
    seen?.abort();
    holds = false;
  };

  const follow = async () => {
    leave();
    if (document.hidden || !stream.isConnected) return;
    const {signal} = (seen = new AbortController());
    if (!navigator.locks) return void hold(signal)("none");
    for (const lock of LOCKS) {
      await navigator.locks.request(lock, {ifAvailable: true}, hold(signal));
      if (signal.aborted) return;
    }
    document.body.dataset.following = "yes";
    htmx.trigger(stream, "change"); // it may have missed some
    const next = LOCKS[Math.floor(Math.random() * LOCKS.length)];
    navigator.locks.request(next, {signal}, hold(signal)).catch(() => {});
  };

  channel.addEventListener("message", () => {
    if (!holds && !document.hidden) htmx.trigger(stream, "change");
  });
  stream.addEventListener("change", () => holds && channel.postMessage(""));
  stream.addEventListener("htmx:sse:before:connection", (event) => {
    if (holds) isOpen = true;
    else event.preventDefault();
  });
  stream.addEventListener("htmx:sse:close", () => (isOpen = false));
  stream.addEventListener("htmx:sse:error", (event) => event.detail.status === 401 && leave());
  // One that could not be opened is tried again; one that broke off reconnects by itself.
  stream.addEventListener("htmx:finally:request", (event) => {
    if (event.detail.ctx.response?.status === 401) leave();
    if (!isOpen) setTimeout(open, 1000 + 2000 * Math.random());
  });
  document.addEventListener("DOMContentLoaded", follow);
  document.addEventListener("visibilitychange", follow);
})();
