/* The page's state is its address: every control is a query parameter, and the open room asks the server with them.
   A room whose question has not changed asks nothing, and a hidden one never asks. */
window.ldm = (() => {
  const SETTLED_MS = 150, LAG_MS = 2000;
  const SAME = { __type__: "update" };
  const { rooms, parameters, together } = LDM;
  const names = Object.keys(rooms), asks = Object.entries(LDM.asks);
  const state = { room: null, opening: null, step: null, seen: null, pinned: null, lesson: null, opened: [], refused: {}, values: {}, asked: {}, unfolded: new Set(), left: new Set(), ending: new Set(), lagging: {}, brought: {}, started: false, listeners: [] };

  const click = (id) => document.querySelector(`#${id} button, button#${id}`)?.click();
  const visible = (element) => element.offsetParent !== null;

  function question(room, values, only = rooms[room].parameters) {
    const query = new URLSearchParams();
    for (const name of only) {
      const value = values[name];
      for (const item of Array.isArray(value) ? value : [value])
        if (item !== null && item !== undefined && item !== "") query.append(name, item.path ?? item);
    }
    return query;
  }

  /* The choices among these parameters, and those that B has other ones of. */
  function choices(only) {
    const query = question(state.room, state.values, only);
    for (const [name, value] of pins()) if (only.includes(name)) query.append(`b.${name}`, value);
    return query;
  }

  /* What a room or a part of one asks. */
  function ask(name) {
    state.asked[name] = choices(LDM.asks[name].parameters).toString();
    tell("asked", name);
    const again = state.left.delete(name) ? stamp("") : name === state.room ? state.seen : null;
    return state.asked[name] + (again ? `&seen=${encodeURIComponent(again)}` : "");
  }

  /* What the open room and its open parts ask now, nothing where work has to end; the others keep their questions. */
  function questions() {
    const open = (name, { room, folded }) => room === state.room && (!folded || state.unfolded.has(name));
    const asked = asks.map(([name, part]) => (state.ending.delete(name) ? "" : open(name, part) ? ask(name) : SAME));
    state.seen = null;
    return asked;
  }

  /* A folded part was opened or closed. */
  function turn(part, open) {
    state.unfolded[open ? "add" : "delete"](part);
    click("ldm-gather");
  }

  function pins() {
    if (!state.pinned || !rooms[state.room].compares) return [];
    const own = question(state.room, state.values);
    const differs = ([name, value]) => rooms[state.room].parameters.includes(name) && own.get(name) !== value;
    return [...state.pinned].filter(differs);
  }

  function address() {
    const query = choices(rooms[state.room].parameters);
    for (const name of ["upload", "seen"]) query.delete(name);
    if (state.step !== null) query.append("step", state.step);
    if (document.body.classList.contains("ldm-large")) query.append("large", 1);
    if (state.lesson) query.append("lesson", state.lesson);
    return `?room=${state.room}&${query}`;
  }

  function remember(asANewPage) {
    const next = address();
    if (next === location.search) return;
    tell("address");
    if (asANewPage && location.search) history.pushState(null, "", next);
    else history.replaceState(null, "", next);
    if (window.parent !== window) window.parent.postMessage({ queryString: next.slice(1), hash: "" }, "https://huggingface.co");
  }

  /* Called by Gradio with the values of all controls; returns what each room asks. */
  function gather(entered, list) {
    const before = pins().length;
    state.moved = null;
    parameters.forEach((name, index) => { state.values[name] = kept(name, arrived(name, list[index])); });
    fit();
    const stray = entered && state.opening && entered !== state.opening; // the tab that stands open while another opens
    if (!state.started || stray) return asks.map(() => SAME);
    if (entered) { state.opening = null; enter(entered); }
    if (!before && pins().length) say([]);
    remember(true);
    return questions();
  }

  /* Controls take values that are set for them one after the other, and tell of each: what one still holds from before
     is not what was chosen. */
  function arrived(name, value) {
    const lag = state.lagging[name];
    if (!lag) return value;
    const is = (other) => JSON.stringify(value) === JSON.stringify(other);
    if (performance.now() < lag.until && is(lag.before) && !is(lag.value)) return lag.value;
    delete state.lagging[name];
    return value;
  }

  function set(name, value) {
    state.lagging[name] = { before: state.shown?.[name] ?? LDM.controls[name].value, value, until: performance.now() + LAG_MS };
    (state.shown ??= {})[name] = value;
    return update(name, value);
  }

  /* The last entry of a list that does not show all it has: the list grows and opens again, the choice stays. */
  function kept(name, value) {
    if (!LDM.controls[name].whole || value !== "") return value;
    state.whole = true;
    setTimeout(() => change({ [name]: state.values[name] }));
    setTimeout(() => document.querySelector(".ldm-rail input[aria-label=Checkpoint]")?.focus(), 300);
    return state.values[name];
  }

  /* A new value for a control; with the whole list where the short one does not have it. */
  function update(name, value) {
    const { whole, short, all: every, left_out } = LDM.controls[name];
    if (left_out) { // what an address asks for stays in the list: the room says why there is no such thing
      const without = left_out[state.values.checkpoint] ?? [];
      return { ...SAME, value, choices: every.filter(([, choice]) => choice === value || !without.includes(choice)) };
    }
    if (!whole) { // of what was opened a run has the words, too
      const opened = state.opened.filter(([, choice]) => LDM.controls[name].follows && choice === value);
      return opened.length ? { ...SAME, value, choices: opened } : { ...SAME, value };
    }
    const all = state.whole || ![...state.opened, ...short].some(([, choice]) => choice === value);
    return all || state.opened.length ? { ...SAME, value, choices: [...state.opened, ...(all ? whole : short)] } : { ...SAME, value };
  }

  /* A checkpoint of other images has other classes to choose from. */
  function fit() {
    const { checkpoint, class_name, number } = state.values;
    const { classes: row, address } = LDM.images[LDM.checkpoints[checkpoint]] ?? {};
    const known = row?.find(({ name }) => name === class_name) ?? row?.at(address ? -1 : 0);
    if (known) Object.assign(state.values, { class_name: known.name, number: Math.min(number, known.count) });
    tell("values");
  }

  /* For sliders: only where the value has come to rest is asked for. */
  async function settle(list) {
    const moved = (state.moved = {});
    await new Promise((resolve) => setTimeout(resolve, SETTLED_MS));
    return state.moved === moved ? gather(null, list) : asks.map(() => SAME);
  }

  function enter(room) {
    if (room !== state.room) {
      state.step = null;
      if (state.room) quit(state.room);
    }
    state.room = room;
    if (state.lesson && LDM.lessons[state.lesson] !== room) teach(null);
    document.body.dataset.room = room;
    document.querySelectorAll(".ldm-strip [data-room]").forEach((box) => {
      box.toggleAttribute("aria-current", box.dataset.room === room);
    });
    const select = document.querySelector(".ldm-rooms select");
    if (select) select.value = room;
    tell("values");
  }

  /* Checkpoints of an address that the page does not know and the server may: it is asked before anything else. */
  function strangers(query) {
    if (!LDM.opens) return [];
    const { choices } = LDM.controls.checkpoint;
    const named = ["checkpoint", "b.checkpoint"].flatMap((name) => query.getAll(name).slice(-1));
    return named.filter((text) => text && !choices.includes(text) && !(text in state.refused));
  }

  /* Called at the start and after Back: the address's values, for the controls, the tabs and the room's question. */
  function read() {
    const query = new URLSearchParams(location.search), wrong = [];
    const unknown = strangers(query);
    if (unknown.length) {
      tell("strangers", unknown);
      return [...parameters.map(() => SAME), SAME, SAME, ...asks.map(() => SAME)];
    }
    const room = names.includes(query.get("room")) ? query.get("room") : names[0];
    if (query.has("room") && room !== query.get("room")) wrong.push(`there is no room ${query.get("room")}`);
    for (const name of parameters) {
      const { value, upload } = LDM.controls[name];
      if (upload) continue;
      const given = query.getAll(name).map((text) => known(name, text, wrong)).filter((item) => item !== undefined);
      state.values[name] = !given.length ? value : Array.isArray(value) ? given : given.at(-1);
    }
    for (const name of parameters) {
      const leader = LDM.controls[name].follows;
      if (leader && !query.has(name)) state.values[name] = state.values[leader];
    }
    for (const name of parameters) {
      const brought = LDM.controls[name].own?.[state.values.checkpoint];
      if (brought === undefined) continue;
      state.brought[name] = brought;
      if (!query.has(name)) state.values[name] = brought;
    }
    const pinned = [...query].filter(([name]) => name.startsWith("b.")).map(([name, value]) => [name.slice(2), value])
      .filter(([name, value]) => parameters.includes(name) && !together.includes(name) && known(name, value, wrong) !== undefined);
    state.pinned = pinned.length ? [...pinned, ...ofB(new Map(pinned).get("checkpoint"), query)] : null;
    if (query.has("large")) document.body.classList.add("ldm-large"); // Back leaves the size of the text as it is
    teach(query.get("lesson"));
    state.started = true;
    state.opening = room === (state.room ?? names[0]) ? null : room;
    enter(room);
    state.step = /^\d{1,6}$/.test(query.get("step") ?? "") ? Number(query.get("step")) : null;
    fit();
    remember(false);
    tell("pin");
    say(wrong);
    const values = parameters.map((name) => (LDM.controls[name].upload && !state.cleared ? SAME : set(name, state.values[name])));
    state.cleared = false;
    return [...values, { ...SAME, selected: room }, pinning(), ...questions()];
  }

  /* Of what an address leaves to the checkpoints, B takes what its own is made for, and not what A's is. */
  function ofB(checkpoint, query) {
    if (!checkpoint) return [];
    const left = parameters.filter((name) => LDM.controls[name].own && !query.has(name) && !query.has(`b.${name}`));
    return left.map((name) => [name, String(LDM.controls[name].own[checkpoint] ?? LDM.controls[name].value)]);
  }

  /* A checkpoint that is made for another value than the usual brings it with it, and takes it along when it goes. */
  function own(name, checkpoint, value) {
    const { own: known, value: usual } = LDM.controls[name], before = state.brought[name];
    state.brought[name] = known[checkpoint];
    const next = known[checkpoint] ?? (value === before ? usual : value);
    return next === value ? SAME : set(name, next);
  }

  /* Of a list the choices that a checkpoint has; one that it does not have gives way to the usual. */
  function fitting(name, chosen, value) {
    const checkpoint = chosen || state.values.checkpoint, { left_out, value: usual } = LDM.controls[name];
    state.values.checkpoint = checkpoint;
    return set(name, left_out[checkpoint]?.includes(value) ? usual : value);
  }

  /* The value that a parameter's text stands for, undefined where it stands for none. */
  function known(name, text, wrong) {
    const { value, low, high, whole_number, choices } = LDM.controls[name];
    const number = typeof value === "number";
    const found = number ? Number(text) : text;
    const fits = number ? /^-?[0-9.]+(e-?[0-9]+)?$/i.test(text) && (!whole_number || Number.isInteger(found)) && found >= (low ?? -Infinity) && found <= (high ?? Infinity) : !choices || choices.includes(text);
    if (fits) return found;
    wrong.push(`${name} is ${text.slice(0, 60)}`);
  }

  function say(wrong) {
    const place = document.querySelector("#ldm-message");
    const why = Object.entries(state.refused).filter(([text]) => wrong.includes(`checkpoint is ${text.slice(0, 60)}`)).map(([, sentence]) => ` ${sentence}`);
    place.textContent = wrong.length ? `Not all of this address is known here: ${wrong.join(", ")}. The usual is shown in its place.${why.join("")}` : "";
  }

  function pin() {
    state.pinned = state.pinned ? null : [...question(state.room, state.values)].filter(([name]) => !together.includes(name));
    tell("pin");
    click("ldm-gather");
    const differ = rooms[state.room].parameters.filter((name) => !together.includes(name)).map((name) => LDM.controls[name]?.label).filter(Boolean);
    document.querySelector("#ldm-message").textContent = state.pinned ? `B is kept: it stands beside A as soon as these differ: ${differ.join(", ")}. Image and seed are the same for both.` : "";
    return pinning();
  }

  /* What the button says that keeps B. */
  const pinning = () => ({ ...SAME, value: state.pinned ? "Remove B" : "Keep as B" });

  /* Ask once more, for what has a new stamp since; the server answers nothing where it has not. */
  function again(seen) {
    state.seen = stamp(seen);
    click("ldm-gather");
  }

  /* What makes a question another one, though nothing else is asked. */
  const stamp = (seen) => `${seen}.${(stamp.times = (stamp.times ?? 0) + 1)}`;

  /* Long work of a room that is left ends; where it was under way, or may have been, it goes on when it is opened again. */
  function quit(room) {
    const stage = document.querySelector(`#ldm-ask-${room}`)?.closest(".tabitem")?.querySelector(".ldm-stage")?.ldm;
    for (const [name, part] of asks) {
      const ended = name === room && (stage?.done() || stage?.halted());
      if (part.room !== room || !part.long || ended || state.asked[name] === undefined) continue;
      state.ending.add(name);
      state.left.add(name);
    }
  }

  function open(room) {
    state.wanted = room;
    click("ldm-go");
  }

  function follow(link) {
    history.pushState(null, "", link);
    click("ldm-read");
  }

  /* Other values for some parameters, as if they had been chosen in their controls. */
  function change(values) {
    state.changes = values;
    click("ldm-change");
  }

  function changed() {
    return parameters.map((name) => (name in state.changes ? set(name, state.changes[name]) : SAME));
  }

  /* End the run of the open room, and ask for it once more, which finds what there was of it. */
  function halt() {
    state.ending.add(state.room);
    click("ldm-gather");
  }

  function resume() {
    again("");
  }

  /* All choices as the page opened with, in the room that is open. */
  function reset() {
    state.cleared = true;
    for (const name of parameters) if (LDM.controls[name].upload) state.values[name] = null;
    follow(`?room=${state.room}`);
  }

  /* The lesson that the banner shows. */
  function teach(name) {
    state.lesson = Object.hasOwn(LDM.lessons, name ?? "") ? name : null;
    tell("lesson");
  }

  function leave() {
    teach(null);
    remember(true);
  }

  function seek(step) {
    state.step = step;
    clearTimeout(seek.timer);
    seek.timer = setTimeout(() => remember(false), 200);
  }

  /* For a projector: 20 px and the whole width, the choices in a sheet. */
  function enlarge() {
    document.body.classList.toggle("ldm-large");
    remember(false);
    dispatchEvent(new Event("resize"));
  }

  /* A checkpoint that was opened joins the list; all choices stay as they are. */
  function join({ asked, reference, label, images }) {
    const control = LDM.controls.checkpoint;
    state.opened = [[label, reference], ...state.opened.filter(([, known]) => known !== reference)];
    for (const name of [reference, asked]) {
      delete state.refused[name];
      if (!control.choices.includes(name)) control.choices.push(name);
    }
    const { picture, ...rest } = images;
    const bytes = picture && Uint8Array.from(atob(picture), (character) => character.charCodeAt(0));
    const address = bytes && URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    LDM.checkpoints[reference] = LDM.checkpoints[asked] = LDM.images.push({ ...rest, address }) - 1;
  }

  /* The address of a room with all that is chosen, but for some values. */
  function linkTo(room, values) {
    const query = question(room, { ...state.values, ...values }, parameters);
    for (const name of parameters) if (LDM.controls[name].upload) query.delete(name);
    for (const [name, value] of state.pinned ?? []) query.append(`b.${name}`, value);
    return `?room=${room}&${query}`;
  }

  const listen = (listener) => state.listeners.push(listener);
  const tell = (what, detail) => state.listeners.forEach((listener) => listener(what, detail));

  addEventListener("popstate", () => click("ldm-read"));

  return { state, gather, settle, read, pin, again, halt, resume, turn, enlarge, open, own, fitting, follow, change, changed, reset, leave, seek, address, listen, tell, visible, rooms, names, join, linkTo, selected: () => [{ __type__: "update", selected: state.wanted }] };
})();
