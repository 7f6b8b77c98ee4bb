// What pages do in the browser alone: the theme, ages that grow, copying, and the parts of charts and
// grids that are functions. What comes from a store is only ever set as text.
"use strict";
window.holdfast = (() => {
  const THEMES = ["system", "light", "dark"];
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  let theme = "system";
  try {
    theme = localStorage.getItem("holdfast-theme") || "system";
  } catch (_) {
    // A browser that keeps nothing follows the system.
  }
  const isDark = () => theme === "dark" || (theme === "system" && system.matches);

  function paint() {
    const dark = isDark();
    if (window.Quasar) window.Quasar.Dark.set(dark);
    document.documentElement.style.colorScheme = dark ? "dark" : "light";
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      const text = `Theme: ${theme}`;
      if (button.textContent !== text) button.textContent = text;
    }
    for (const element of document.querySelectorAll(".nicegui-echart")) paintChart(element);
  }

  function paintChart(element) {
    const number = Number(element.id.slice(1));
    const chart = window.getElement && window.getElement(number)?.chart;
    if (!chart) {
      if (element.isConnected) requestAnimationFrame(() => paintChart(element));
      return;
    }
    const wanted = isDark() ? "dark" : "default";
    if (element.dataset.theme === wanted) return;
    element.dataset.theme = wanted;
    chart.setTheme(wanted);
    chart.setOption({ backgroundColor: "transparent" });
  }

  // -- ages ---------------------------------------------------------------------------------

  function age(at) {
    const seconds = Date.now() / 1000 - at;
    if (seconds < 2) return "just now";
    if (seconds < 60) return `${Math.floor(seconds)} s ago`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
    if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
    const days = Math.floor(seconds / 86400);
    return days <= 60 ? `${days} d ago` : new Date(at * 1000).toISOString().slice(0, 10);
  }

  function grow() {
    for (const element of document.querySelectorAll("time[data-at]")) {
      const text = age(Number(element.dataset.at));
      // The text node itself: what draws the page knows it, and must find it again.
      const node = element.firstChild;
      if (node && node.nodeType === Node.TEXT_NODE && node.data !== text) node.data = text;
    }
  }

  // -- copying ------------------------------------------------------------------------------

  function say(text) {
    const place = document.querySelector("[data-said]");
    if (place) place.textContent = text;
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch (_) {
      // Without a secure context there is the older way only.
      const field = document.createElement("textarea");
      field.value = text;
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
    }
    say("Copied");
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) {
      copy(button.dataset.copy);
      const before = button.dataset.text || (button.dataset.text = button.textContent);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = before), 1500);
    }
    if (event.target.closest("[data-theme-switch]")) {
      theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
      try {
        localStorage.setItem("holdfast-theme", theme);
      } catch (_) {
        // It holds until the page is left.
      }
      paint();
    }
  });

  system.addEventListener("change", paint);
  window.addEventListener("storage", (event) => {
    if (event.key !== "holdfast-theme") return;
    theme = event.newValue || "system";
    paint();
  });
  new MutationObserver((changes) => {
    const added = changes.some((change) => change.addedNodes.length);
    if (added) paint();
  }).observe(document.documentElement, { childList: true, subtree: true });
  setInterval(grow, 1000);

  // -- charts -------------------------------------------------------------------------------

  function number(value) {
    if (value === null || value === undefined) return "-";
    if (typeof value !== "number") return String(value);
    if (!Number.isFinite(value)) return String(value);
    if (value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e6)) {
      return Number.isInteger(value) && Math.abs(value) > 1 ? String(value) : value.toFixed(4);
    }
    return value.toExponential(3);
  }

  // Drawn as text on the canvas (renderMode richText): nothing here becomes HTML.
  function tooltip(found) {
    const points = Array.isArray(found) ? found : [found];
    if (!points.length) return "";
    const lines = [`step ${points[0].value?.[0] ?? ""}`];
    for (const point of points) {
      if (point.data && point.data.text) lines.push(String(point.data.text).slice(0, 300));
      else lines.push(`${String(point.seriesName).slice(0, 60)}: ${number(point.value?.[1])}`);
    }
    return [...new Set(lines)].slice(0, 12).join("\n").replace(/[{}|]/g, " ");
  }

  function label(found) {
    return String(found.data?.text ?? found.name ?? "").slice(0, 300).replace(/[{}|]/g, " ");
  }

  function extend(id, added) {
    const chart = window.getElement(id)?.chart;
    if (!chart) return;
    const lines = chart.getOption().series.filter((one) => one.id in added);
    const series = lines.map((one) => ({ id: one.id, data: one.data.concat(added[one.id]) }));
    chart.setOption({ series });
  }

  return { age, copy, extend, label, number, paint, say, tooltip, cells: {} };
})();
