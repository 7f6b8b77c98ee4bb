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

  // -- the API ------------------------------------------------------------------------------

  const root = () => (window.path_prefix || "/ui").replace(/\/ui$/, "") + "/api/v1";

  async function act(method, path, body) {
    try {
      const answer = await fetch(root() + path, {
        method,
        credentials: "same-origin",
        headers: body === null ? {} : { "Content-Type": "application/json" },
        body: body === null ? undefined : JSON.stringify(body),
      });
      if (answer.ok) return { ok: true, text: "" };
      const said = (await answer.json().catch(() => ({}))).error || {};
      const hint = said.hint ? ` (${said.hint})` : "";
      return { ok: false, text: (said.message || `the server answered ${answer.status}`) + hint };
    } catch (error) {
      return { ok: false, text: `the server does not answer: ${error.message}` };
    }
  }

  // -- grids: rows come from the API as they are scrolled to -----------------------------------

  function rows(asked) {
    return {
      async getRows(params) {
        const query = new URLSearchParams({ start: params.startRow, end: params.endRow });
        const { run, where, metrics } = params.context;
        query.set("run", run);
        if (where) query.set("where", where);
        const sorted = params.sortModel[0];
        if (sorted) {
          const metric = /^metric-(\d+)$/.exec(sorted.colId);
          const field = metric ? "`" + metrics[Number(metric[1])] + "`" : sorted.colId;
          query.set("order_by", (sorted.sort === "desc" ? "-" : "") + field);
        }
        try {
          const answer = await fetch(`${root()}/checkpoints?${query}`, { credentials: "same-origin" });
          if (!answer.ok) throw new Error((await answer.json()).error?.message);
          const found = await answer.json();
          params.successCallback(found.items, found.total);
        } catch (error) {
          params.failCallback();
          say(`The checkpoints cannot be listed: ${error.message}`);
        }
      },
    };
  }

  function bytes(value) {
    if (value === undefined || value === null) return "";
    let left = value;
    for (const unit of ["B", "kB", "MB", "GB"]) {
      if (Math.abs(left) < 1000) return unit === "B" ? `${left} B`.replace(" ", "") : left.toFixed(1) + unit;
      left /= 1000;
    }
    return left.toFixed(1) + "TB";
  }

  function element(tag, text, attributes) {
    const made = document.createElement(tag);
    made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  }

  const cells = {
    key: (params) => params.data.id,
    metric: (params) => params.data?.metrics?.[params.colDef.context.metric],
    number: (params) => (params.data ? number(params.value) : ""),
    bytes: (params) => bytes(params.value),
    state: (params) => {
      const one = params.data;
      if (!one) return "";
      const words = [one.damaged && "damaged", one.thinned ? "thinned" : "kept", one.pinned && "pinned"];
      return words.filter(Boolean).join(", ");
    },
    tags: (params) => (params.data?.tags || []).join(", "),
    age: (params) => {
      if (!params.data) return "";
      const at = params.data.created_at;
      const title = new Date(at * 1000).toISOString().slice(0, 19).replace("T", " ") + " UTC";
      return element("time", age(at), { "data-at": at, title });
    },
    open: (params) =>
      params.data
        ? element("button", String(params.data.step), {
            type: "button",
            class: "hf-copy hf-grid-cell",
            "data-open": params.data.id,
            "aria-label": `Open the checkpoint of step ${params.data.step}`,
          })
        : "",
    load: (params) =>
      params.data
        ? element("button", "Copy", {
            type: "button",
            class: "hf-copy hf-grid-cell",
            "data-copy": params.context.load.replaceAll("ID", params.data.id),
            "aria-label": `Copy the line that loads step ${params.data.step}`,
          })
        : "",
    // Tab goes to what can be pressed, as everywhere else on the page; arrows go from cell to cell.
    tab: (params) => params.event.key === "Tab",
  };

  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-open]");
    if (opener) window.emitEvent("open-checkpoint", opener.dataset.open);
  });

  return { act, age, cells, copy, extend, label, number, paint, rows, say, tooltip };
})();
