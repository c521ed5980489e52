// The timeline: zoomed by wheel, buttons and keys, moved by dragging and keys, told by hover and keys.
// What is drawn as it opens comes with the page; from here on the boxes in sight are drawn anew.
function timeline(chart) {
  const all = JSON.parse(chart.querySelector("script").textContent);
  const tracks = chart.querySelector(".tracks"), svg = tracks.querySelector("svg");
  const groups = [...svg.querySelectorAll("g")], told = chart.querySelector(".told");
  const [critical, halo, late, cursor] = ["critical", "halo", "late", "cursor"].map((one) => svg.querySelector(`.${one}`));
  const WIDTH = 100000, SHORTEST = 2000, MIDDLE = 0.69, BAR = 0.42, HEIGHT = 0.54;
  const running = (steps) => { let sum = 0; return steps.map((step) => (sum += step)); };
  const lanes = all.lanes.map((lane) => ({ ...lane, start: running(lane.start) }));
  const text = (ns) => ns >= 1e6 ? `${(ns / 1e6).toFixed(ns >= 1e8 ? 1 : 3)} ms` : `${(ns / 1e3).toFixed(1)} µs`;
  let from = 0, length = all.span, chosen = { lane: 0, piece: -1 };

  // the last piece that starts at or before a time
  const before = (starts, at) => {
    let low = 0, high = starts.length;
    while (low < high) { const middle = (low + high) >> 1; if (starts[middle] <= at) low = middle + 1; else high = middle; }
    return low - 1;
  };

  function draw() {
    const scale = WIDTH / length, pixel = WIDTH / Math.max(svg.clientWidth, 1), to = from + length;
    lanes.forEach((lane, place) => {
      const lines = all.shades.map(() => []);
      let last = -1, end = -1;
      for (let piece = Math.max(before(lane.start, from), 0); piece < lane.start.length && lane.start[piece] < to; piece++) {
        const left = Math.max((lane.start[piece] - from) * scale, 0);
        const right = Math.min((lane.start[piece] + lane.length[piece] - from) * scale, WIDTH);
        if (right < 0 || (right < end && lane.shade[piece] === last)) continue;  // inside the pixel drawn last
        const width = Math.max(right - left, pixel * 0.6);
        lines[lane.shade[piece]].push(`M${left.toFixed(1)} ${BAR}h${width.toFixed(1)}v${HEIGHT}h-${width.toFixed(1)}z`);
        last = lane.shade[piece];
        end = left + pixel * 0.6;
      }
      const drawn = lines.map((line, shade) => line.length ? box(all.shades[shade][0], line.join("")) : null);
      groups[place].replaceChildren(groups[place].firstElementChild, ...drawn.reverse().filter(Boolean));
    });
    const line = path(scale, pixel, () => true), unexplained = all.rules.length - 1;
    critical.setAttribute("d", line);
    halo.setAttribute("d", line);
    late.setAttribute("d", path(scale, pixel, (place) => all.path.rule[place] === unexplained));
    mark(scale);
    ticks();
    tracks.classList.toggle("zoomed", length < all.span);
    chart.dataset.from = from;
    chart.dataset.length = length;
  }

  function box(fill, line) {
    const found = document.createElementNS("http://www.w3.org/2000/svg", "path");
    found.setAttribute("class", `fill-${fill}`);
    found.setAttribute("d", line);
    return found;
  }

  function path(scale, pixel, wanted) {
    const { lane, start, length: lengths } = all.path;
    let line = "", reached = -1;
    for (let place = Math.max(before(start, from), 0); place < start.length && start[place] < from + length; place++) {
      if (lane[place] < 0 || !wanted(place)) continue;
      const left = Math.max((start[place] - from) * scale, -pixel), right = Math.min((start[place] + lengths[place] - from) * scale, WIDTH + pixel);
      line += `${start[place] === reached ? "V" : `M${left.toFixed(1)} `}${(lane[place] + MIDDLE).toFixed(2)}H${right.toFixed(1)}`;
      reached = start[place] + lengths[place];
    }
    return line;
  }

  function ticks() {
    const unit = 10 ** Math.floor(Math.log10(length / 4)), most = svg.clientWidth < 500 ? 4 : 7;
    const every = [1, 2, 5, 10, 20].map((step) => unit * step).find((step) => length / step <= most);
    const row = chart.querySelector(".ticks"), found = [];
    for (let at = Math.ceil(from / every) * every; at <= from + length; at += every) {
      const tick = document.createElement("span"), left = 100 * (at - from) / length;
      tick.textContent = `${+(at / 1e6).toPrecision(10)} ms`;
      tick.style.left = `${left}%`;
      if (left < 3 || left > 96) tick.style.transform = `translateX(${left < 3 ? 0 : -100}%)`;
      found.push(tick);
    }
    row.replaceChildren(...found);
  }

  function show(newFrom, newLength) {
    length = Math.min(Math.max(newLength, Math.min(SHORTEST, all.span)), all.span);
    from = Math.min(Math.max(newFrom, 0), all.span - length);
    requestAnimationFrame(draw);
  }
  const zoom = (factor, at = from + length / 2) => {
    const wanted = Math.min(Math.max(length * factor, Math.min(SHORTEST, all.span)), all.span);
    show(at - (at - from) * wanted / length, wanted);
  };
  const actions = {
    in: () => zoom(0.5), out: () => zoom(2), all: () => show(0, all.span),
    left: () => show(from - length / 4, length), right: () => show(from + length / 4, length),
  };

  function words(lane, piece) {
    const one = lanes[lane], merged = one.tasks[piece];
    const lines = [all.names[one.name[piece]] + (merged ? ` and ${merged - 1} more` : "")];
    lines.push(`${all.shades[one.shade[piece]][1]}, rank ${one.rank}, ${one.label}`);
    lines.push(`from ${text(one.start[piece])}, for ${text(one.length[piece])}`);
    const middle = one.start[piece] + one.length[piece] / 2, on = before(all.path.start, middle);
    if (on >= 0 && all.path.lane[on] === lane && middle < all.path.start[on] + all.path.length[on]) {
      lines.push(`on the critical path: ${all.rules[all.path.rule[on]]}`);
    }
    return lines.join("\n");
  }

  // the piece at a place of the screen, or the nearest within a few pixels
  function under(event) {
    const frame = svg.getBoundingClientRect(), lane = Math.floor((event.clientY - frame.top) / frame.height * lanes.length);
    if (!lanes[lane]) return null;
    const at = from + (event.clientX - frame.left) / frame.width * length, near = 3 * length / frame.width;
    const { start, length: lengths } = lanes[lane], first = before(start, at + near);
    for (let piece = first; piece >= 0 && piece > first - 8; piece--) {
      if (start[piece] + lengths[piece] >= at - near) return { lane, piece };
    }
    return null;
  }

  function mark(scale) {
    const { lane, piece } = chosen;
    if (piece < 0) return cursor.setAttribute("d", "");
    const left = (lanes[lane].start[piece] - from) * scale, width = Math.max(lanes[lane].length[piece] * scale, WIDTH / svg.clientWidth);
    cursor.setAttribute("d", `M${left} ${lane + BAR}h${width}v${HEIGHT}h${-width}z`);
  }

  function choose(lane, piece) {
    chosen = { lane, piece };
    const start = lanes[lane].start[piece], end = start + lanes[lane].length[piece];
    told.textContent = words(lane, piece).replaceAll("\n", " · ");
    if (start < from || end > from + length) show(Math.min(start, Math.max((start + end - length) / 2, start - length / 2)), length);
    else draw();
  }
  const step = (by) => {
    const { lane, piece } = chosen, most = lanes[lane].start.length - 1;
    const first = Math.max(before(lanes[lane].start, from + length / 2), 0);
    choose(lane, piece < 0 ? first : Math.min(Math.max(piece + by, 0), most));
  };
  const lane = (by) => {
    const next = Math.min(Math.max(chosen.lane + by, 0), lanes.length - 1);
    choose(next, Math.max(before(lanes[next].start, from + length / 2), 0));
  };
  const keys = {
    "+": actions.in, "=": actions.in, "-": actions.out, "0": actions.all, Home: actions.all, Escape: actions.all,
    ArrowLeft: actions.left, ArrowRight: actions.right, ArrowUp: () => lane(-1), ArrowDown: () => lane(1),
    n: () => step(1), p: () => step(-1),
  };

  chart.querySelector(".tools").hidden = false;
  for (const button of chart.querySelectorAll("[data-do]")) button.addEventListener("click", actions[button.dataset.do]);
  tracks.tabIndex = 0;
  tracks.setAttribute("role", "application");
  tracks.setAttribute("aria-label", "Timeline: plus and minus zoom, left and right move, up and down choose a lane, N and P step through its tasks");
  tracks.addEventListener("keydown", (event) => {
    const act = keys[event.key] ?? keys[event.key.toLowerCase()];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });

  // the wheel zooms once the pointer has moved here: a page that is scrolled past goes on scrolling
  let pointed = false, held = null;
  addEventListener("scroll", () => { pointed = false; }, { passive: true });
  tracks.addEventListener("wheel", (event) => {
    const inwards = event.deltaY < 0;
    if (!(pointed || event.ctrlKey) || (!inwards && length >= all.span)) return;
    event.preventDefault();
    hint.hide();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) return show(from + event.deltaX * length / svg.clientWidth, length);
    const frame = svg.getBoundingClientRect();
    zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) / 150), from + (event.clientX - frame.left) / frame.width * length);
  }, { passive: false });
  tracks.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    held = { x: event.clientX, from, moved: false };
    tracks.setPointerCapture(event.pointerId);
  });
  tracks.addEventListener("pointermove", (event) => {
    if (event.movementX || event.movementY) pointed = true;
    if (held && Math.abs(event.clientX - held.x) > 3) {
      held.moved = true;
      tracks.classList.add("dragging");
      hint.hide();
      return show(held.from - (event.clientX - held.x) * length / svg.clientWidth, length);
    }
    const found = under(event);
    if (found) hint.show(words(found.lane, found.piece), event.clientX, event.clientY); else hint.hide();
  });
  tracks.addEventListener("pointerup", (event) => {
    const found = held && !held.moved && under(event);
    if (found) choose(found.lane, found.piece);
    held = null;
    tracks.classList.remove("dragging");
  });
  tracks.addEventListener("pointercancel", () => { held = null; tracks.classList.remove("dragging"); });
  tracks.addEventListener("pointerleave", () => { if (!held) hint.hide(); });
  // drawn when it is first seen, and whenever it becomes wider or narrower
  new ResizeObserver(() => { if (svg.clientWidth) requestAnimationFrame(draw); }).observe(svg);
}
