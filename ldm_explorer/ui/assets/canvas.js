/* What a stage shows now on one canvas: its pictures 8 times as large, every pixel a square, with their words. */
ldm.drawn = async (stage) => {
  const TIMES = 8, MOST = 2400, GAP = 16, LINE = 20, FONT = "15px system-ui, sans-serif";
  const DRAWN = ["fill", "stroke", "strokeWidth", "strokeDasharray", "strokeLinejoin", "opacity", "paintOrder", "fontFamily", "fontSize", "fontWeight"];
  const style = getComputedStyle(document.body), ink = style.color, paper = style.backgroundColor;
  const canvas = ldmElement("canvas"), context = canvas.getContext("2d");

  /* One picture: what to draw, its size, and its caption in lines. */
  async function cell(figure, beside) {
    const image = figure.querySelector("img") ?? await vector(figure.querySelector("svg"), beside);
    const [width, height] = [image.naturalWidth, image.naturalHeight];
    const times = image.vector ? 1 : enlarged(image);
    const words = [...(figure.querySelector("figcaption")?.children ?? [])].map((part) => part.textContent).filter(Boolean).join(": ");
    return { image, width: width * times, height: height * times, words: wrapped(words, Math.max(width * times, 140)) };
  }

  const enlarged = ({ naturalWidth, naturalHeight }) => Math.max(1, Math.min(TIMES, Math.floor(MOST / Math.max(naturalWidth, naturalHeight))));

  /* A drawing as an image, as the page draws it, and enlarged as the picture beside it. */
  async function vector(svg, beside) {
    const copy = svg.cloneNode(true), sources = [svg, ...svg.querySelectorAll("*")];
    [copy, ...copy.querySelectorAll("*")].forEach((part, index) => {
      const drawn = getComputedStyle(sources[index]);
      for (const name of DRAWN) part.style[name] = drawn[name];
    });
    const { width, height } = svg.getBoundingClientRect();
    const times = beside ? (beside.naturalWidth * enlarged(beside)) / beside.getBoundingClientRect().width : 2;
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    copy.setAttribute("width", width * times);
    copy.setAttribute("height", height * times);
    const image = new Image();
    image.src = `data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
    await image.decode();
    image.vector = true;
    return image;
  }

  function wrapped(words, width) {
    context.font = FONT;
    return words.split(/\s+/).reduce((lines, word) => {
      const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
      return lines.length && context.measureText(longer).width <= width ? [...lines.slice(0, -1), longer] : [...lines, word];
    }, []);
  }

  /* A side: its heading, its rows of pictures, its numbers. */
  async function column(index) {
    const rows = [], words = [];
    for (const block of stage.querySelectorAll(".ldm-sides")) {
      const section = block.children[index];
      if (!section) continue;
      words.push(...[...section.querySelectorAll("h3")].map((title) => title.textContent));
      const beside = section.querySelector("figure img");
      const cells = await Promise.all([...section.querySelectorAll("figure")].map((figure) => cell(figure, beside)));
      if (cells.length) rows.push(cells);
      rows.facts = [...section.querySelectorAll("dt")].map((name) => `${name.textContent}: ${name.nextElementSibling.textContent}`);
    }
    const width = Math.max(200, ...rows.map((cells) => cells.reduce((sum, each) => sum + Math.max(each.width, 140) + GAP, -GAP)));
    const parts = [{ lines: wrapped(words.join(" "), width) }, ...rows.map((cells) => ({ cells })), { lines: (rows.facts ?? []).flatMap((fact) => wrapped(fact, width)) }];
    return { width, parts: parts.map((part) => ({ ...part, height: tall(part) })) };
  }

  const tall = ({ lines, cells }) => lines ? lines.length * LINE : Math.max(...cells.map((each) => each.height + each.words.length * LINE)) + GAP;

  const columns = [];
  for (let index = 0; index < Math.max(...[...stage.querySelectorAll(".ldm-sides")].map((block) => block.childElementCount)); index++) columns.push(await column(index));
  const label = stage.querySelector(".ldm-time:not(.single) .ldm-label")?.textContent ?? "";
  canvas.width = columns.reduce((sum, { width }) => sum + width + GAP, GAP);
  canvas.height = Math.max(...columns.map(({ parts }) => parts.reduce((sum, { height }) => sum + height, 0))) + 2 * GAP + (label ? LINE : 0);
  Object.assign(context, { fillStyle: paper, imageSmoothingEnabled: false });
  context.fillRect(0, 0, canvas.width, canvas.height);
  Object.assign(context, { fillStyle: ink, font: FONT, textBaseline: "top" });
  let left = GAP;
  for (const { width, parts } of columns) {
    let top = GAP;
    for (const { lines, cells, height } of parts) {
      (lines ?? []).forEach((line, row) => context.fillText(line, left, top + row * LINE));
      (cells ?? []).reduce((x, each) => {
        context.drawImage(each.image, x, top, each.width, each.height);
        each.words.forEach((line, row) => context.fillText(line, x, top + each.height + 4 + row * LINE));
        return x + Math.max(each.width, 140) + GAP;
      }, left);
      top += height;
    }
    left += width + GAP;
  }
  if (label) context.fillText(label, GAP, canvas.height - GAP - LINE / 2);
  return canvas;
};
