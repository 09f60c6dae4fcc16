// Waymark's pages work without this file; it adds live updates, the chart, copying and colours that change at once.
(function () {
  "use strict";
  const root = document.documentElement;

  function announce(text) {
    const el = document.getElementById("announce");
    if (el) { el.textContent = ""; setTimeout(function () { el.textContent = text; }, 50); }
  }

  // Colours: the cookie is what the server reads on the next page.
  document.addEventListener("submit", function (e) {
    const form = e.target;
    if (!form.hasAttribute || !form.hasAttribute("data-theme-form") || !e.submitter) return;
    e.preventDefault();
    const theme = e.submitter.value;
    document.cookie = "waymark_theme=" + theme + "; path=/; max-age=31536000; samesite=lax" + (location.protocol === "https:" ? "; secure" : "");
    root.setAttribute("data-theme", theme);
    const other = form.querySelector(theme === "dark" ? ".theme-to-light" : ".theme-to-dark");
    if (other) other.focus();
    drawChart();
  });

  // Copying.
  function copied(button) {
    const label = button.querySelector(".copy-text");
    button.classList.add("is-done");
    if (label) label.textContent = "Copied";
    announce("Link copied");
    clearTimeout(button.timer);
    button.timer = setTimeout(function () {
      button.classList.remove("is-done");
      if (label) label.textContent = "Copy";
    }, 1600);
  }
  function copyByHand(text) {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "sr";
    document.body.appendChild(area);
    area.select();
    const ok = document.execCommand("copy");
    area.remove();
    return ok;
  }
  document.addEventListener("click", function (e) {
    const button = e.target.closest && e.target.closest("[data-copy]");
    if (button) {
      const text = button.getAttribute("data-copy");
      const byHand = function () { if (copyByHand(text)) { button.focus(); copied(button); } };
      if (navigator.clipboard) navigator.clipboard.writeText(text).then(function () { copied(button); }, byHand);
      else byHand();
    }
    document.querySelectorAll("details.menu[open]").forEach(function (menu) {
      if (!menu.contains(e.target)) menu.removeAttribute("open");
    });
  });
  document.addEventListener("keydown", function (e) {
    if (e.key !== "Escape") return;
    document.querySelectorAll("details.menu[open]").forEach(function (menu) {
      const inside = menu.contains(document.activeElement);
      menu.removeAttribute("open");
      if (inside) menu.querySelector("summary").focus();
    });
    document.querySelectorAll(".figure").forEach(function (f) { if (f.matches(":hover, :focus")) f.classList.add("is-dismissed"); });
  });
  document.addEventListener("focusout", function (e) { if (e.target.classList && e.target.classList.contains("figure")) e.target.classList.remove("is-dismissed"); });
  document.addEventListener("mouseout", function (e) {
    const f = e.target.closest && e.target.closest(".figure");
    if (f && !f.contains(e.relatedTarget)) f.classList.remove("is-dismissed");
  });

  // The chart.
  let plot = null, tip = null;
  function series(el) {
    const numbers = function (name) { return el.getAttribute(name).split(",").map(Number); };
    const unique = numbers("data-unique");
    const day = el.getAttribute("data-start").split("-").map(Number);
    const days = unique.map(function (_, i) { return Date.UTC(day[0], day[1] - 1, day[2] + i) / 1000; });
    return [days, unique, numbers("data-gross")];
  }
  const months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" "), weekdays = "Sun Mon Tue Wed Thu Fri Sat".split(" ");
  function formatDay(t) {
    const d = new Date(t * 1000);
    return d.getUTCDate() + " " + months[d.getUTCMonth()];
  }
  function showTip(u) {
    const i = u.cursor.idx;
    if (i == null || u.cursor.left < 0) { tip.hidden = true; return; }
    const day = document.createElement("strong");
    day.textContent = weekdays[new Date(u.data[0][i] * 1000).getUTCDay()] + " " + formatDay(u.data[0][i]);
    tip.replaceChildren(day, u.data[1][i].toLocaleString("en-US") + " unique, " + u.data[2][i].toLocaleString("en-US") + " gross");
    tip.hidden = false;
    const x = u.cursor.left + u.bbox.left / devicePixelRatio;
    const width = tip.offsetWidth;
    tip.style.left = (x + 14 + width > u.root.offsetWidth ? x - width - 14 : x + 14) + "px";
  }
  function drawChart() {
    const el = document.getElementById("chart");
    if (plot) { plot.destroy(); plot = null; }
    if (!el || !window.uPlot) return;
    const probe = document.createElement("i");
    el.appendChild(probe);
    const color = function (name) { probe.style.color = "var(" + name + ")"; return getComputedStyle(probe).color; };
    const accent = color("--accent"), gross = color("--gross"), ink = color("--ink-3"), line = color("--line");
    const soft = accent.replace(/^rgb\((.*)\)$/, "rgba($1, 0.1)");
    probe.remove();
    const holder = el.querySelector(".chart-plot");
    const font = "12px Inter, system-ui, sans-serif";
    plot = new uPlot({
      width: holder.clientWidth, height: holder.clientHeight, padding: [8, 22, 0, 0],
      tzDate: function (t) { return uPlot.tzDate(new Date(t * 1000), "UTC"); },
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
      scales: { y: { range: function (u, min, max) { return [0, Math.max(4, max * 1.08)]; } } },
      axes: [
        { stroke: ink, font: font, grid: { show: false }, ticks: { show: false }, size: 28, space: 60, values: function (u, ts) { return ts.map(function (t) { return formatDay(t); }); } },
        { stroke: ink, font: font, grid: { stroke: line, width: 1 }, ticks: { show: false }, size: 44, space: 44, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6, 1e7, 1e8], values: function (u, vs) { return vs.map(function (v) { return v >= 1e4 ? v / 1e3 + "k" : v.toLocaleString("en-US"); }); } }
      ],
      series: [{}, { stroke: accent, fill: soft, width: 2, points: { show: false } }, { stroke: gross, width: 1.5, points: { show: false } }],
      hooks: { setCursor: [showTip] }
    }, series(el), holder);
    tip = document.createElement("div");
    tip.className = "chart-tip";
    tip.hidden = true;
    plot.root.appendChild(tip);
    el.classList.add("is-drawn");
  }
  let resizing = 0;
  addEventListener("resize", function () {
    clearTimeout(resizing);
    resizing = setTimeout(function () {
      const holder = document.querySelector(".chart-plot");
      if (plot && holder) plot.setSize({ width: holder.clientWidth, height: holder.clientHeight });
    }, 60);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawChart);

  // Live updates: the server sends the parts of the page that changed, drawn by the same templates.
  function apply(html) {
    const incoming = new DOMParser().parseFromString(html, "text/html");
    incoming.querySelectorAll("[data-live]").forEach(function (part) {
      const here = document.getElementById(part.id);
      if (!here) return;
      const state = part.getAttribute("data-state");
      if (state !== null) here.setAttribute("data-state", state);
      if (here.innerHTML === part.innerHTML) return;
      here.replaceChildren.apply(here, Array.from(part.childNodes));
      if (part.id !== "asof" && part.id !== "down") {
        here.classList.remove("is-new");
        void here.offsetWidth;
        here.classList.add("is-new");
      }
    });
    const chart = incoming.getElementById("chart"), here = document.getElementById("chart");
    if (chart && here) {
      let changed = false;
      ["data-start", "data-unique", "data-gross"].forEach(function (name) {
        if (here.getAttribute(name) !== chart.getAttribute(name)) { here.setAttribute(name, chart.getAttribute(name)); changed = true; }
      });
      if (changed && plot) plot.setData(series(here));
    }
  }
  let source = null;
  function listen() {
    const address = document.body.getAttribute("data-live-source");
    if (!address || !window.EventSource) return;
    const mine = new EventSource(address);
    source = mine;
    mine.addEventListener("page", function (e) { apply(e.data); });
    mine.addEventListener("gone", function () { mine.close(); location.reload(); });
    mine.onerror = function () {
      const box = document.getElementById("asof");
      if (box && box.getAttribute("data-state") === "live") box.setAttribute("data-state", "offline");
      if (mine.readyState === EventSource.CLOSED) setTimeout(function () { if (source === mine) listen(); }, 5000);
    };
  }
  // A page that nobody looks at needs no updates; it catches up when it is looked at again.
  document.addEventListener("visibilitychange", function () {
    if (document.hidden) { if (source) source.close(); source = null; }
    else if (!source) listen();
  });
  addEventListener("pagehide", function () { if (source) source.close(); });
  addEventListener("pageshow", function (e) { if (e.persisted) listen(); });

  // After htmx has put in a new part of the page, the eye and the keyboard go where the answer is.
  document.addEventListener("htmx:afterSwap", function () {
    const target = document.querySelector("#main [data-focus]");
    if (target) target.focus();
  });
  document.addEventListener("htmx:responseError", function () { announce("That did not work. Please try again."); });
  document.addEventListener("htmx:sendError", function () { announce("The server cannot be reached. Please try again."); });

  function start() { drawChart(); listen(); }
  if (document.readyState === "complete") start();
  else addEventListener("load", start);
})();
