/** Where the picture is on the stage: picture pixels to stage pixels and back. A pixel's centre lies at its integers. */

export class View {
  constructor(
    readonly scale: number,
    readonly left: number,
    readonly top: number,
    /** Of the stage. */
    readonly width: number,
    readonly height: number,
    /** Of the picture when it is shown as in a mirror, else null. */
    private readonly mirrored: number | null = null,
  ) {}

  /** The whole picture as large as the stage allows, in its middle. */
  static contain(stage: { width: number; height: number }, picture: { width: number; height: number }, mirror = false): View {
    const scale = Math.min(stage.width / picture.width, stage.height / picture.height);
    const [left, top] = [(stage.width - scale * picture.width) / 2, (stage.height - scale * picture.height) / 2];
    return new View(scale, left, top, stage.width, stage.height, mirror ? picture.width : null);
  }

  get mirror(): boolean {
    return this.mirrored !== null;
  }

  x(x: number): number {
    return this.left + this.scale * ((this.mirrored === null ? x : this.mirrored - 1 - x) + 0.5);
  }

  y(y: number): number {
    return this.top + this.scale * (y + 0.5);
  }

  /** A place on the stage in pixels of the picture. */
  back(x: number, y: number): [number, number] {
    const across = (x - this.left) / this.scale - 0.5;
    return [this.mirrored === null ? across : this.mirrored - 1 - across, (y - this.top) / this.scale - 0.5];
  }

  /** How far it is to the right in the picture when it is `dx` to the right on the stage. */
  step(dx: number): number {
    return this.mirrored === null ? dx : -dx;
  }

  /** Whether a place on the stage lies on it, with a margin. */
  holds(x: number, y: number, margin = 0): boolean {
    return x >= margin && y >= margin && x <= this.width - margin && y <= this.height - margin;
  }
}
