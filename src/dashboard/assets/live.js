// Keeps a page as it is now: one stream of events for the page, closed while nobody sees it.
//
// Each event brings the content of the page anew. Where only values have changed, only these are
// written, so that nothing jumps and nothing loses the focus. Where rows have come or gone, the
// part with them is replaced, unless somebody is about to use it.
"use strict";

(() => {
  const address = document.body.dataset.live;
  const says = document.getElementById("live");
  const token = document.querySelector('meta[name="callboard-token"]').content;
  if (!address || !window.EventSource) {
    return;
  }

  let source = null;

  const say = (words, state) => {
    if (says.textContent !== words) {
      says.textContent = words;
    }
    says.className = state;
  };

  // The values of a part, by their names; the names tell which rows there are.
  const values = (part) => {
    const all = new Map();
    for (const value of part.querySelectorAll("[data-live]")) {
      all.set(value.dataset.live, value);
    }
    return all;
  };

  const sameRows = (one, other) =>
    one.size === other.size && [...one.keys()].every((name) => other.has(name));

  const update = (part, fresh) => {
    const now = values(part);
    const next = values(fresh);
    const keeps = part.dataset.part !== "whole" && sameRows(now, next);
    if (keeps) {
      for (const [name, value] of now) {
        const other = next.get(name);
        if (value.innerHTML !== other.innerHTML) {
          value.innerHTML = other.innerHTML;
        }
        if (value.className !== other.className) {
          value.className = other.className;
        }
      }
    } else if (!part.contains(document.activeElement) && part.innerHTML !== fresh.innerHTML) {
      part.innerHTML = fresh.innerHTML;
    }
    for (const input of part.querySelectorAll('input[name="token"]')) {
      input.value = token;
    }
  };

  const show = (event) => {
    const { title, html } = JSON.parse(event.data);
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    document.title = title;
    for (const part of document.querySelectorAll("[data-part]")) {
      const other = fresh.content.getElementById(part.id);
      if (other) {
        update(part, other);
      }
    }
    say("live", "on");
  };

  const close = () => {
    if (source) {
      source.close();
      source = null;
    }
  };

  const open = () => {
    close();
    source = new EventSource(address);
    source.onmessage = show;
    // The browser tries again by itself, unless it was refused.
    source.onerror = () =>
      say(
        source && source.readyState === EventSource.CLOSED
          ? "not live: reload the page"
          : "not live: the server cannot be reached",
        "off"
      );
  };

  const look = () => {
    if (document.hidden) {
      close();
      say("paused while nobody looks", "off");
    } else {
      say("connecting", "off");
      open();
    }
  };

  document.addEventListener("visibilitychange", look);
  // A page that the browser keeps for the way back must hold no connection.
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", (event) => event.persisted && look());
  look();
})();
