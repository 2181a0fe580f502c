"use strict";
/* Draws the charts of this page and lets its switches change what they show. Asks no other page for anything. */
(() => {
  if (!document.getElementById("charts")) return;
  const page = document.querySelector("main");
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const scatter = document.getElementById("scatter");
  const utilisation = document.getElementById("utilisation");
  const handshake = document.getElementById("handshake"); /* null without a run in flight */
  const picture = document.getElementById("picture"); /* null on the page of a run */
  const charts = [scatter, utilisation, handshake, picture].filter(Boolean);
  const PRINT_WIDTH = 700; /* CSS pixels of A4 and Letter between their margins */

  /* Attempts of one trace that fall into the same square of SQUARE pixels are drawn once: they would cover each
     other anyway, and what is left pans smoothly without a fast graphics card. Zoomed into, they come apart. */
  const SQUARE = 2;

  /* ---- the points, unpacked once and chosen from again and again ---- */

  function unpacked({ dtype, bdata }) {
    const bytes = Uint8Array.from(atob(bdata), (character) => character.charCodeAt(0));
    return new { u2: Uint16Array, u4: Uint32Array, f4: Float32Array }[dtype](bytes.buffer);
  }

  const points = figures.scatter.data.map(({ x, y, customdata }) => ({
    x: unpacked(x),
    y: unpacked(y),
    port: customdata ? unpacked(customdata) : null,
  }));

  /* First position in sorted numbers whose value is at least `limit`. */
  function lowerBound(numbers, limit) {
    let low = 0;
    let high = numbers.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (numbers[middle] < limit) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /* Of each trace the points in sight and as far again on every side, so that dragging uncovers no gap. */
  function inSight(shown) {
    const { xaxis, yaxis, _size: size } = scatter._fullLayout;
    const [left, right] = xaxis.range;
    const [bottom, top] = yaxis.range;
    const isLog = yaxis.type === "log";
    const columns = Math.ceil(size.w / SQUARE);
    const rows = Math.ceil(size.h / SQUARE);
    const taken = new Uint16Array(9 * columns * rows);
    const perColumn = columns / (right - left);
    const perRow = rows / (top - bottom);
    return points.map(({ x, y, port }, trace) => {
      const chosen = [];
      const end = shown[trace] ? lowerBound(x, 2 * right - left) : 0;
      for (let i = shown[trace] ? lowerBound(x, 2 * left - right) : 0; i < end; i++) {
        const column = Math.floor((x[i] - left) * perColumn) + columns;
        const row = Math.floor(((isLog ? Math.log10(y[i]) : y[i]) - bottom) * perRow) + rows;
        if (!(row >= 0 && row < 3 * rows && column >= 0 && column < 3 * columns)) continue;
        const square = row * 3 * columns + column;
        if (taken[square] === trace + 1) continue;
        taken[square] = trace + 1;
        chosen.push(i);
      }
      const pick = (values) => values && values.constructor.from(chosen, (i) => values[i]);
      return { x: pick(x), y: pick(y), customdata: pick(port) };
    });
  }

  /* Ranges that hold all that is shown, with a little air. */
  function fitting(shown, isLog) {
    let [first, last, low, high] = [0, 1, Infinity, 0];
    points.forEach(({ x, y }, trace) => {
      if (!shown[trace]) return;
      last = Math.max(last, x[x.length - 1]);
      for (const value of y) {
        if (value > high) high = value;
        if (value < low && value > 0) low = value;
      }
    });
    if (low > high) [low, high] = [1e-5, 1e-2];
    const [bottom, top] = isLog ? [Math.log10(low), Math.log10(high)] : [0, high];
    const air = 0.04 * (top - bottom) || 0.5 * (isLog ? 1 : high);
    return { x: [first - 0.01 * last, 1.01 * last], y: [bottom - air, top + air] };
  }

  /* ---- what the switches and the colour scheme say ---- */

  const checked = (name) => [...page.querySelectorAll(`input[name="${name}"]:checked`)].map((box) => box.value);
  const isLogarithmic = () => checked("scale")[0] === "log";
  const swatches = (name) =>
    Object.fromEntries(
      [...page.querySelectorAll(`input[name="${name}"]`)].map((box) => [
        box.value,
        getComputedStyle(box.parentElement.querySelector(".swatch")).backgroundColor,
      ]),
    );

  function visible(figure) {
    const series = new Set(checked("series"));
    const off = new Set([...page.querySelectorAll('input[name="group"]:not(:checked)')].map((box) => box.value));
    return figure.data.map(({ meta }) => series.has(String(meta.series)) && !off.has(meta.group));
  }

  function coloured(figure) {
    const ofSeries = swatches("series");
    const ofGroup = swatches("group");
    const byParity = checked("colour")[0] === "parity";
    return figure.data.map(({ meta }) => {
      if (meta.group === "failed") return ofGroup.failed;
      return (byParity && ofGroup[meta.group]) || ofSeries[meta.series];
    });
  }

  function themed(layout) {
    const style = getComputedStyle(document.documentElement);
    const [paper, panel, text, quiet, line] = ["paper", "panel", "text", "quiet", "line"].map((name) =>
      style.getPropertyValue(`--${name}`),
    );
    const axis = { gridcolor: line, linecolor: line, zerolinecolor: line };
    return {
      paper_bgcolor: paper,
      plot_bgcolor: paper,
      font: { family: style.fontFamily, size: 13, color: text },
      hoverlabel: { bgcolor: panel, bordercolor: line, font: { color: text }, align: "left" },
      modebar: { bgcolor: "transparent", color: quiet, activecolor: text },
      xaxis: { ...layout.xaxis, ...axis },
      yaxis: { ...layout.yaxis, ...axis },
    };
  }

  /* The first group of bars is what was measured; the other is there to compare with. */
  function pictureColours() {
    const style = getComputedStyle(document.documentElement);
    return figures.picture.data.map((trace, position) => {
      if (trace.type !== "bar") return trace.marker.color;
      return style.getPropertyValue(trace.meta.muted ? "--quiet" : "--accent");
    });
  }

  function redrawPicture() {
    const colours = pictureColours();
    return Plotly.update(picture, { "marker.color": colours }, themed(picture.layout));
  }

  /* ---- drawing ---- */

  let isZoomed = false;

  /* Where words can stand beside a mark, by plotly's names: to its right or left, level with it, above or below. */
  const SIDES = [
    ["middle right", 1, 0], ["middle left", -1, 0], ["top right", 1, -1],
    ["top left", -1, -1], ["bottom right", 1, 1], ["bottom left", -1, 1],
  ];
  const GAP = 1; /* pixels between a mark and its words */

  async function redraw() {
    const shown = visible(figures.scatter);
    const isLog = isLogarithmic();
    const scale = { type: isLog ? "log" : "linear" };
    if (!isZoomed) {
      const range = fitting(shown, isLog);
      const layout = themed(scatter.layout);
      Object.assign(layout.xaxis, { range: range.x, autorange: false });
      Object.assign(layout.yaxis, { range: range.y, autorange: false, ...scale });
      await Plotly.relayout(scatter, layout);
    }
    await refill(shown);
    await redrawLines(utilisation, figures.utilisation, scale);
    await labelKnees();
    if (handshake) await redrawLines(handshake, figures.handshake, scale);
    if (picture) await redrawPicture();
  }

  function redrawLines(chart, figure, scale) {
    const colours = coloured(figure);
    const style = { visible: visible(figure), "line.color": colours, "marker.color": colours };
    const layout = themed(chart.layout);
    Object.assign(layout.yaxis, { ...scale, autorange: true });
    return Plotly.update(chart, style, layout);
  }

  /* Write beside each knee whose it is, on the first side where the words have room: within the chart, and clear of the
     other knees and their words. Words without room are shown on pointing at the knee only. */
  async function labelKnees() {
    const words = figures.utilisation.data.map(({ meta, mode }) => (meta.group === "knee" ? "markers+text" : mode));
    await Plotly.restyle(utilisation, { mode: words }); /* all of them, to be measured */
    const knees = utilisation._fullData.flatMap(({ uid, index }) => {
      const drawn = utilisation.querySelector(`.trace${uid}`);
      const [mark, text] = [drawn?.querySelector(".points path"), drawn?.querySelector(".textpoint text")];
      return mark && text ? [{ index, mark: mark.getBoundingClientRect(), text: text.getBoundingClientRect() }] : [];
    });
    const { left, top } = utilisation.getBoundingClientRect();
    const { l, t, w, h } = utilisation._fullLayout._size;
    const chart = { left: left + l, right: left + l + w, top: top + t, bottom: top + t + h };
    const taken = knees.map(({ mark }) => mark);
    const isFree = (box) =>
      box.left >= chart.left && box.right <= chart.right && box.top >= chart.top && box.bottom <= chart.bottom &&
      !taken.some((other) => box.left < other.right && other.left < box.right && box.top < other.bottom && other.top < box.bottom);
    const positions = words.map(() => "middle right");
    for (const { index, mark, text } of knees) {
      const boxes = SIDES.map(([side, across, down]) => {
        const x = across > 0 ? mark.right + GAP : mark.left - GAP - text.width;
        const y = (mark.top + mark.bottom - text.height) / 2 + down * text.height;
        return { side, left: x, right: x + text.width, top: y, bottom: y + text.height };
      });
      const free = boxes.find(isFree);
      if (free) {
        taken.push(free);
        positions[index] = free.side;
      } else words[index] = "markers";
    }
    await Plotly.restyle(utilisation, { mode: words, textposition: positions });
  }

  function refill(shown = visible(figures.scatter)) {
    const chosen = inSight(shown);
    return Plotly.restyle(scatter, {
      visible: shown,
      "marker.color": coloured(figures.scatter),
      x: chosen.map((each) => each.x),
      y: chosen.map((each) => each.y),
      customdata: chosen.map((each) => each.customdata),
    });
  }

  function fit() {
    isZoomed = false;
    return redraw();
  }

  /* On a touch screen a finger on a chart scrolls the page, until a tool is chosen. */
  const dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom";
  const base = { margin: { l: 70, r: 15, t: 34, b: 50 }, showlegend: false, dragmode };
  const home = { name: "fit", title: "Show all", icon: Plotly.Icons.home, click: fit };
  const config = (reset) => ({
    responsive: true,
    displaylogo: false,
    displayModeBar: true,
    showSendToCloud: false,
    doubleClick: reset === home ? false : "reset+autosize",
    modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", reset]],
    toImageButtonOptions: { filename: "connbench" },
  });

  async function begin() {
    const empty = figures.scatter.data.map((trace) => ({ ...trace, x: [], y: [], customdata: null }));
    await Plotly.newPlot(scatter, empty, { ...base, ...figures.scatter.layout }, config(home));
    const { data, layout } = figures.utilisation;
    await Plotly.newPlot(utilisation, data, { ...base, ...layout }, config("resetScale2d"));
    if (handshake) {
      await Plotly.newPlot(handshake, figures.handshake.data, { ...base, ...figures.handshake.layout }, config("resetScale2d"));
    }
    if (picture) {
      await Plotly.newPlot(picture, figures.picture.data, { ...base, ...figures.picture.layout }, config("resetScale2d"));
    }
    await redraw();
    scatter.on("plotly_doubleclick", fit);
    utilisation.on("plotly_relayout", labelKnees);
    scatter.on("plotly_relayout", (change) => {
      const isMoved = Object.keys(change).some((key) => key.includes("axis.range["));
      if (isMoved) isZoomed = true;
      if (isMoved || change.autosize) refill();
    });
    document.documentElement.dataset.drawn = "yes";
  }

  page.addEventListener("change", (event) => (event.target.name === "scale" ? fit() : redraw()));
  for (const [id, on] of [["all", true], ["none", false]]) {
    document.getElementById(id)?.addEventListener("click", () => {
      page.querySelectorAll('input[name="series"]').forEach((box) => (box.checked = on));
      redraw();
    });
  }

  const repaint = () => {
    Plotly.relayout(scatter, themed(scatter.layout));
    return redraw();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);

  /* Paper is white, and narrower than a window: the charts are printed as they are, in its colours, made to fit. */
  addEventListener("beforeprint", () => {
    document.documentElement.dataset.printing = "yes";
    for (const chart of charts) {
      const { width, height } = chart.getBoundingClientRect();
      Object.assign(chart.style, { width: `${width}px`, height: `${height}px`, zoom: Math.min(1, PRINT_WIDTH / width) });
      Plotly.relayout(chart, themed(chart.layout));
    }
  });
  addEventListener("afterprint", () => {
    delete document.documentElement.dataset.printing;
    for (const chart of charts) Object.assign(chart.style, { width: "", height: "", zoom: "" });
    repaint();
  });

  begin();
})();
