/* A curve, and the place on it where the step stands. */
ldm.drawings.place = (() => {
  const SVG = "http://www.w3.org/2000/svg", WIDTH = 160, HEIGHT = 160, EDGE = 10;
  const part = (tag, name) => { const made = document.createElementNS(SVG, tag); made.setAttribute("class", name); return made; };
  function make() {
    const svg = part("svg", "ldm-place");
    svg.setAttribute("viewBox", `${-EDGE} ${-EDGE} ${WIDTH + 2 * EDGE} ${HEIGHT + 2 * EDGE}`);
    svg.setAttribute("role", "img");
    const point = part("circle", "point");
    point.setAttribute("r", 9);
    svg.append(part("path", "zero"), part("path", "line"), point);
    return svg;
  }
  function draw(svg, picture) {
    const { values, at } = picture.place, low = Math.min(0, ...values), high = Math.max(0, ...values);
    const y = (value) => HEIGHT * (1 - (value - low) / (high - low || 1));
    const x = (index) => (WIDTH * index) / Math.max(1, values.length - 1);
    const [zero, line, point] = svg.children;
    svg.setAttribute("aria-label", `${picture.title}. ${picture.caption}`);
    zero.setAttribute("d", `M0,${y(0)}H${WIDTH}`);
    line.setAttribute("d", values.map((value, index) => `${index ? "L" : "M"}${x(index)},${y(value)}`).join(""));
    const place = at * (values.length - 1), before = Math.floor(place), after = Math.min(before + 1, values.length - 1);
    point.setAttribute("cx", x(place));
    point.setAttribute("cy", y(values[before] + (place - before) * (values[after] - values[before])));
  }
  return { make, draw };
})();
