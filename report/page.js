// Makes the figures of a page answer: other axes, smoothing, logarithmic scales, lines on and off,
// and the values at a place. The numbers and all axes come from the page; here is no rule for ticks
// or means. Without this script every figure is as report/line_plot.cpp drew it.
"use strict";
(() => {
  const svgNamespace = "http://www.w3.org/2000/svg";
  const units = 10000;  // of paths, in each direction
  const live = document.querySelector(".live");

  const make = (name, attributes, text) => {
    const element = document.createElementNS(svgNamespace, name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const percent = (place) => (100 * place).toFixed(2) + "%";
  const isNumber = (value) => value !== null && value !== undefined;

  // 0 at the axis' low end, 1 at its high end; null where it has no place.
  const placeOn = (axis, value) => {
    if (!isNumber(value)) return null;
    if (!axis.log) return (value - axis.low) / (axis.high - axis.low);
    return value > 0 ? Math.log(value / axis.low) / Math.log(axis.high / axis.low) : null;
  };

  const numberText = (value, counts, digits = 5) => {
    if (!isNumber(value)) return "-";
    const size = Math.abs(value);
    if (counts) {
      const suffixes = ["", "k", "M", "B", "T"];
      let power = 0;
      for (; power + 1 !== suffixes.length && Math.abs(value) >= 1000; ++power) value /= 1000;
      return Number(value.toPrecision(4)) + suffixes[power];
    }
    if (size !== 0 && (size >= 1e6 || 1e-4 > size)) {
      return value.toExponential(3).replace(/\.?0*e\+?/, "e");
    }
    return String(Number(value.toPrecision(digits)));
  };

  // ---- what all plots of the page show

  const controls = document.querySelector(".controls");
  const memory = "braid " + document.title;  // a page that is loaded again keeps its choices
  const choices = { axis: 0, view: 0, smoothing: 0, off: [], log: {} };
  const remember = () => {
    try { sessionStorage.setItem(memory, JSON.stringify(choices)); } catch (refused) { /* fine */ }
  };
  const readControls = () => {
    for (const name of ["axis", "view", "smoothing"]) {
      const chosen = controls.querySelector("input[name=" + name + "]:checked");
      choices[name] = chosen ? Number(chosen.value) : 0;
    }
  };
  const restore = () => {
    if (!controls) return;
    readControls();
    try { Object.assign(choices, JSON.parse(sessionStorage.getItem(memory)) || {}); } catch (refused) { /* fine */ }
    for (const name of ["axis", "view", "smoothing"]) {
      const input = controls.querySelector("input[name=" + name + "][value='" + choices[name] + "']");
      if (input) input.checked = true;
    }
    readControls();
  };

  // ---- a plot of lines

  // Numbers along each x axis out of the steps between places that the page has, see
  // steps_between_places() in report/line_plot.cpp.
  const readPlaces = (line, axes) => {
    const given = line.x;
    line.x = given.map((steps, axis) => {
      const whole = axes[axis].views[0];
      let place = 0;
      return (Array.isArray(steps) ? steps : given[steps]).map((step) => {
        if (step === null) return null;
        place += step;
        return whole.low + (whole.high - whole.low) * place / units;
      });
    });
  };

  const pathOf = (points) => {
    let path = "", length = 0;
    const end = () => { path += length === 1 ? "h0" : ""; length = 0; };
    for (const [x, y] of points) {
      if (x === null || y === null) { end(); continue; }
      path += (length === 0 ? "M" : "L") + Math.round(units * x) + " " + Math.round(units * (1 - y));
      ++length;
    }
    end();
    return path;
  };

  class LinePlot {
    constructor(figure, data) {
      this.figure = figure;
      this.data = data;
      data.series.forEach((series) => series.lines.forEach((line) => readPlaces(line, data.x)));
      this.svg = figure.querySelector(".area > svg");
      this.area = figure.querySelector(".area");
      this.log = figure.id in choices.log ? choices.log[figure.id] : data.logY;
      this.addLogButton();
      this.buttons = Array.from(figure.querySelectorAll(".legend button"));
      this.buttons.forEach((button, i) => {
        button.addEventListener("click", () => toggle(this.data.series[i].name));
        for (const [type, dims] of [["mouseenter", true], ["mouseleave", false], ["focus", true], ["blur", false]]) {
          button.addEventListener(type, () => this.dimAllBut(dims ? i : null));
        }
      });
      this.addCursor();
    }

    addLogButton() {
      if (!this.data.y.some((of) => of.some((scales) => scales[1]))) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "log";
      button.textContent = "log";
      button.title = "logarithmic y axis";
      button.addEventListener("click", () => {
        this.log = choices.log[this.figure.id] = !this.log;
        remember();
        this.draw();
      });
      this.logButton = button;
      this.figure.querySelector("figcaption").append(button);
    }

    visible(i) { return !choices.off.includes(this.data.series[i].name); }
    lineOf(series) { return series.lines[Math.min(choices.smoothing, series.lines.length - 1)]; }
    xAxis() { return this.data.x[Math.min(choices.axis, this.data.x.length - 1)]; }
    xIndex() { return Math.min(choices.axis, this.data.x.length - 1); }

    draw() {
      const x = this.xAxis().views[choices.view];
      const scales = this.data.y[choices.smoothing][choices.view];
      const y = this.log && scales[1] ? scales[1] : scales[0];
      if (!y) return;
      this.shown = { x, y };
      if (this.logButton) this.logButton.setAttribute("aria-pressed", String(y.log));
      this.drawGrid(x, y);
      this.data.series.forEach((series, i) => this.drawSeries(series, i, x, y));
      this.drawNames(y);
      const marks = this.svg.querySelectorAll(".events line");
      this.data.events.forEach((at, i) => {
        const place = placeOn(x, at[this.xIndex()]);
        const outside = place === null || place !== Math.min(1, Math.max(0, place));
        marks[i].classList.toggle("off", outside);
        if (!outside) { marks[i].setAttribute("x1", percent(place)); marks[i].setAttribute("x2", percent(place)); }
      });
      this.moveTo(null);
    }

    drawGrid(x, y) {
      const columns = this.svg.querySelector(".grid.x"), rows = this.svg.querySelector(".grid.y");
      columns.replaceChildren(...x.ticks.flatMap(([place, label]) => {
        const at = percent(place);
        return [make("line", { x1: at, x2: at, y1: 0, y2: "100%" }), make("text", { x: at, y: "100%", dy: 18 }, label)];
      }));
      rows.replaceChildren(...y.ticks.flatMap(([place, label]) => {
        const at = percent(1 - place);
        return [make("line", { x1: 0, x2: "100%", y1: at, y2: at }), make("text", { x: 0, y: at, dx: -8, dy: ".32em" }, label)];
      }));
      this.svg.querySelector(".label.x").textContent = this.xAxis().label;
    }

    drawSeries(series, i, x, y) {
      const group = this.svg.querySelector(".series[data-series='" + i + "']");
      group.classList.toggle("off", !this.visible(i));
      const at = this.xIndex();
      const points = (line, values) => values.map((value, k) => [placeOn(x, line.x[at][k]), placeOn(y, value)]);
      const line = this.lineOf(series);
      const part = (name) => group.querySelector("." + name) || group.insertBefore(make("path", { class: name }), group.lastElementChild);
      group.querySelector(".line").setAttribute("d", pathOf(points(line, line.y)));
      if (series.raw) {
        part("raw").setAttribute("d", choices.smoothing === 0 ? "" : pathOf(points(series.lines[0], series.lines[0].y)));
      }
      if (line.low) part("band").setAttribute("d", this.bandOf(points(line, line.low), points(line, line.high)));
      const dots = this.svg.querySelector(".dots[data-series='" + i + "']");
      if (dots) {
        dots.classList.toggle("off", !this.visible(i));
        dots.replaceChildren(...points(line, line.y)
          .filter(([px, py]) => px !== null && py !== null && px === Math.min(1, Math.max(0, px)))
          .map(([px, py]) => make("circle", { cx: percent(px), cy: percent(1 - py), r: 3 })));
      }
    }

    bandOf(low, high) {
      const whole = (k) => [low[k], high[k]].every(([px, py]) => px !== null && py !== null);
      const place = ([px, py]) => Math.round(units * px) + " " + Math.round(units * (1 - py));
      let path = "";
      for (let begin = 0; begin !== low.length; ++begin) {
        if (!whole(begin)) continue;
        let end = begin;
        while (end !== low.length && whole(end)) ++end;
        path += "M" + high.slice(begin, end).map(place).join("L") + "L" +
          low.slice(begin, end).reverse().map(place).join("L") + "Z";
        begin = end - 1;
      }
      return path;
    }

    // Beside the ends of lines, moved apart as report/line_plot.cpp does.
    drawNames(y) {
      const names = Array.from(this.svg.querySelectorAll(".ends text"));
      const placed = [];
      for (const name of names) {
        const i = Number(name.dataset.series);
        const last = this.lineOf(this.data.series[i]).y.filter(isNumber).pop();
        const place = placeOn(y, last);
        name.classList.toggle("off", !this.visible(i) || place === null);
        if (place !== null && this.visible(i)) placed.push({ name, place: Math.min(1, Math.max(0, place)) });
      }
      placed.sort((a, b) => b.place - a.place);
      placed.forEach((label, k) => {
        if (k !== 0) label.place = Math.min(label.place, placed[k - 1].place - 0.065);
        label.name.setAttribute("y", percent(1 - label.place));
      });
    }

    dimAllBut(chosen) {
      for (const group of this.svg.querySelectorAll("[data-series]")) {
        group.classList.toggle("dim", chosen !== null && Number(group.dataset.series) !== chosen);
      }
    }

    // ---- the values at a place, by pointer or arrow keys

    addCursor() {
      this.cursor = make("line", { class: "cursor off", y1: 0, y2: "100%" });
      this.svg.append(this.cursor);
      this.tip = document.createElement("div");
      this.tip.className = "tip";
      this.tip.hidden = true;
      this.area.append(this.tip);
      this.area.tabIndex = 0;
      this.area.setAttribute("role", "group");
      this.area.setAttribute("aria-label", this.figure.querySelector("h3").textContent + ": arrow keys read values");
      this.area.addEventListener("pointermove", (event) => {
        const box = this.svg.getBoundingClientRect();
        this.moveTo((event.clientX - box.left) / box.width);
      });
      this.area.addEventListener("pointerleave", () => this.moveTo(null));
      this.area.addEventListener("blur", () => this.moveTo(null));
      this.area.addEventListener("keydown", (event) => this.key(event));
    }

    places() {
      const all = new Set();
      this.data.series.forEach((series, i) => {
        if (!this.visible(i)) return;
        const line = this.lineOf(series);
        line.x[this.xIndex()].forEach((value, k) => {
          const place = placeOn(this.shown.x, value);
          if (isNumber(line.y[k]) && place !== null && place === Math.min(1, Math.max(0, place))) all.add(place);
        });
      });
      return Array.from(all).sort((a, b) => a - b);
    }

    key(event) {
      const places = this.places();
      const keys = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };
      if (event.key === "Escape") { this.moveTo(null); return; }
      if (!(event.key in keys) || places.length === 0) return;
      event.preventDefault();
      let now = places.findIndex((place) => this.at !== null && place >= this.at - 1e-9);
      if (now === -1) now = this.at === null ? (keys[event.key] > 0 ? -1 : places.length) : places.length - 1;
      const next = Math.min(places.length - 1, Math.max(0, now + keys[event.key]));
      this.moveTo(places[next]);
      live.textContent = this.tip.innerText;
    }

    // Of each visible line the point nearest to the place.
    moveTo(place) {
      this.at = place === null ? null : Math.min(1, Math.max(0, place));
      const hidden = this.at === null;
      this.cursor.classList.toggle("off", hidden);
      this.tip.hidden = hidden;
      if (hidden) return;
      const axis = this.xAxis(), rows = [];
      let nearest = null;
      this.data.series.forEach((series, i) => {
        if (!this.visible(i)) return;
        const line = this.lineOf(series), xs = line.x[this.xIndex()];
        let best = null;
        for (let k = 0; k !== xs.length; ++k) {
          if (!isNumber(line.y[k]) || !isNumber(xs[k])) continue;
          const distance = Math.abs(placeOn(this.shown.x, xs[k]) - this.at);
          if (best === null || best.distance > distance) best = { k, distance };
        }
        if (best === null || best.distance > 0.06) return;
        if (nearest === null || nearest.distance > best.distance) nearest = { distance: best.distance, x: xs[best.k] };
        let value = numberText(line.y[best.k]);
        if (line.low && isNumber(line.low[best.k])) {
          value += " [" + numberText(line.low[best.k]) + ", " + numberText(line.high[best.k]) + "]";
        }
        rows.push([i, series.name, value]);
      });
      if (nearest === null) { this.tip.hidden = true; this.cursor.classList.add("off"); return; }
      const at = placeOn(this.shown.x, nearest.x);
      this.cursor.setAttribute("x1", percent(at));
      this.cursor.setAttribute("x2", percent(at));
      showTip(this.tip, numberText(nearest.x, axis.counts, 4) + " " + axis.name, rows, (i) => {
        const swatch = this.figure.querySelector(".legend button[data-series='" + i + "'] svg");
        return swatch ? swatch.cloneNode(true) : null;
      });
      placeTip(this.tip, this.area, at);
    }
  }

  // ---- a map of cells

  class CellMap {
    constructor(figure, data) {
      this.data = data;
      this.area = figure.querySelector(".area");
      this.tip = document.createElement("div");
      this.tip.className = "tip";
      this.tip.hidden = true;
      this.area.append(this.tip);
      this.area.addEventListener("pointermove", (event) => {
        const box = this.area.getBoundingClientRect();
        const inside = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
        const column = inside((event.clientX - box.left) / box.width, data.x.length);
        const row = inside((event.clientY - box.top) / box.height, data.rows.length);
        this.tip.hidden = false;
        showTip(this.tip, numberText(data.x[column], true) + " " + data.label,
                [[0, data.rows[row], numberText(data.values[row][column])]], () => null);
        placeTip(this.tip, this.area, (column + 0.5) / data.x.length);
      });
      this.area.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    }
    draw() {}
  }

  const showTip = (tip, title, rows, swatchOf) => {
    const table = document.createElement("table");
    for (const [i, name, value] of rows) {
      const row = table.insertRow();
      const swatch = swatchOf(i), first = row.insertCell();
      if (swatch) first.append(swatch);
      first.append(name);
      row.insertCell().textContent = value;
    }
    const head = document.createElement("strong");
    head.textContent = title;
    tip.replaceChildren(head, table);
  };
  const placeTip = (tip, area, place) => {
    const left = place * area.clientWidth;
    const isRight = left > area.clientWidth / 2;
    tip.style.left = isRight ? "" : left + 12 + "px";
    tip.style.right = isRight ? area.clientWidth - left + 12 + "px" : "";
    tip.style.top = "0";
  };

  // ---- the page

  restore();
  const plots = [];
  for (const figure of document.querySelectorAll("figure")) {
    const script = figure.querySelector("script");
    if (!script) continue;
    const data = JSON.parse(script.textContent);
    plots.push(data.kind === "cells" ? new CellMap(figure, data) : new LinePlot(figure, data));
  }
  const drawAll = () => {
    for (const plot of plots) {
      plot.draw();
      for (const [i, button] of (plot.buttons || []).entries()) {
        button.setAttribute("aria-pressed", String(plot.visible(i)));
      }
    }
  };
  const toggle = (name) => {
    choices.off = choices.off.includes(name) ? choices.off.filter((other) => other !== name) : choices.off.concat(name);
    remember();
    drawAll();
  };
  if (controls) {
    controls.hidden = false;
    controls.addEventListener("change", () => { readControls(); remember(); drawAll(); });
    controls.addEventListener("submit", (event) => event.preventDefault());
  }
  drawAll();
})();
