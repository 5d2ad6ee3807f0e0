/* Lines over one another, levels across them, and the point where the stage stands; redrawn at the size that it gets. */
ldm.drawings.curve = (() => {
  const SVG = "http://www.w3.org/2000/svg", LEFT = 38, RIGHT = 10, TOP = 10, BOTTOM = 34, APART = 14, NAME_WIDTH = 68;
  const DASHES = { solid: "none", dash: "6 4", dot: "2 3", dashdot: "6 3 2 3", longdash: "10 4", longdashdot: "10 3 2 3" };
  const HEADS = [1, 2, 5], POWERS = Array.from({ length: 20 }, (_, power) => 10 ** (power - 6));
  const drawn = new WeakMap();

  function part(tag, attributes, text) {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function make() {
    const svg = part("svg", { class: "ldm-curve", role: "img" });
    new ResizeObserver(() => { if (drawn.has(svg)) lay(svg, drawn.get(svg)); }).observe(svg);
    return svg;
  }

  function draw(svg, picture) {
    drawn.set(svg, picture);
    svg.setAttribute("aria-label", `${picture.title}. ${picture.caption}`);
    lay(svg, picture);
  }

  function lay(svg, { curve }) {
    const { width, height } = svg.getBoundingClientRect();
    if (!width || !height) return;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const x = scale(curve.x_range, [LEFT, width - RIGHT], true);
    const y = scale(curve.y_range, [height - BOTTOM, TOP], curve.y_log);
    const frame = { x: LEFT, y: TOP, width: width - LEFT - RIGHT, height: height - TOP - BOTTOM };
    const inside = part("svg", { ...frame, viewBox: Object.values(frame).join(" ") }); // it cuts off what leaves it
    inside.append(...curve.lines.map((line) => path(line, x, y)));
    const names = curve.lines.map((line, index) => nameOf(line, index, x, y));
    svg.replaceChildren(...axes(curve, x, y, width, height), ...levels(curve, x, y), inside, ...names, ...point(curve, names, x, y));
  }

  /* Values to pixels. */
  function scale([low, high], [from, to], log) {
    const along = log ? Math.log : (value) => value;
    const share = (value) => (along(value) - along(low)) / (along(high) - along(low) || 1);
    const place = (value) => from + (to - from) * share(log ? Math.max(value, 1e-12) : value);
    return Object.assign(place, { from, to, within: (value) => from + (to - from) * Math.max(0, Math.min(1, share(value))) });
  }

  function axes({ x_range, y_range, y_log, x_title }, x, y, width, height) {
    const bottom = height - BOTTOM;
    const upright = (y_log ? ticks(y_range) : even(y_range)).flatMap((value) => [
      part("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
      part("text", { x: LEFT - 5, y: y(value) + 4, "text-anchor": "end" }, short(value)),
    ]);
    const level = ticks(x_range).flatMap((value) => [
      part("line", { class: "grid", x1: x(value), x2: x(value), y1: TOP, y2: bottom }),
      part("text", { x: x(value), y: bottom + 14, "text-anchor": "middle" }, short(value)),
    ]);
    return [...upright, ...level, part("text", { x: width - RIGHT, y: height - 4, "text-anchor": "end" }, x_title)];
  }

  function ticks([low, high]) {
    const inside = POWERS.filter((value) => value >= low && value <= high);
    return inside.length > 1 ? inside : POWERS.flatMap((power) => HEADS.map((head) => head * power)).filter((value) => value >= low && value <= high);
  }

  function even([low, high]) {
    const step = POWERS.flatMap((power) => HEADS.map((head) => head * power)).find((value) => (high - low) / value <= 5) ?? high - low;
    return Array.from({ length: Math.floor(high / step) + 1 }, (_, index) => index * step).filter((value) => value >= low);
  }

  function short(value) {
    const [size, letter] = [[1e6, "M"], [1e3, "k"]].find(([size]) => value >= size) ?? [1, ""];
    return `${Number((value / size).toPrecision(2))}${letter}`;
  }

  /* Lines across, each named where it begins, over it; those that lie on one another are named in one, below them. */
  function levels({ levels }, x, y) {
    const named = [];
    const drawn = [...levels].sort((one, other) => one.y - other.y).map(({ name, color, dash, y: value }) => {
      const height = y(value), below = named.at(-1);
      if (below && below.top - height < APART) Object.assign(below, { top: height, place: below.bottom + APART, name: `${name}, ${below.name}` });
      else named.push({ top: height, bottom: height, place: height - 4, name });
      return part("line", { class: "level", x1: x.from, x2: x.to, y1: height, y2: height, stroke: color, "stroke-dasharray": DASHES[dash] ?? DASHES.dash });
    });
    return [...drawn, ...named.map(({ place, name }) => part("text", { class: "name", x: LEFT + 4, y: place }, name))];
  }

  function path({ color, width, x: places, y: values }, x, y) {
    const points = places.map((place, index) => `${index ? "L" : "M"}${x(place).toFixed(1)},${y(values[index]).toFixed(1)}`);
    return part("path", { class: "line", d: points.join(""), stroke: color, "stroke-width": width });
  }

  /* Where the line comes into sight; the first one's over it, the others' below. */
  function nameOf({ name, x: places, y: values }, index, x, y) {
    const first = Math.max(0, values.findIndex((value) => y(value) >= TOP));
    const [left, top] = [x(places[first]), Math.max(y(values[first]) + (index ? 16 : 0), TOP + 10)];
    const late = left + NAME_WIDTH > x.to;
    return part("text", { class: "name", x: late ? x.to : left + 6, y: top, "text-anchor": late ? "end" : "start" }, name);
  }

  /* What it says stands where there is room, and to the left where the name of a line stands on the right. */
  function point({ at, said }, names, x, y) {
    if (!at) return [];
    const [left, top] = [x.within(at[0]), y.within(at[1])];
    const height = Math.max(top - 8, TOP + 12);
    const taken = names.some((name) => Math.abs(name.getAttribute("x") - left) < NAME_WIDTH && Math.abs(name.getAttribute("y") - height) < APART);
    const atEnd = taken ? left > x.from + NAME_WIDTH : left > (x.from + x.to) / 2;
    return [
      part("line", { class: "now", x1: left, x2: left, y1: y.from, y2: y.to }),
      part("circle", { class: "now", cx: left, cy: top, r: 5 }),
      part("text", { class: "said", x: left + (atEnd ? -9 : 9), y: height, "text-anchor": atEnd ? "end" : "start" }, said),
    ];
  }

  return { make, draw };
})();
