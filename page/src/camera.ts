/** The camera on the page: its picture, the coach's words over it, and the shot. Frames go to the worker, nowhere else. */

import { type Advice, Hold, advise } from "./coach";
import { element, outline } from "./elements";
import type { Engine } from "./engine";
import { type Key, say } from "./texts";

/** Advice stands for at least this many frames, so that it can be read, and read aloud. */
const STEADY_FRAMES = 2;

export class Camera {
  #stream: MediaStream | null = null;
  #section = element("coach");
  #stage = element("stage");
  #video = element<HTMLVideoElement>("video");
  #frame = element<HTMLElement & SVGSVGElement>("frame");
  #advice = element("advice");
  #progress = element<HTMLProgressElement>("hold");
  #auto = element<HTMLInputElement>("auto");
  #hold = new Hold();
  #shown: Key = "coach.start";
  #next: { advice: Advice; frames: number } = { advice: "none", frames: 0 };
  #devices: string[] = [];
  #take = false;

  /** `shot` gets each picture taken, `trouble` the text that says why there is no camera. */
  constructor(
    private readonly engine: () => Engine,
    private readonly shot: (picture: Blob) => void,
    private readonly trouble: (key: Key) => void,
  ) {
    element("take").onclick = () => (this.#take = true);
    element("stop").onclick = () => this.close();
    element("switch").onclick = () => this.#switch();
  }

  async open(device?: string): Promise<void> {
    this.close();
    if (!navigator.mediaDevices) return this.trouble(isSecureContext ? "camera.missing" : "camera.insecure");
    const which = device ? { deviceId: { exact: device } } : { facingMode: "user" };
    const video = { ...which, width: { ideal: 1280 }, height: { ideal: 720 } };
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ video });
    } catch (error) {
      return this.trouble(reasonOf(error));
    }
    const stream = this.#stream;
    const [track] = stream.getVideoTracks();
    track!.onended = () => {
      if (this.#stream === stream) this.#lost();
    };
    this.#section.hidden = false;
    this.#say("coach.start", "bad");
    const behind = track!.getSettings().facingMode === "environment";
    for (const part of [this.#video, this.#frame]) part.classList.toggle("mirrored", !behind);
    this.#video.srcObject = stream;
    await this.#video.play().catch(() => undefined); // a stream that ends at once; onended says so
    const devices = await navigator.mediaDevices.enumerateDevices();
    this.#devices = devices.filter(({ kind }) => kind === "videoinput").map(({ deviceId }) => deviceId);
    element("switch").hidden = this.#devices.length < 2;
    element("take").focus();
    this.#section.scrollIntoView({ block: "nearest" });
    void this.#watch(stream);
  }

  close(): void {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
    this.#video.srcObject = null;
    this.#section.hidden = true;
  }

  #lost(): void {
    this.close();
    this.trouble("camera.ended");
  }

  async #switch(): Promise<void> {
    const current = this.#stream?.getVideoTracks()[0]?.getSettings().deviceId ?? "";
    await this.open(this.#devices[(this.#devices.indexOf(current) + 1) % this.#devices.length]);
  }

  /** Frame after frame, as fast as they can be judged, while this stream is the one shown. */
  async #watch(stream: MediaStream): Promise<void> {
    this.#hold = new Hold();
    while (this.#stream === stream) {
      await nextFrame();
      if (this.#video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) continue;
      try {
        await this.#judge();
      } catch (error) {
        console.error(error); // the page starts another worker; the next frame finds it
      }
    }
  }

  async #judge(): Promise<void> {
    const bitmap = await createImageBitmap(this.#video);
    const judged = await this.engine().ask("frame", bitmap, [bitmap]);
    if (this.#section.hidden) return;
    const { advice, level } = advise(judged);
    const good = advice === "hold";
    const { progress, isBest } = this.#hold.push(good ? judged.faces[0]!.score : null, performance.now());
    if (isBest || (this.#take && !good)) await this.engine().ask("keep");
    this.#frame.setAttribute("viewBox", `0 0 ${judged.width} ${judged.height}`);
    this.#frame.replaceChildren(...judged.faces.map(({ box }) => outline(box)));
    this.#progress.value = this.#auto.checked ? progress : 0;
    if (this.#take || (this.#auto.checked && progress === 1)) return this.#shoot();
    this.#next = { advice, frames: this.#next.advice === advice ? this.#next.frames + 1 : 1 };
    if (this.#next.frames >= STEADY_FRAMES) this.#say(`coach.${advice}`, level);
  }

  async #shoot(): Promise<void> {
    this.#take = false;
    this.#auto.checked = false; // the next one is taken by itself when it is asked for again
    this.#hold = new Hold();
    const picture = await this.engine().ask("shot");
    this.#progress.value = 0;
    this.#say("coach.taken", "good");
    this.#next = { advice: "hold", frames: -10 }; // "taken" stays a little
    if (picture) this.shot(picture);
  }

  #say(key: Key, level: string): void {
    this.#stage.dataset.level = level;
    if (key === this.#shown && this.#advice.textContent) return;
    this.#shown = key;
    this.#advice.textContent = say(key);
  }
}

function reasonOf(error: unknown): Key {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotAllowedError" || name === "SecurityError") return "camera.refused";
  return name === "NotFoundError" || name === "OverconstrainedError" ? "camera.missing" : "camera.busy";
}

/** When the browser draws next; a page in the background waits. */
const nextFrame = () => new Promise((resolve) => requestAnimationFrame(resolve));
