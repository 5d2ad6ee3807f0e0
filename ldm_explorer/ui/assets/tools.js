/* The row of tools: what is shown as a link, a picture, an animation, a table, a script; all files are made here but the
   GIF and the script. */
ldm.tools = (element) => {
  const group = element.querySelector("[role=group]");
  const room = () => element.closest(".ldm-room");
  const say = (text) => { group.querySelector("output").textContent = text; };
  const tools = {
    link: () => ldm.tool.copy(ldm.tool.link()).then((copied) => say(copied ? `Copied.${ldm.tool.missing()}` : "Your browser does not allow it: copy the address above the page.")),
    png: async () => {
      const stage = room().querySelector(".ldm-stage:not(.empty)");
      if (!stage?.ldm.count()) { say("No picture is shown here."); return; }
      const canvas = await ldm.drawn(stage);
      canvas.toBlob((blob) => ldm.tool.save(blob, `${ldm.state.room}.png`));
      say(`Saved ${ldm.state.room}.png.`);
    },
    gif: () => { say("Making the GIF …"); ldm.tool.make("gif", say); },
    csv: () => {
      const table = ldm.tool.table([...room().querySelectorAll(".js-plotly-plot")].filter(ldm.visible));
      if (!table) { say("No plot is shown here."); return; }
      ldm.tool.save(new Blob([table], { type: "text/csv" }), `${ldm.state.room}.csv`);
      say(`Saved ${ldm.state.room}.csv.`);
    },
    python: () => { say("Writing the script …"); ldm.tool.make("python", say); },
    reset: () => ldm.reset(),
  };
  group.addEventListener("click", (event) => tools[event.target.closest("button")?.dataset.tool]?.());
  ldm.listen((what) => { if (what === "address") say(""); });
};

ldm.tool = (() => {
  const made = {}; // what the server made last, by its kind
  let say = () => {}, wanted = null;

  const asked = () => [ldm.state.room, ldm.state.asked[ldm.state.room]];
  const current = (answer) => answer && answer.room === asked()[0] && answer.question === asked()[1];

  /* Show or save what the server makes of the open room; it is asked once for the same. */
  function make(kind, tell) {
    [say, wanted] = [tell, kind];
    if (current(made[kind])) finish(kind);
    else document.querySelector(`#ldm-make-${kind} button, button#ldm-make-${kind}`)?.click();
  }

  function came(kind, answer, show) {
    if (!answer) return;
    made[kind] = { ...answer, show };
    if (wanted === kind) finish(kind);
  }

  function finish(kind) {
    wanted = null;
    say(made[kind].show(made[kind]));
  }

  function failed() { wanted = null; say(""); }

  function save(blob, name) {
    const link = ldmElement("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  async function copy(text) {
    try { await navigator.clipboard.writeText(text); return true; } catch { /* no permission, or no https */ }
    const area = ldmElement("textarea", { style: "position:fixed;opacity:0" });
    area.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    const before = document.activeElement;
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    before?.focus();
    return copied;
  }

  const link = () => new URL(ldm.address(), location.href).href;

  /* What the address cannot hold. */
  function missing() {
    const left = ldm.rooms[ldm.state.room].parameters.filter((name) => LDM.controls[name]?.upload && ldm.state.values[name]);
    return left.length ? " What you uploaded or opened is not in the link." : "";
  }

  /* The curves of plots, a line for each point. */
  function table(graphs) {
    const lines = graphs.flatMap((graph) => {
      const title = text(graph.layout?.title) || graph.getAttribute("aria-label") || "";
      return graph.data.flatMap((curve, index) => points(curve).map((point) => [title, curve.name ?? `curve ${index + 1}`, ...point]));
    });
    return lines.length ? [["plot", "curve", "x", "y", "z", "text"], ...lines].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n" : "";
  }

  const text = (title) => String(title?.text ?? (typeof title === "string" ? title : "")).replace(/<[^>]*>/g, "");

  function points(curve) {
    const [x, y, z] = [curve.x, curve.y, curve.z].map(values), texts = curve.text;
    if (Array.isArray(z?.[0])) return z.flatMap((row, j) => row.map((value, i) => [x?.[i] ?? i, y?.[j] ?? j, value, ""]));
    const count = Math.max(x?.length ?? 0, y?.length ?? 0);
    return Array.from({ length: count }, (_, i) => [x?.[i] ?? i, y?.[i] ?? "", z?.[i] ?? "", (Array.isArray(texts) ? texts[i] : texts) ?? ""]);
  }

  /* Plotly's packed arrays as arrays. */
  function values(packed) {
    if (!packed?.bdata) return packed && Array.from(packed);
    const types = { f8: Float64Array, f4: Float32Array, i4: Int32Array, u4: Uint32Array, i2: Int16Array, u2: Uint16Array, i1: Int8Array, u1: Uint8Array };
    const flat = Array.from(new types[packed.dtype](Uint8Array.from(atob(packed.bdata), (c) => c.charCodeAt(0)).buffer));
    const width = Number(String(packed.shape ?? "").split(",")[1]);
    return width ? Array.from({ length: flat.length / width }, (_, row) => flat.slice(row * width, (row + 1) * width)) : flat;
  }

  /* No spreadsheet takes a text for a formula. */
  function cell(value) {
    const shown = typeof value === "string" ? value.replace(/^(?=[=+\-@\t\r])/, "'") : String(value);
    return /[",\r\n]/.test(shown) ? `"${shown.replaceAll('"', '""')}"` : shown;
  }

  return { make, came, asked, failed, save, copy, link, missing, table };
})();

ldm.animation = (props, watch) => {
  const show = ({ room, gif }) => {
    ldm.tool.save(new Blob([Uint8Array.from(atob(gif), (c) => c.charCodeAt(0))], { type: "image/gif" }), `${room}.gif`);
    return `Saved ${room}.gif.`;
  };
  watch("value", () => ldm.tool.came("gif", props.value, show));
};

ldm.script = (element, props, watch) => {
  const h = ldmElement, dialog = element.querySelector("dialog");
  const code = h("code"), said = h("output", { role: "status" });
  const copy = () => ldm.tool.copy(code.textContent).then((copied) => { said.textContent = copied ? "Copied." : "Select it and copy it."; });
  dialog.setAttribute("aria-label", "The same as Python");
  dialog.append(
    h("h2", {}, "The same as Python"),
    h("pre", { tabindex: 0 }, code),
    h("div", {}, h("button", { type: "button", onclick: copy }, "Copy"), h("button", { type: "button", onclick: () => dialog.close() }, "Close"), said),
  );
  const show = ({ text }) => {
    code.textContent = text;
    said.textContent = "";
    dialog.showModal();
    return "";
  };
  watch("value", () => ldm.tool.came("python", props.value, show));
};
