// Comfort on top of pages that work without it: live regions, copying ids, focus on notices.
"use strict";
(() => {
  const EVERY = 5000; // ms between two looks while the page is visible
  const KEY = "runner-live";
  const regions = () => [...document.querySelectorAll("[data-live]")];

  // A region in use is not replaced.
  const busy = (region) => {
    const selection = document.getSelection();
    return region.contains(document.activeElement) && document.activeElement !== region
      || region.querySelector("details[open] .act, details.sure[open]") !== null
      || region.contains(document.querySelector(":hover:is(button, a, summary)"))
      || (selection && !selection.isCollapsed && region.contains(selection.anchorNode));
  };

  const refresh = async () => {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "error", signal: AbortSignal.timeout(EVERY * 3) });
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const region of regions()) {
      const next = region.id && fresh.getElementById(region.id);
      if (!next || busy(region) || next.innerHTML === region.innerHTML) continue;
      const scrolled = [...region.querySelectorAll(".scroll, .code")].map((box) => [box.scrollLeft, box.scrollTop]);
      region.replaceChildren(...document.adoptNode(next).childNodes);
      region.querySelectorAll(".scroll, .code").forEach((box, n) => { [box.scrollLeft, box.scrollTop] = scrolled[n] || [0, 0]; });
    }
  };

  const control = document.querySelector("[data-live-switch]");
  if (control && regions().length > 0) {
    let on = true;
    try { on = localStorage.getItem(KEY) !== "off"; } catch { /* storage may be forbidden; live is the default */ }
    let failures = 0;
    const label = () => {
      control.textContent = on ? control.dataset.on : control.dataset.off;
      control.setAttribute("aria-pressed", String(on));
    };
    control.hidden = false;
    label();
    control.addEventListener("click", () => {
      on = !on;
      failures = 0;
      try { localStorage.setItem(KEY, on ? "on" : "off"); } catch { /* as above */ }
      label();
    });
    const turn = async () => {
      if (on && document.visibilityState === "visible") {
        try { await refresh(); failures = 0; } catch { failures = Math.min(failures + 1, 6); }
      }
      // A server that is gone is asked less and less often, up to every minute or so.
      setTimeout(turn, EVERY * (1 + 2 * failures));
    };
    setTimeout(turn, EVERY);
  }

  for (const box of document.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) break;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = box.dataset.copy;
    button.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText(box.textContent); button.textContent = "✓"; } catch { /* refused by the browser */ }
      setTimeout(() => { button.textContent = box.dataset.copy; }, 1500);
    });
    box.after(button);
  }

  const open = () => document.querySelectorAll("details.prefs[open], details.sure[open]");
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const details of open()) { details.open = false; details.querySelector("summary").focus(); }
  });
  document.addEventListener("click", (event) => {
    for (const details of open()) if (!details.contains(event.target)) details.open = false;
  });

  const notice = document.querySelector("[data-notice]");
  if (notice) notice.focus();
})();
