/* The plane of z0 and eps: z_t = a z0 + b eps on the unit circle at angle phi, v its tangent, and the arc of a step.
   Of a flow it is the line from z0 to eps, with u along it: drawn half as long, to stay in the picture. */
ldm.drawings.plane = (() => {
  const SVG = "http://www.w3.org/2000/svg", UNIT = 100;
  const NAMES = { z0: ["z", "0"], eps: ["ε"], z_s: ["z", "s"], z_t: ["z", "t"], v: ["v"], u: ["u"] };
  const part = (tag, name, attributes = {}, text = "") => {
    const made = document.createElementNS(SVG, tag);
    made.textContent = text;
    return set(made, { class: name, ...attributes });
  };
  const set = (element, attributes) => {
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const along = (start, far, direction) => [start[0] + far * direction[0], start[1] + far * direction[1]];
  const drawn = ([x, y]) => [x * UNIT, -y * UNIT];
  const on = (angle) => [Math.cos(angle), Math.sin(angle)];
  const arc = (from, to, radius) =>
    Array.from({ length: 41 }, (_, index) => drawn(along([0, 0], radius, on(from + ((to - from) * index) / 40)))).join(" ");

  function make() {
    const svg = part("svg", "ldm-plane", { viewBox: "-135 -165 270 270", role: "img" });
    svg.append(part("circle", "circle", { r: UNIT }), part("line", "circle line", { x1: UNIT, y1: 0, x2: 0, y2: -UNIT }), part("polyline", "turn"), part("polyline", "step"), part("path", "shares"));
    const labels = [];
    for (const [name, [letter, index]] of Object.entries(NAMES)) {
      const label = part("text", `label ${name}`, {}, letter);
      if (index) label.append(part("tspan", "index", { dy: 5 }, index));
      svg.append(part("line", `arrow ${name}`), part("path", `tip ${name}`, { d: "M0,0L-12,-5L-12,5Z" }));
      labels.push(label);
    }
    svg.append(...labels, part("text", "label phi", {}, "φ"));
    return svg;
  }

  function draw(svg, { plane, title, caption }) {
    const find = (name) => svg.querySelector(`.${name}`);
    const z_t = [plane.a, plane.b], z_s = [plane.a_s, plane.b_s], tangent = plane.is_flow ? [-0.5, 0.5] : [-plane.b, plane.a];
    const [velocity, other] = plane.is_flow ? ["u", "v"] : ["v", "u"];
    const angle = Math.atan2(plane.b, plane.a), angle_s = Math.atan2(plane.b_s, plane.a_s);
    set(svg, { "aria-label": `${title}. ${caption}` });
    svg.classList.toggle("flow", plane.is_flow);
    set(find("turn"), { points: plane.is_flow ? "" : arc(0, angle, 0.25) });
    set(find("step"), { points: plane.is_flow ? `${drawn(z_s)} ${drawn(z_t)}` : arc(angle_s, angle, 1), stroke: plane.colors.z_s });
    const [x, y] = drawn(z_t);
    set(find("shares"), { d: `M${x},0L${x},${y}L0,${y}`, stroke: plane.colors.z_t });
    const write = (name, place) => { const [x, y] = drawn(place); set(find(`label.${name}`), { x, y: y + 5 }); };
    const arrow = (name, start, end, label) => {
      const [[x1, y1], [x2, y2]] = [drawn(start), drawn(end)], fill = plane.colors[name];
      set(find(`arrow.${name}`), { x1, y1, x2, y2, stroke: fill });
      set(find(`tip.${name}`), { transform: `translate(${x2} ${y2}) rotate(${(Math.atan2(y2 - y1, x2 - x1) * 180) / Math.PI})`, fill });
      set(find(`label.${name}`), { fill });
      write(name, label);
    };
    const origin = [0, 0];
    arrow("z0", origin, [1, 0], [1.14, -0.17]);
    arrow("eps", origin, [0, 1], [-0.13, 0.84]);
    arrow("z_s", origin, z_s, plane.is_flow ? along(z_s, 0.18, on(0.15)) : along(along(origin, 0.78, z_s), 0.14, [plane.b_s, -plane.a_s]));
    arrow("z_t", origin, z_t, along(origin, 1.17, z_t));
    arrow(velocity, z_t, along(z_t, 1, tangent), plane.is_flow ? along(along(z_t, 0.55, tangent), 0.16, on(Math.PI / 4)) : along(z_t, 1.12, tangent));
    for (const kind of ["arrow", "tip", "label"]) {
      find(`${kind}.${velocity}`).style.display = "";
      find(`${kind}.${other}`).style.display = "none";
    }
    write("phi", [0.25, -0.13]);
  }

  return { make, draw };
})();
