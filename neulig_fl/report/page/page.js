"use strict";
(() => {
  const data = (id) => JSON.parse(document.getElementById(id).textContent);
  const specs = data("specs");
  const themes = data("themes");
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const theme = () => root.dataset.theme || (system.matches ? "dark" : "light");
  const views = {};

  // A figure of one view takes the width that there is; panels stand in as many columns as fit.
  const fitted = (name, width) => {
    const spec = structuredClone(specs[name]);
    if (spec.spec) {
      const panel = (spec.spec.width || 200) + 70;
      spec.columns = Math.max(1, Math.min(spec.columns || 1, Math.floor(width / panel)));
      if (spec.columns === 1 && typeof spec.spec.width === "number") {
        spec.spec.width = Math.min(spec.spec.width, Math.max(140, width - 130));
      }
    } else {
      spec.width = "container";
      spec.autosize = { type: "fit-x", contains: "padding" };
    }
    return spec;
  };

  const draw = async (figure) => {
    const name = figure.dataset.figure;
    const drawing = figure.querySelector(".drawing > div");
    const controls = figure.querySelector(".controls");
    const chosen = (specs[name].params || []).map((each) => each.name);
    const kept = views[name] ? chosen.map((each) => [each, views[name].signal(each)]) : [];
    controls.replaceChildren();
    if (views[name]) views[name].finalize();
    const found = await vegaEmbed(drawing, fitted(name, drawing.clientWidth), {
      mode: "vega-lite", renderer: "svg", actions: false, ast: true, bind: controls,
      logLevel: 1, // errors, as Vega numbers them
      config: themes[theme()], tooltip: { theme: theme() },
    });
    views[name] = found.view;
    for (const [each, value] of kept) found.view.signal(each, value);
    await found.view.runAsync();
    const frame = drawing.parentNode; // what must be scrolled must be reached by keys
    if (frame.scrollWidth > frame.clientWidth) frame.tabIndex = 0;
    else frame.removeAttribute("tabindex");
    figure.dataset.drawn = "true";
  };

  let drawing = 0;
  const drawAll = async () => {
    const own = ++drawing; // a later call takes over
    delete root.dataset.drawn;
    for (const figure of document.querySelectorAll("figure[data-figure]")) {
      if (own !== drawing) return;
      try {
        await draw(figure);
      } catch (error) {
        figure.dataset.drawn = "failed";
        console.error(figure.dataset.figure, error);
      }
    }
    root.dataset.drawn = theme();
  };

  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    const shown = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n]/.test(shown) ? `"${shown.replaceAll('"', '""')}"` : shown;
  };
  const columns = (rows) => [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const csv = (rows) => {
    const heads = columns(rows);
    return [heads, ...rows.map((row) => heads.map((head) => row[head]))]
      .map((line) => line.map(cell).join(",")).join("\n") + "\n";
  };

  const save = (blob, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const files = {
    csv: async (name) => new Blob([csv(specs[name].datasets.rows)], { type: "text/csv" }),
    svg: async (name) => new Blob([await views[name].toSVG()], { type: "image/svg+xml" }),
    png: async (name) => {
      const image = new Image();
      image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(await views[name].toSVG(2))}`;
      await image.decode();
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
      const pen = canvas.getContext("2d");
      pen.fillStyle = getComputedStyle(document.body).backgroundColor;
      pen.fillRect(0, 0, canvas.width, canvas.height);
      pen.drawImage(image, 0, 0);
      return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    },
  };

  // The numbers of a figure as a table, made when it is opened.
  const MOST = 400;
  const numbers = (details) => {
    if (details.querySelector("table")) return;
    const figure = details.closest("figure");
    const rows = specs[figure.dataset.figure].datasets.rows;
    const heads = columns(rows);
    const table = document.createElement("table");
    const line = (cells, tag) => {
      const row = document.createElement("tr");
      for (const value of cells) {
        const made = document.createElement(tag);
        if (tag === "th") made.scope = "col";
        made.textContent = typeof value === "number" ? String(Math.round(value * 1e4) / 1e4) : value ?? "";
        row.append(made);
      }
      return row;
    };
    table.append(line(heads, "th"), ...rows.slice(0, MOST).map((row) => line(heads.map((h) => row[h]), "td")));
    const box = document.createElement("div");
    box.className = "scroll";
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", `Numbers of ${figure.querySelector("h3").textContent}`);
    box.append(table);
    details.append(box);
    if (rows.length > MOST) {
      const rest = document.createElement("p");
      rest.textContent = `The first ${MOST} of ${rows.length} rows; the CSV file has all.`;
      details.append(rest);
    }
  };

  const sort = (button) => {
    const head = button.closest("th");
    const table = button.closest("table");
    const at = [...head.parentNode.children].indexOf(head);
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const numeric = head.classList.contains("number");
    const value = (row) => {
      const found = row.children[at];
      if (!numeric) return found.textContent;
      return found.dataset.value === undefined ? null : Number(found.dataset.value);
    };
    const body = table.tBodies[0];
    const order = [...body.rows].sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === null || b === null) return (a === null) - (b === null); // what is missing, last
      const found = numeric ? a - b : a.localeCompare(b, "en", { numeric: true });
      return up ? found : -found;
    });
    body.append(...order);
  };

  const toggle = document.getElementById("theme");
  const label = () => { toggle.textContent = theme() === "dark" ? "Light" : "Dark"; };
  const retheme = () => { label(); drawAll(); };
  toggle.addEventListener("click", () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    retheme();
  });
  system.addEventListener("change", retheme);

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.classList.contains("sort")) sort(button);
    if (button.dataset.save) {
      const name = button.closest("figure").dataset.figure;
      save(await files[button.dataset.save](name), `${name}.${button.dataset.save}`);
    }
  });
  document.addEventListener("toggle", (event) => {
    if (event.target.matches("details.numbers") && event.target.open) numbers(event.target);
  }, true);

  let width = window.innerWidth;
  let waiting = 0;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(drawAll, 200);
  });

  window.neuligViews = views;
  label();
  drawAll();
})();
