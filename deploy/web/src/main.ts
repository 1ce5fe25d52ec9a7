/** The page put together. */

import { BoxEditor } from "./boxeditor";
import { Camera } from "./camera";
import { calm, element, percent, pixels, twice } from "./dom";
import { css, INK, PAPER, SIDES } from "./drawing/palette";
import { drawFigure, type Accents, type Figure } from "./drawing/figure";
import { Engine, type ModelName } from "./engine";
import { pictureDocument } from "./output";
import { Panel } from "./panel";
import { decode, fileOf, save, stem } from "./picture";
import { Pose, type LawFacts } from "./pose/pose";
import { FINE, QUICK, type Fineness, type Outline } from "./pose/regions";
import { spoken } from "./pose/skeleton";
import { Session, type Point } from "./session";
import { Stage } from "./stage";
import sample from "./sample.json";
import { View } from "./view";
import type { Box } from "./worker/geometry";
import type { Estimate } from "./worker/protocol";
import { CANCELLED } from "./worker/protocol";

interface Shown {
  name: string;
  source: ImageBitmap | HTMLCanvasElement;
  width: number;
  height: number;
}

const SETTLE = 220; // Milliseconds in which a pose moves to its new place.
const UNSEEN = "Her legs are not in the picture: where they are is a guess, and the regions say so.";
const LARGEST = 2400; // Longer side of a saved picture, pixels, unless the picture itself is larger.

const session = new Session();
let shown: Shown | null = null;
let mass = 0.5;
let pointed: number | null = null;
let chosen: number | null = null;
let together = false;
let other: Pose | null = null;
let skeletonKey = "";
let onWorker: Shown | null = null;
/** Counts what the picture is asked: an answer that comes after the next question is dropped. */
let job = 0;
/** Counts movements: a new one ends the last. */
let motion = 0;
let live = false;
let mirrored = true;

const stage = new Stage({ point, drag, nudge, hold, free, resized });
const panel = new Panel(point, (pose) => {
  other = pose;
  refresh();
});
const boxes = new BoxEditor((box) => void estimate(box));
const camera = new Camera(() => {
  stopCamera();
  notice("The camera is gone. What it last saw stays here.");
});
const engine = new Engine(
  async () => createImageBitmap(await (await fetch("./sample.jpg")).blob()),
  (share) => progress(share),
  () => {
    onWorker = null;
    tellEngine();
    element<HTMLButtonElement>("find").disabled = !shown;
  },
);

function resized(): void {
  boxes.refit(stage.view);
  const hinted = !element("hint").hidden;
  refresh();
  if (hinted) requestAnimationFrame(() => hint(hintJoint()));
}

// What is drawn ----------------------------------------------------------------------------------------------------------

let regionsOf: { pose: Pose; mass: number; fineness: Fineness; regions: Outline[][] } | null = null;

function regions(pose: Pose, fineness: Fineness): Outline[][] {
  const fresh = regionsOf && regionsOf.pose === pose && regionsOf.mass === mass;
  if (!fresh || (regionsOf!.fineness === QUICK && fineness === FINE)) {
    const found = Array.from({ length: pose.joints }, (_, joint) => pose.region(joint, mass, fineness));
    regionsOf = { pose, mass, fineness, regions: found };
  }
  return regionsOf!.regions;
}

let formerOf: { pose: Pose; mass: number; figure: Figure } | null = null;

function figureOf(pose: Pose, outlines: Outline[][]): Figure {
  return { skeleton: pose.skeleton, points: pose.keypoints, regions: outlines, known: new Set(pose.known.keys()) };
}

function former(base: Pose): Figure {
  if (formerOf?.pose !== base || formerOf.mass !== mass) {
    const outlines = Array.from({ length: base.joints }, (_, joint) => base.region(joint, mass, QUICK));
    formerOf = { pose: base, mass, figure: figureOf(base, outlines) };
  }
  return formerOf.figure;
}

/** Draw the pose as it is now. Returns the figure. */
function draw(fineness: Fineness): Figure | null {
  const { pose, base } = session;
  if (!pose || !base) {
    stage.draw(null);
    return null;
  }
  const figure = figureOf(pose, regions(pose, fineness));
  const accents: Accents = { chosen: pointed ?? chosen };
  if (stage.dragging !== null) accents.former = former(base);
  if (other) accents.other = figureOf(other, []);
  const picked = pointed ?? chosen;
  if (together && picked !== null && !pose.known.has(picked)) {
    const { gains, correlations } = pose.following(picked);
    const { major, angle } = pose.ellipse(picked, mass);
    const step = [major * Math.cos(angle), major * Math.sin(angle)];
    accents.moves = {
      strength: correlations,
      steps: gains.map((g) => [g[0] * step[0] + g[1] * step[1], g[2] * step[0] + g[3] * step[1]]),
    };
  }
  stage.draw(figure, accents);
  return figure;
}

let asked = 0;
let told = 0;
let labels = 0;

/** Draw in the next frame, and tell the numbers. */
function refresh(): void {
  if (asked) return;
  asked = requestAnimationFrame(() => {
    asked = 0;
    const start = performance.now();
    const quick = stage.dragging !== null || live;
    draw(quick ? QUICK : FINE);
    // Numbers that change sixty times a second cannot be read.
    if (stage.dragging === null || start - told > 80) {
      panel.tell(session.base, session.pose);
      told = start;
    }
    if (stage.dragging !== null) performance.measure("posecov:drag", { start });
    buttons();
    tip();
    clearTimeout(labels);
    labels = window.setTimeout(settled, quick ? 250 : 0);
  });
}

/** What can wait until a movement ends. */
function settled(): void {
  const { pose } = session;
  panel.sides(pose);
  if (!pose) return;
  const [points, errors] = [pose.keypoints, pose.expectedError];
  pose.skeleton.keypoints.forEach((name, joint) => {
    const place = `at ${Math.round(points[2 * joint])}, ${Math.round(points[2 * joint + 1])}`;
    const how = pose.known.has(joint) ? "fixed" : `expected error ${pixels(errors[joint])}`;
    stage.label(joint, `${spoken(name)}, ${how}, ${place}`);
  });
}

/** Draw a pose that took another's place: its joints go there from where they were. */
function settle(before: ArrayLike<number> | null): void {
  const { pose } = session;
  motion++;
  if (!pose || !before || calm() || document.hidden) return refresh();
  const [from, to] = [Float64Array.from(before), pose.keypoints];
  const outlines = regions(pose, FINE);
  const start = performance.now();
  panel.tell(session.base, pose);
  const turn = ++motion;
  const step = (now: number): void => {
    if (turn !== motion || stage.dragging !== null) return;
    const t = Math.min(Math.max((now - start) / SETTLE, 0), 1);
    const eased = 1 - (1 - t) ** 3;
    if (t === 1) return refresh();
    const points = to.map((value, i) => from[i] + eased * (value - from[i]));
    const moved = outlines.map((parts, joint) => {
      const [dx, dy] = [points[2 * joint] - to[2 * joint], points[2 * joint + 1] - to[2 * joint + 1]];
      return parts.map((part) => part.map((value, i) => value + (i % 2 ? dy : dx)));
    });
    stage.draw({ ...figureOf(pose, moved), points }, { opacity: 0.4 + 0.6 * eased });
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

function tip(): void {
  const { pose } = session;
  if (!pose || pointed === null || stage.dragging !== null || live) return stage.say(null);
  const name = spoken(pose.skeleton.keypoints[pointed]);
  if (pose.known.has(pointed)) return stage.say(pointed, [name, `fixed; ${twice()} to free it`]);
  const lines = [name, `expected to be ${pixels(pose.expectedError[pointed])} off`];
  const point = pose.point(pointed)!;
  const [x, y] = point.means[0];
  // Where this joint is when left and right are exchanged, in so far as that is elsewhere.
  const elsewhere = point.means.reduce((sum, [ox, oy], k) => sum + (Math.hypot(ox - x, oy - y) > 1 ? point.weights[k] : 0), 0);
  if (elsewhere >= 0.005) lines.push(`${percent(elsewhere)} that it is on the other side`);
  stage.say(pointed, lines);
}

function buttons(): void {
  const { pose } = session;
  for (const id of ["undo", "reset", "box", "find"]) element(id).hidden = live;
  element<HTMLButtonElement>("undo").disabled = !session.canUndo;
  element<HTMLButtonElement>("reset").disabled = !session.fixed.size;
  element<HTMLButtonElement>("save-png").disabled = !shown;
  element<HTMLButtonElement>("save-json").disabled = !pose;
  element<HTMLButtonElement>("together").disabled = !pose;
}

// What people do ---------------------------------------------------------------------------------------------------------

function point(joint: number | null): void {
  pointed = joint;
  if (joint !== null) chosen = together ? joint : null;
  panel.choose(joint);
  refresh();
}

let dragged = false;

function drag(joint: number, place: Point, phase: "start" | "move" | "end" | "cancel"): void {
  if (live && phase === "start") holdStill();
  if (phase === "start") {
    session.remember();
    dragged = true;
    job++;
    motion++;
    busy(null);
    hint(null);
  }
  if (phase === "start" || phase === "move") {
    session.fix(joint, place);
  } else if (phase === "cancel") {
    session.undo();
    refresh();
  } else {
    announceFix(joint);
  }
  refresh();
}

function nudge(joint: number, dx: number, dy: number): void {
  const { pose } = session;
  if (!pose || live) return;
  hint(null);
  if (!session.fixed.has(joint)) session.remember();
  const [x, y] = pose.keypoints.subarray(2 * joint, 2 * joint + 2);
  session.fix(joint, [x + dx, y + dy]);
  refresh();
  announceFix(joint);
}

function hold(joint: number): void {
  const { pose } = session;
  if (!pose || pose.known.has(joint) || live) return;
  hint(null);
  session.remember();
  const before = pose.keypoints;
  session.fix(joint, [before[2 * joint], before[2 * joint + 1]]);
  announceFix(joint);
  settle(before);
}

function free(joint: number): void {
  change(() => session.free(joint), `${spoken(session.pose?.skeleton.keypoints[joint] ?? "")} is free`);
}

/** Change the session and show where everything goes. */
function change(how: () => boolean, said: string): void {
  const before = session.pose?.keypoints ?? null;
  if (live || !how()) return;
  announce(said);
  if (boxes.open) boxes.edit((session.base?.box as Box | null) ?? null, stage.view);
  settle(before);
}

let announcement = 0;

function announce(text: string): void {
  clearTimeout(announcement);
  announcement = window.setTimeout(() => (element("live").textContent = text), 300);
}

function announceFix(joint: number): void {
  const { pose, base } = session;
  if (!pose || !base) return;
  const mean = (errors: number[]): string => pixels(pose.free.reduce((sum, j) => sum + errors[j], 0) / Math.max(pose.free.length, 1));
  const name = spoken(pose.skeleton.keypoints[joint]);
  announce(`${name} fixed. Expected error of the others ${mean(base.expectedError)}, now ${mean(pose.expectedError)}.`);
}

function setMass(percentage: number): void {
  const whole = Math.min(Math.max(percentage, 50), 99);
  mass = whole / 100;
  element<HTMLInputElement>("mass").value = String(whole);
  element("mass-value").textContent = `${whole} %`;
  refresh();
}

function setTogether(on: boolean): void {
  together = on && !!session.pose;
  if (together) chosen = pointed ?? chosen ?? hintJoint();
  else chosen = null;
  element("together").setAttribute("aria-pressed", String(together));
  hint(null);
  refresh();
}

function setBoxing(on: boolean): void {
  element("box").setAttribute("aria-pressed", String(on));
  if (on && shown) {
    hint(null);
    point(null);
    const box = (session.base?.box as Box | null) ?? null;
    if (element("notice").hidden) notice(`Draw a box around somebody${box ? ", or pull this one into shape" : ""}.`);
    boxes.edit(box, stage.view);
  } else boxes.close();
}

// Words ------------------------------------------------------------------------------------------------------------------

let noticed = 0;

/** One line over the picture, for a while. */
function notice(text: string | null): void {
  const line = element("notice");
  clearTimeout(noticed);
  line.hidden = !text;
  line.textContent = text ?? "";
  if (text) noticed = window.setTimeout(() => notice(null), 9000);
}

function busy(text: string | null): void {
  element("busy").hidden = !text;
  if (text) element("busy-text").textContent = text;
  element<HTMLProgressElement>("busy-bar").value = 0;
}

function progress(share: number): void {
  element<HTMLProgressElement>("busy-bar").value = share;
  if (!engine.running) element("engine").textContent = `loading the model, ${Math.round(100 * share)} %`;
}

function tellEngine(): void {
  const { running } = engine;
  if (!running) return;
  const { backend, threads, milliseconds, metadata } = running;
  const where = backend === "webgpu" ? "WebGPU" : `WebAssembly${threads > 1 ? `, ${threads} threads` : ""}`;
  element("engine").textContent = `${where} · ${Math.round(milliseconds)} ms`;
  element("engine").title = `${metadata.name}: time for one person`;
  element("engine").dataset.backend = backend;
}

/** The joint to begin with: a wrist in the picture, away from the others. */
function hintJoint(): number | null {
  const { pose } = session;
  if (!pose || !shown) return null;
  const points = pose.keypoints;
  const place = (joint: number): [number, number] => [points[2 * joint], points[2 * joint + 1]];
  let [best, most] = [null as number | null, 0];
  pose.skeleton.keypoints.forEach((name, joint) => {
    const [x, y] = place(joint);
    if (!name.includes("wrist") || !stage.view.holds(stage.view.x(x), stage.view.y(y), 40)) return;
    const gap = Math.min(...pose.free.filter((j) => j !== joint).map((j) => Math.hypot(place(j)[0] - x, place(j)[1] - y)));
    if (gap > most) [best, most] = [joint, gap];
  });
  return best;
}

function hint(joint: number | null): void {
  const box = element("hint");
  if (joint === null || dragged) {
    box.hidden = true;
    return;
  }
  const [x, y] = stage.handle(joint);
  box.style.transform = `translate(${x}px, ${y}px)`;
  box.classList.toggle("leftwards", x > stage.view.width / 2);
  box.querySelector("span")!.textContent = "Drag this wrist";
  box.hidden = false;
}

// Pictures ---------------------------------------------------------------------------------------------------------------

function nameJoints(pose: Pose | null): void {
  const key = pose?.skeleton.keypoints.join() ?? skeletonKey;
  if (!pose || key === skeletonKey) return;
  skeletonKey = key;
  stage.name(pose.skeleton.keypoints);
  panel.name(pose);
}

function show(picture: Shown): void {
  const mirror = live && mirrored;
  shown = picture;
  stage.root.dataset.picture = picture.name;
  panel.remark = "";
  stage.show(picture, mirror);
}

/** Show a file, and find who is in it. */
async function open(file: Blob, name: string): Promise<void> {
  let bitmap: ImageBitmap;
  try {
    bitmap = await decode(file, name);
  } catch (error) {
    return notice((error as Error).message);
  }
  stopCamera();
  notice(null);
  hint(null);
  session.start(null);
  setBoxing(false);
  show({ name, source: bitmap, width: bitmap.width, height: bitmap.height });
  refresh();
  await estimate(null);
}

/** The built-in picture, whose pose is known before any model is loaded. */
async function openSample(): Promise<void> {
  stopCamera();
  notice(null);
  const turn = ++job;
  const bitmap = await createImageBitmap(await (await fetch("./sample.jpg")).blob());
  if (turn !== job) return;
  const outputs = { keypoints: sample.keypoints.flat(), scatter: sample.scatter.flat(), weights: sample.weights };
  session.start(Pose.of(sample.model as unknown as LawFacts, outputs, sample.box));
  nameJoints(session.base);
  setBoxing(false);
  show({ name: sample.image, source: bitmap, width: bitmap.width, height: bitmap.height });
  panel.remark = UNSEEN;
  draw(FINE);
  refresh();
  requestAnimationFrame(() => hint(hintJoint()));
  if (engine.running && engine.running.metadata.name !== sample.model.name) await estimate(sample.box as unknown as Box);
}

/** Ask the model about the picture that is shown; without a box it is searched for a person. */
async function estimate(box: Box | null): Promise<void> {
  const picture = shown;
  const first = !session.base && !session.canUndo;
  const turn = ++job;
  if (!picture) return;
  busy(engine.running ? (box ? "Looking" : "Looking for a person") : "Loading the model");
  let asked: Engine["running"] = null;
  try {
    const running = (asked = await ready());
    if (turn !== job) return;
    busy(box ? "Looking" : "Looking for a person");
    running.client.cancel();
    if (onWorker !== picture) {
      const bitmap = await createImageBitmap(picture.source);
      await running.client.ask("picture", { bitmap }, [bitmap]);
      onWorker = picture;
    }
    const found = await running.client.ask("estimate", { box });
    if (turn !== job || shown !== picture) return;
    const before = session.pose?.keypoints ?? null;
    if (!found) {
      if (first) session.start(null);
      announce("Nobody was found.");
      notice("Nobody was found for sure. Draw a box around the person.");
      setBoxing(true);
    } else {
      const pose = poseOf(found);
      nameJoints(pose);
      if (first) session.start(pose);
      else session.replace(pose);
      if (boxes.open) boxes.edit(found.box, stage.view);
      announce("A person was found.");
    }
    settle(before);
    if (found && first) setTimeout(() => turn === job && hint(hintJoint()), SETTLE + 60);
  } catch (error) {
    if (turn !== job || (error as Error).message === CANCELLED) return;
    // A faster worker took over meanwhile.
    if (asked && asked !== engine.running) return estimate(box);
    notice(`${(error as Error).message}.`);
  } finally {
    if (turn === job) busy(null);
    buttons();
  }
}

function poseOf(found: Estimate): Pose {
  return Pose.of(engine.running!.metadata, found.prediction, found.box);
}

// Camera -----------------------------------------------------------------------------------------------------------------

async function startCamera(): Promise<void> {
  hint(null);
  notice(null);
  setBoxing(false);
  busy("Starting the camera");
  try {
    await camera.start();
    await ready();
  } catch (error) {
    camera.stop();
    notice((error as Error).message);
    return;
  } finally {
    busy(null);
  }
  await engine.running!.client.ask("forget", null);
  element("camera").setAttribute("aria-pressed", "true");
  for (const id of ["freeze", "mirror"]) element(id).hidden = false;
  goOn();
}

function goOn(): void {
  live = true;
  session.start(null);
  element("freeze").textContent = "Hold still";
  void film();
}

async function film(): Promise<void> {
  const turn = ++job;
  let empty = 0;
  while (live && turn === job && camera.on) {
    const canvas = camera.frame();
    const running = engine.running!;
    if (!canvas) {
      await new Promise(requestAnimationFrame);
      continue;
    }
    try {
      const bitmap = await createImageBitmap(canvas);
      const start = performance.now();
      const found = await running.client.ask("frame", { bitmap, time: performance.now() / 1000 }, [bitmap]);
      if (!live || turn !== job) return;
      performance.measure("posecov:frame", { start });
      const pose = found && poseOf(found);
      nameJoints(pose);
      session.start(pose);
      show({ name: "camera.png", source: canvas, width: canvas.width, height: canvas.height });
      onWorker = shown;
      refresh();
      empty = pose ? 0 : empty + 1;
      if (empty === 12) notice("Nobody is seen yet. Step back until the whole body is in the picture.");
      if (pose) notice(null);
    } catch (error) {
      // The worker was changed for a faster one, or failed: the next frame shows which.
      if (running === engine.running) {
        stopCamera();
        return notice(`${(error as Error).message}.`);
      }
    }
    await new Promise(requestAnimationFrame);
  }
}

function holdStill(): void {
  if (!live) return;
  live = false;
  job++;
  element("freeze").textContent = "Go on";
  refresh();
}

function stopCamera(): void {
  live = false;
  job++;
  camera.stop();
  element("camera").setAttribute("aria-pressed", "false");
  for (const id of ["freeze", "mirror"]) element(id).hidden = true;
  if (shown && stage.view.mirror) show(shown);
  refresh();
}

// The model --------------------------------------------------------------------------------------------------------------

let loading: Promise<void> | null = null;

/** Open a model, and ask it about the picture when it is another one. */
async function load(name: ModelName): Promise<void> {
  const asked = new URLSearchParams(location.search).get("backend");
  loading = engine.load(name, asked === "wasm" || asked === "webgpu" ? asked : "auto");
  try {
    await loading;
  } catch (error) {
    const why = navigator.onLine ? (error as Error).message : "there is no network";
    const { running } = engine;
    if (running) {
      tellEngine();
      element<HTMLSelectElement>("model").value = running.metadata.name.endsWith("small") ? "small" : "tiny";
      return notice(`The ${name} model could not be loaded: ${why}. The other one goes on.`);
    }
    element("engine").textContent = "no model";
    notice(`The model could not be loaded: ${why}. The sample can still be dragged; load the page again to try anew.`);
  }
}

/** The worker, once it is there. */
async function ready(): Promise<NonNullable<Engine["running"]>> {
  while (!engine.running) {
    await Promise.race([loading, new Promise((resolve) => setTimeout(resolve, 50))]).catch(() => {});
    if (element("engine").textContent === "no model") throw new Error("There is no model; load the page again");
  }
  return engine.running;
}

async function changeModel(name: ModelName): Promise<void> {
  const before = engine.running;
  busy(`Loading the ${name} model`);
  const wait = load(name);
  while (engine.running === before && (await Promise.race([wait.then(() => true), pause(50)])) !== true);
  busy(null);
  if (engine.running === before || !shown || live) return;
  await estimate((session.base?.box as Box | null | undefined) ?? null);
}

const pause = (milliseconds: number): Promise<false> => new Promise((resolve) => setTimeout(() => resolve(false), milliseconds));

// Files ------------------------------------------------------------------------------------------------------------------

function saveJson(): void {
  if (!shown) return;
  const model = engine.running?.metadata.name ?? sample.model.name;
  const document = pictureDocument(shown.name, shown.width, shown.height, model, mass, session.pose);
  save(`${stem(shown.name)}.json`, new Blob([`${JSON.stringify(document)}\n`], { type: "application/json" }));
}

function savePng(): void {
  if (!shown) return;
  const longer = Math.max(shown.width, shown.height);
  const scale = Math.max(1, Math.min(1600, LARGEST) / longer);
  const [width, height] = [Math.round(shown.width * scale), Math.round(shown.height * scale)];
  const canvas = Object.assign(window.document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d")!;
  const view = View.contain({ width, height }, shown);
  context.imageSmoothingQuality = "high";
  context.drawImage(shown.source, 0, 0, width, height);
  const { pose } = session;
  if (pose) drawFigure(context, view, figureOf(pose, regions(pose, FINE)));
  drawLegend(context, width, height, !!pose?.known.size);
  canvas.toBlob((blob) => blob && save(`${stem(shown!.name)}_pose.png`, blob), "image/png");
}

/** What the colours and regions are, in the lower left corner. */
function drawLegend(context: CanvasRenderingContext2D, width: number, height: number, fixed: boolean): void {
  const size = Math.max(13, 0.022 * Math.min(width, height));
  context.font = `500 ${size}px system-ui, sans-serif`;
  const entries: [string, string | null][] = [
    [`${Math.round(100 * mass)} % regions`, null], ["right", css(SIDES.right)], ["left", css(SIDES.left)],
  ];
  if (fixed) entries.push(["fixed", css(PAPER)]);
  const widths = entries.map(([text, colour]) => context.measureText(text).width + (colour ? size : 0));
  const gap = size * 1.1;
  const whole = widths.reduce((sum, own) => sum + own, gap * (entries.length + 1) - gap * 0.4);
  const [left, top] = [size * 0.8, height - size * 2.9];
  context.fillStyle = css(INK, 0.72);
  context.beginPath();
  context.roundRect(left, top, whole, size * 2.1, size * 0.5);
  context.fill();
  let x = left + gap * 0.8;
  entries.forEach(([text, colour], i) => {
    if (colour) {
      context.fillStyle = colour;
      context.beginPath();
      context.arc(x + size * 0.3, top + size * 1.05, size * 0.34, 0, 2 * Math.PI);
      context.fill();
    }
    context.fillStyle = css(PAPER);
    context.fillText(text, x + (colour ? size : 0), top + size * 1.4);
    x += widths[i] + gap;
  });
}

// Wiring -----------------------------------------------------------------------------------------------------------------

const click = (id: string, what: () => unknown): void => element(id).addEventListener("click", () => void what());

const input = element<HTMLInputElement>("file");
click("choose", () => input.click());
input.addEventListener("change", () => {
  const file = input.files?.[0];
  input.value = "";
  if (file) void open(file, file.name);
});
click("camera", () => (camera.on ? stopCamera() : startCamera()));
click("sample", openSample);
click("undo", () => change(() => session.undo(), "undone"));
click("reset", () => change(() => session.reset(), "all joints are free"));
click("together", () => setTogether(!together));
click("box", () => setBoxing(!boxes.open));
click("find", () => estimate(null));
click("freeze", () => (live ? holdStill() : goOn()));
click("mirror", () => {
  mirrored = !mirrored;
  element("mirror").setAttribute("aria-pressed", String(mirrored));
  if (shown) stage.show(shown, mirrored);
  refresh();
});
click("save-json", saveJson);
click("save-png", savePng);
element<HTMLInputElement>("mass").addEventListener("input", ({ target }) => setMass(Number((target as HTMLInputElement).value)));
element<HTMLSelectElement>("model").addEventListener("change", ({ target }) => {
  void changeModel((target as HTMLSelectElement).value as ModelName);
});

window.addEventListener("keydown", (event) => {
  const typing = (event.target as HTMLElement).matches?.("input:not([type=range]), select, textarea");
  const key = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && key === "z" && !typing) {
    event.preventDefault();
    change(() => session.undo(), "undone");
  } else if (typing || event.ctrlKey || event.metaKey || event.altKey) {
    return;
  } else if (key === "+" || key === "=") setMass(Math.round(100 * mass) + 5);
  else if (key === "-") setMass(Math.round(100 * mass) - 5);
  else if (key === "c") setTogether(!together);
  else if (key === "b" && !live) setBoxing(!boxes.open);
  else if (key === "escape") {
    if (boxes.open) setBoxing(false);
    else if (together) setTogether(false);
    else if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
    notice(null);
    point(null);
  }
});

let over = 0;
window.addEventListener("dragenter", (event) => {
  event.preventDefault();
  over++;
  element("drop").hidden = false;
});
window.addEventListener("dragleave", () => {
  over = Math.max(over - 1, 0);
  element("drop").hidden = over === 0;
});
window.addEventListener("dragover", (event) => event.preventDefault());
window.addEventListener("drop", (event) => {
  event.preventDefault();
  over = 0;
  element("drop").hidden = true;
  const file = fileOf(event.dataTransfer);
  if (file) void open(file, file.name);
  else notice("That is no file. Save the picture first, then drop it here.");
});
window.addEventListener("paste", (event) => {
  const file = fileOf(event.clipboardData);
  if (file) void open(file, file.name || "pasted.png");
  else notice("There is no picture in the clipboard.");
});

async function keepForOffline(): Promise<void> {
  if (!("serviceWorker" in navigator) || import.meta.env.DEV) return;
  try {
    await navigator.serviceWorker.register("./sw.js");
    await navigator.serviceWorker.ready;
    element("offline").textContent = "It is kept on this device now.";
  } catch {
    // Private windows and plain http have none; the page works without.
  }
}

async function begin(): Promise<void> {
  await openSample();
  performance.mark("posecov:interactive");
  void load("tiny");
  try {
    await ready();
  } catch {
    return;
  }
  performance.mark("posecov:ready");
  document.documentElement.dataset.ready = "true";
  await keepForOffline();
}

void begin();
