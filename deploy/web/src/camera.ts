/** The camera: its frames one after the other, always the newest. Errors are one line for people. */

export class Camera {
  private stream: MediaStream | null = null;
  private readonly video = document.createElement("video");

  /** @param lost is called when the camera goes away by itself. */
  constructor(private readonly lost: () => void) {
    this.video.muted = true;
    this.video.playsInline = true;
  }

  get on(): boolean {
    return this.stream !== null;
  }

  async start(): Promise<void> {
    if (!navigator.mediaDevices?.getUserMedia) throw new Error("The camera needs a page from https:// or from this computer.");
    try {
      const video = { facingMode: "user", width: { ideal: 1280 }, height: { ideal: 720 } };
      this.stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
      this.stream.getVideoTracks()[0].addEventListener("ended", () => {
        this.stop();
        this.lost();
      });
      this.video.srcObject = this.stream;
      await this.video.play();
    } catch (error) {
      this.stop();
      throw new Error(reason(error));
    }
  }

  stop(): void {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.video.srcObject = null;
  }

  /** The newest frame on a canvas of its own, or null when there is none yet. */
  frame(): HTMLCanvasElement | null {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (!this.on || !width || !height) return null;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    canvas.getContext("2d")!.drawImage(this.video, 0, 0);
    return canvas;
  }
}

function reason(error: unknown): string {
  switch (error instanceof DOMException ? error.name : "") {
    case "NotAllowedError":
    case "SecurityError":
      return "The camera is not allowed here. Allow it in the browser's address bar, or choose a picture.";
    case "NotFoundError":
    case "OverconstrainedError":
      return "No camera was found. Choose a picture instead.";
    case "NotReadableError":
    case "AbortError":
      return "The camera is in use by another program. Close that, or choose a picture.";
    default:
      return "The camera could not be started. Choose a picture instead.";
  }
}
