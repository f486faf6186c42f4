(function () {
  "use strict";
  // Plotly's own default offers to upload a chart's data to a cloud: only these buttons, and no address to send to.
  const config = {
    responsive: true, displaylogo: false, displayModeBar: "hover", showSendToCloud: false, plotlyServerURL: "",
    modeBarButtons: [["toImage"], ["zoom2d", "pan2d", "resetScale2d"]],
  };
  const charts = Array.from(document.querySelectorAll(".chart"));
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  // The page's own colours for paper, ink and grid, as changes to a figure's layout.
  function theme(layout) {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const change = {
      "paper_bgcolor": colour("--card"), "plot_bgcolor": colour("--card"), "font.color": colour("--ink"),
      "font.family": getComputedStyle(document.body).fontFamily,
      "hoverlabel.align": "left", "legend.bgcolor": "rgba(0,0,0,0)",
    };
    Object.keys(layout).filter((key) => /^[xy]axis/.test(key)).forEach((key) => {
      change[key + ".gridcolor"] = colour("--grid");
      change[key + ".linecolor"] = colour("--line");
      change[key + ".zerolinecolor"] = colour("--soft");
    });
    return change;
  }

  function put(target, path, value) {
    const keys = path.split(".");
    const last = keys.pop();
    keys.forEach((key) => { target = target[key] = target[key] || {}; });
    target[last] = value;
  }

  function draw(chart) {
    const figure = JSON.parse(document.getElementById(chart.id + "-data").textContent);
    Object.entries(theme(figure.layout)).forEach(([path, value]) => put(figure.layout, path, value));
    return Plotly.newPlot(chart, figure.data, figure.layout, config).then(() => { chart.dataset.drawn = "yes"; });
  }

  // One chart after another, so that the page can be read and scrolled meanwhile.
  function drawFrom(index) {
    if (index >= charts.length) {
      document.documentElement.dataset.charts = "drawn";
      return;
    }
    draw(charts[index]).then(() => setTimeout(() => drawFrom(index + 1), 0));
  }

  function recolour() {
    charts.filter((chart) => chart.dataset.drawn).forEach((chart) => Plotly.relayout(chart, theme(chart.layout)));
  }

  // The entry of the section on screen stands out in the contents.
  function follow() {
    const links = new Map(Array.from(document.querySelectorAll("nav a"), (link) => [link.hash.slice(1), link]));
    const observer = new IntersectionObserver((entries) => entries.forEach((entry) => {
      if (!entry.isIntersecting) return;
      links.forEach((link) => link.removeAttribute("aria-current"));
      links.get(entry.target.id).setAttribute("aria-current", "true");
    }), { rootMargin: "-20% 0px -70% 0px" });
    links.forEach((_, id) => observer.observe(document.getElementById(id)));
  }

  dark.addEventListener("change", recolour);
  window.matchMedia("print").addEventListener("change", recolour);
  follow();
  drawFrom(0);
})();
