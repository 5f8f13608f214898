// Comfort on top of pages that work without it: pages that stay fresh, the state of the connection, keys, copying of ids.
"use strict";
(() => {
  const EVERY = 5000; // ms between two looks while the page is visible
  const KEY = "runner-live";
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const store = (action) => { try { return action(localStorage); } catch { return null; /* storage may be forbidden */ } };

  // Patching. What a person has opened, typed, ticked, selected or scrolled stays, because its elements stay.
  const keyOf = (node) => node.nodeType === 1 ? node.dataset.key || node.getAttribute("id") || "" : "";
  const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
  const KEPT = { DETAILS: ["open"], INPUT: ["value", "checked"], OPTION: ["selected"] };
  let force = false;

  // Rows under a hand do not move: a list in use whose rows differ waits until it is left, or until its button is pressed.
  const held = (list, fresh) => {
    const inUse = list.matches(":hover") || list.contains(document.activeElement) || one("details[open], input:checked", list);
    const keys = (rows) => [...rows.children].map(keyOf);
    const [old, now] = [keys(list), keys(fresh)];
    const button = one("[data-show]", list.closest(".card") || document);
    const wait = inUse && !force && old.join("\n") !== now.join("\n");
    if (button) {
      const added = now.filter((key) => !old.includes(key)).length;
      button.hidden = !wait;
      button.textContent = button.dataset.show.replace("{n}", added);
    }
    return wait;
  };

  const patch = (old, fresh) => {
    if (old.nodeType !== 1) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    if (old.hasAttribute("data-list") && held(old, fresh)) return;
    const kept = old.type === "hidden" ? [] : KEPT[old.nodeName] || [];
    for (const { name, value } of [...fresh.attributes]) {
      if (!kept.includes(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) if (!kept.includes(name) && !fresh.hasAttribute(name)) old.removeAttribute(name);
    let place = old.firstChild;
    const skip = () => { while (place && place.dataset && place.dataset.own !== undefined) place = place.nextSibling; };
    for (const next of [...fresh.childNodes]) {
      skip();
      let match = place && alike(place, next) ? place : null;
      for (let other = place; !match && other && keyOf(next); other = other.nextSibling) if (alike(other, next)) match = other;
      if (!match) old.insertBefore(document.importNode(next, true), place);
      else {
        if (match === place) place = place.nextSibling; else old.insertBefore(match, place);
        patch(match, next);
      }
    }
    while (skip(), place) { const gone = place; place = place.nextSibling; gone.remove(); }
  };

  // Relative times go on by themselves, so that a page on which nothing happened need not be sent again.
  const zh = document.documentElement.lang.startsWith("zh");
  const UNITS = zh ? ["天", "小时", "分", "秒"] : ["d", "h", "min", "s"];
  const SIZES = [86400, 3600, 60, 1];
  const span = (seconds) => {
    const at = SIZES.findIndex((size) => seconds >= size);
    const rest = at < 3 ? Math.floor(seconds % SIZES[at] / SIZES[at + 1]) : 0;
    return `${Math.floor(seconds / SIZES[at])} ${UNITS[at]}` + (rest ? ` ${String(rest).padStart(2, "0")} ${UNITS[at + 1]}` : "");
  };
  let ahead = 0; // of the server's clock, in ms
  const age = () => {
    for (const box of all("time .ago")) {
      const distance = Math.round((Date.parse(box.parentNode.dateTime) - Date.now() - ahead) / 1000);
      const text = distance === 0 ? (zh ? "刚刚" : "just now") : distance < 0
        ? span(-distance) + (zh ? "前" : " ago") : (zh ? "" : "in ") + span(distance) + (zh ? "后" : "");
      if (box.textContent !== text) box.textContent = text;
    }
  };

  // The clock at the foot of the page, in the zone that it names.
  const tick = () => {
    const box = one(".foot time");
    if (!box) return;
    const zone = box.textContent.slice(-6);
    const minutes = (zone[0] === "-" ? -1 : 1) * (60 * zone.slice(1, 3) + Number(zone.slice(4)));
    box.textContent = new Date(Date.now() + ahead + minutes * 60000).toISOString().slice(0, 19).replace("T", " ") + " " + zone;
  };

  const page = one("[data-live]");
  const control = one("[data-live-switch]");
  const banner = one("#link");
  const icon = one("link[rel=icon]");
  let tag = null;
  let title = document.title;
  let lastAnswer = Date.now();
  let on = store((kept) => kept.getItem(KEY)) !== "off";

  const trouble = (kind, value) => {
    const says = kind ? banner.dataset[kind].replace("{x}", value) : "";
    if (one("span", banner).textContent !== says) one("span", banner).textContent = says;
    banner.hidden = !kind;
    control.classList.toggle("away", Boolean(kind));
    control.textContent = !on ? control.dataset.off : kind ? control.dataset.lost : control.dataset.on;
    document.title = (kind ? "⚠ " : "") + title;
    icon.href = icon.href.replace(/mark(-bad)?\.svg/, kind || icon.dataset.bad === "1" ? "mark-bad.svg" : "mark.svg");
  };

  const refresh = async () => {
    const headers = { accept: "text/html" };
    if (tag) headers["if-none-match"] = tag;
    let answer;
    try {
      answer = await fetch(location.href, { headers, cache: "no-store", redirect: "manual", signal: AbortSignal.timeout(EVERY * 2) });
    } catch {
      const clock = new Date(lastAnswer).toLocaleTimeString(document.documentElement.lang, { hour12: false });
      trouble("away", clock);
      return false;
    }
    lastAnswer = Date.now();
    // A login page took the place of this one.
    if (answer.type === "opaqueredirect" || answer.status === 401) { trouble("ended"); return false; }
    if (answer.status !== 304 && !answer.ok) { trouble("failed", answer.status); return false; }
    if (answer.status !== 304) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const next = one("[data-live]", fresh);
      if (!next) { trouble("ended"); return false; }
      tag = answer.headers.get("etag");
      title = fresh.title;
      icon.dataset.bad = one("link[rel=icon]", fresh).dataset.bad;
      // A list that waits is not up to date yet.
      patch(page, next);
      if (one("[data-show]:not([hidden])")) tag = null;
      const foot = one(".foot");
      if (foot) patch(foot, one(".foot", fresh));
    }
    trouble("");
    tick();
    return true;
  };

  if (page && control && banner) {
    let failures = 0;
    let timer = 0;
    const label = () => {
      control.textContent = on ? control.dataset.on : control.dataset.off;
      control.setAttribute("aria-pressed", String(on));
    };
    const now = one(".foot time");
    if (now) ahead = Date.parse(now.dateTime) - Date.now();
    const turn = async () => {
      clearTimeout(timer);
      if (on && document.visibilityState === "visible") {
        failures = await refresh() ? 0 : Math.min(failures + 1, 6);
        age();
        force = false;
      }
      // A server that is gone is asked less and less often, up to every half minute or so.
      timer = setTimeout(turn, EVERY * (1 + failures));
    };
    control.hidden = false;
    label();
    control.addEventListener("click", () => {
      on = !on;
      store((kept) => kept.setItem(KEY, on ? "on" : "off"));
      label();
      if (on) turn(); else trouble("");
    });
    document.addEventListener("click", (event) => {
      if (!event.target.matches("[data-show]")) return;
      force = true;
      tag = null;
      turn();
    });
    document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") turn(); });
    timer = setTimeout(turn, EVERY);
  }

  for (const box of all("[data-copy]")) {
    if (!navigator.clipboard) break;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.dataset.own = "";
    button.textContent = box.dataset.copy;
    button.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText(box.textContent); button.textContent = "✓"; } catch { /* refused by the browser */ }
      setTimeout(() => { button.textContent = box.dataset.copy; }, 1500);
    });
    box.after(button);
  }

  const open = () => all("details.prefs[open], details.sure[open]");
  let gone = false;
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      for (const details of open()) { details.open = false; one("summary", details).focus(); }
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
    const key = event.key;
    const went = gone && one(`[data-go="${key}"]`);
    gone = key === "g";
    if (went) went.click();
    else if (key === "/" && one("#find")) { event.preventDefault(); one("#find").focus(); }
    else if (key === "?" && one("#keys")) one("#keys").showModal();
    else if (key === "j" || key === "k") {
      const rows = all("tbody th[scope=row] a");
      const at = rows.findIndex((link) => link.closest("tr").contains(document.activeElement));
      const next = rows[Math.max(0, at + (key === "j" ? 1 : -1))];
      if (next) next.focus();
    } else if (key === "x") {
      const row = document.activeElement.closest("tr");
      const tick = row && one("input[type=checkbox]", row);
      if (tick) tick.checked = !tick.checked;
    }
  });
  document.addEventListener("click", (event) => {
    for (const details of open()) if (!details.contains(event.target)) details.open = false;
  });

  // What a form would do, shown while it is typed; its button shows the same.
  const form = one("[data-look]");
  if (form) {
    let wait = 0;
    let turn = 0;
    form.addEventListener("input", () => {
      clearTimeout(wait);
      wait = setTimeout(async () => {
        const mine = ++turn;
        const body = new URLSearchParams(new FormData(form));
        body.set("do", "look");
        try {
          const answer = await fetch(form.getAttribute("action"), { method: "POST", body, signal: AbortSignal.timeout(EVERY) });
          const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
          if (mine !== turn || !answer.ok) return;
          for (const box of all("[data-part]")) patch(box, one("#" + box.id, fresh));
        } catch { /* no answer: the button is there */ }
      }, 300);
    });
  }

  const notice = one("[data-notice]");
  if (notice) notice.focus({ preventScroll: location.hash !== "" });
})();
