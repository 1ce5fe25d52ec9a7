/** Pictures from files, the clipboard and other pages' drags. Errors are one line for people. */

const LARGEST = 60e6; // Pixels: four bytes each, twice.
const SMALLEST = 8;

/** A decoded picture, upright as its EXIF data say. */
export async function decode(file: Blob, name: string): Promise<ImageBitmap> {
  if (!file.size) throw new Error(`${name} is empty. Take another file.`);
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    const kind = file.type && !file.type.startsWith("image/") ? "is no picture" : "cannot be read as a picture here";
    throw new Error(`${name} ${kind}. JPEG, PNG and WebP can.`);
  }
  const { width, height } = bitmap;
  if (Math.min(width, height) < SMALLEST) throw new Error(`${name} is only ${width} x ${height} pixels. Take a larger picture.`);
  if (width * height > LARGEST) throw new Error(`${name} has more than ${LARGEST / 1e6} megapixels. Make it smaller.`);
  return bitmap;
}

/** The first file of a paste or drop, or null. */
export function fileOf(data: DataTransfer | null): File | null {
  return [...(data?.files ?? [])].find((file) => file.type.startsWith("image/")) ?? data?.files[0] ?? null;
}

/** A name to go on from: `holiday.jpg` gives `holiday`. */
export const stem = (name: string): string => name.replace(/\.[^.]+$/, "") || "picture";

/** Hand a file to the person. */
export function save(name: string, content: Blob): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
