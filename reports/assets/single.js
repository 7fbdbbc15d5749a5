"use strict";
// A report in one file: shows the page that the address names after "?", from the texts that lie in this document.
(() => {
  const START = "index.html", ROOT = "file:///";
  const kept = new Map([...document.querySelectorAll("script[data-file]")].map((s) => [s.dataset.file, s]));
  const read = (name) => JSON.parse(kept.get(name).textContent);
  const asked = decodeURIComponent(location.search.slice(1));
  const page = kept.has(asked) && asked.endsWith(".html") ? asked : START;

  // Where an address of the shown page leads: a file of the report and a place in it; null for anything else.
  function target(address) {
    const url = new URL(address, ROOT + page), name = decodeURIComponent(url.pathname.slice(1));
    return url.protocol === "file:" && kept.has(name) ? { name, place: url.hash } : null;
  }

  // Pictures are named in attributes and in data: each is put there as what it is.
  const pictured = (text) => text.replace(/(?:\.\.\/)*assets\/pictures\/([\w.-]+)/g, (whole, name) => (kept.has(`assets/pictures/${name}`) ? read(`assets/pictures/${name}`) : whole));

  function lead(link) {
    const address = link.getAttribute("href");
    if (!address || /^[?#]/.test(address)) return;
    const found = target(address);
    if (found) link.setAttribute("href", found.name === page ? found.place || "#" : `?${found.name}${found.place}`);
  }

  function run(text, type) {
    const script = document.createElement("script");
    if (type) script.type = type;
    script.textContent = text;
    document.body.append(script);
    return script;
  }

  // What a page's script asks for later (harness.load).
  globalThis.harnessFile = (address) => {
    const found = target(address);
    if (found) run(pictured(read(found.name))).remove();
    return Promise.resolve();
  };

  const shown = new DOMParser().parseFromString(pictured(read(page)), "text/html");
  document.title = shown.title;
  document.documentElement.classList.add("scripted");
  for (const style of shown.querySelectorAll("link[rel=stylesheet]")) {
    const made = document.createElement("style");
    made.textContent = read(target(style.getAttribute("href")).name);
    document.head.append(made);
  }
  const scripts = [...shown.querySelectorAll("script")].filter((s) => s.type || s.hasAttribute("src"));
  const order = (s) => (s.type ? 0 : s.defer ? 2 : 1); // data first, then as a browser runs them
  shown.querySelectorAll("script, noscript").forEach((s) => s.remove());
  shown.querySelectorAll("a[href]").forEach(lead);
  document.querySelector("noscript")?.remove();
  document.body.prepend(...shown.body.childNodes);
  // Links that a script makes or changes.
  const links = (node) => (node.matches?.("a[href]") ? [node] : [...(node.querySelectorAll?.("a[href]") ?? [])]);
  new MutationObserver((changes) => changes.forEach((c) => (c.type === "attributes" ? [c.target] : [...c.addedNodes]).flatMap(links).forEach(lead)))
    .observe(document.body, { subtree: true, childList: true, attributeFilter: ["href"] });
  for (const s of scripts.sort((a, b) => order(a) - order(b))) {
    if (s.type) Object.assign(Object.assign(run(s.textContent, s.type), { id: s.id }).dataset, s.dataset);
    else run(read(target(s.getAttribute("src")).name));
  }
  if (location.hash && !location.hash.includes("=")) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
})();
