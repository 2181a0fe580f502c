"use strict";
/* Draws the figures of this page and lets its switches change what is shown. Asks no other page for anything. */
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const controls = document.getElementById("controls");
  if (!controls) return;
  const ids = ["scatter", "utilisation"];
  const charts = ids.map((id) => document.getElementById(id));
  const printWidth = 700; /* CSS pixels of A4 and Letter between their margins */

  const checked = (name) => [...controls.querySelectorAll(`input[name="${name}"]:checked`)].map((box) => box.value);
  const swatches = (name) =>
    Object.fromEntries(
      [...controls.querySelectorAll(`input[name="${name}"]`)].map((box) => [
        box.value,
        getComputedStyle(box.parentElement.querySelector(".swatch")).backgroundColor,
      ]),
    );

  /* What the switches say now, as the two attributes of every trace that depend on them. */
  function styled(figure) {
    const series = new Set(checked("series"));
    const groups = new Set(checked("group"));
    const byParity = checked("colour")[0] === "parity";
    const ofSeries = swatches("series");
    const ofGroup = swatches("group");
    const colours = figure.data.map(({ meta }) => {
      if (meta.group === "failed") return ofGroup.failed;
      return (byParity && ofGroup[meta.group]) || ofSeries[meta.series];
    });
    return {
      visible: figure.data.map(
        ({ meta }) => series.has(String(meta.series)) && (!(meta.group in ofGroup) || groups.has(meta.group)),
      ),
      "marker.color": colours,
      "line.color": colours,
    };
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
      yaxis: { ...layout.yaxis, ...axis, type: checked("scale")[0], dtick: checked("scale")[0] === "log" ? 1 : null },
    };
  }

  /* On a touch screen a finger on a chart scrolls the page, until a tool is chosen. */
  const dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom";
  const config = {
    responsive: true,
    displaylogo: false,
    displayModeBar: true,
    showSendToCloud: false,
    modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]],
    toImageButtonOptions: { filename: "connbench" },
  };

  function draw(chart, figure) {
    const style = styled(figure);
    figure.data.forEach((trace, i) => {
      trace.visible = style.visible[i];
      trace.marker = { ...trace.marker, color: style["marker.color"][i] };
      if (trace.line) trace.line.color = style["line.color"][i];
    });
    const layout = {
      margin: { l: 70, r: 15, t: 34, b: 50 },
      showlegend: false,
      dragmode,
      ...figure.layout,
      ...themed(figure.layout),
    };
    return Plotly.newPlot(chart, figure.data, layout, config);
  }

  const restyle = () => Promise.all(ids.map((id, i) => Plotly.restyle(charts[i], styled(figures[id]))));
  const relayout = (change) =>
    Promise.all(
      charts.map((chart) => {
        const layout = themed(chart.layout);
        change?.(layout);
        return Plotly.relayout(chart, layout);
      }),
    );
  const repaint = () => Promise.all([restyle(), relayout()]);

  controls.addEventListener("change", (event) => {
    if (event.target.name !== "scale") return restyle();
    return relayout((layout) => {
      layout.yaxis.autorange = true;
      delete layout.yaxis.range;
    });
  });
  for (const [id, on] of [["all", true], ["none", false]]) {
    document.getElementById(id)?.addEventListener("click", () => {
      controls.querySelectorAll('input[name="series"]').forEach((box) => (box.checked = on));
      restyle();
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);

  /* Paper is white, and narrower than a window: the charts are printed as they are, in its colours, made to fit. */
  addEventListener("beforeprint", () => {
    document.documentElement.dataset.printing = "yes";
    for (const chart of charts) {
      const { width, height } = chart.getBoundingClientRect();
      Object.assign(chart.style, { width: `${width}px`, height: `${height}px`, zoom: Math.min(1, printWidth / width) });
    }
    repaint();
  });
  addEventListener("afterprint", () => {
    delete document.documentElement.dataset.printing;
    for (const chart of charts) Object.assign(chart.style, { width: "", height: "", zoom: "" });
    repaint();
  });
  controls.addEventListener("submit", (event) => event.preventDefault());

  Promise.all(ids.map((id, i) => draw(charts[i], figures[id]))).then(() => {
    document.documentElement.dataset.drawn = "yes";
  });
})();
