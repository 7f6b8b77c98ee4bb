// What is asked of every page, in the page: only the browser knows what is seen and how.
({
  // Elements that can be used, or are places, and have no name.
  unnamed() {
    const found = [];
    const wanted =
      "a[href], button, input, select, textarea, [role=button], [role=slider], [role=img], " +
      "[role=region], section, nav, [role=progressbar]";
    // What stands in a place does not name it.
    const unread = "input, section, nav, [role=img], [role=region], [role=progressbar]";
    const texts = (elements) => [...elements].map((one) => one?.textContent || "").join("");
    for (const one of document.querySelectorAll(wanted)) {
      if (!one.checkVisibility({ visibilityProperty: true })) continue;
      if (one.closest("[aria-hidden=true]")) continue;
      if (one.matches("input") && (one.type === "hidden" || one.tabIndex < 0)) continue;
      const ids = (one.getAttribute("aria-labelledby") || "").split(" ");
      const name =
        one.getAttribute("aria-label") ||
        texts(ids.map((id) => document.getElementById(id))) ||
        texts(one.labels || []) ||
        (one.matches(unread) ? "" : one.textContent) ||
        one.title ||
        "";
      if (!name.trim()) found.push(one.outerHTML.slice(0, 160));
    }
    return found;
  },

  // Texts that do not stand out from their ground (WCAG 2.2, 1.4.3: 4.5, or 3 for large ones).
  faint() {
    const parse = (text) => {
      const [r, g, b, a = 1] = (text.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
      // "color(srgb 0.1 0.2 0.3)" counts from 0 to 1.
      const full = text.startsWith("color(") ? 255 : 1;
      return { r: r * full, g: g * full, b: b * full, a };
    };
    const mix = (top, under, part) => top * part + under * (1 - part);
    const over = (top, under) => ({
      r: mix(top.r, under.r, top.a),
      g: mix(top.g, under.g, top.a),
      b: mix(top.b, under.b, top.a),
      a: 1,
    });
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const light = ({ r, g, b }) =>
      0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
    const around = (element) => {
      const found = [];
      for (let one = element; one; one = one.parentElement) found.unshift(getComputedStyle(one));
      return found;
    };
    const skipped =
      "script, style, .hf-hidden-text, .nicegui-error-popup, #esm-fallback, .q-icon";
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = walker.currentNode.textContent.trim();
      const element = walker.currentNode.parentElement;
      if (!text || element.closest(skipped) || !element.getClientRects().length) continue;
      if (!element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
      const styles = around(element);
      const style = styles.at(-1);
      const white = { r: 255, g: 255, b: 255, a: 1 };
      const under = styles.reduce((g, one) => over(parse(one.backgroundColor), g), white);
      const opacity = styles.reduce((product, one) => product * Number(one.opacity), 1);
      const ink = parse(style.color);
      const top = over({ ...ink, a: ink.a * opacity }, under);
      const [bright, dark] = [light(top), light(under)].sort((a, b) => b - a);
      const ratio = (bright + 0.05) / (dark + 0.05);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      if (ratio < (large ? 3 : 4.5)) {
        found.push(`${ratio.toFixed(2)} ${style.color} ${text.slice(0, 60)}`);
      }
    }
    return found;
  },

  // Numbers what Tab should reach, all that can be used and is in sight; returns how many.
  usable() {
    const wanted =
      "a[href], button:not([disabled]), input:not([disabled]), select, textarea, [tabindex]";
    let number = 0;
    for (const one of document.querySelectorAll(wanted)) {
      if (one.tabIndex < 0 || !one.checkVisibility({ visibilityProperty: true })) continue;
      // The table's own guards for the focus, and its cells, are a matter of arrows.
      if (one.closest(".ag-root-wrapper") && !one.matches("button")) continue;
      one.dataset.usable = String(number++);
    }
    return number;
  },

  // Which of them has the focus, and whether one sees that it has.
  focused() {
    const one = document.activeElement;
    const shows = (element) => {
      const style = getComputedStyle(element);
      return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
    };
    const field = one.closest(".q-field__control, .q-slider, .q-chip");
    return {
      number: one.dataset?.usable ?? null,
      seen: shows(one) || (field !== null && shows(field)),
      what: one.outerHTML.slice(0, 160),
    };
  },
})
