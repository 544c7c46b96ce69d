/** Image files to pixels: upright, without colour profiles, without alpha. */

const MOST_PIXELS = 100_000_000;  // as training allows

/**
 * Decodes an image file as the training data are: turned as its EXIF says,
 * its values as stored, the alpha channel dropped.
 *
 * @param {Blob} blob The file.
 * @return {Promise<{width: number, height: number, data: Uint8Array}>} Red,
 *     green, blue, alpha.
 */
export async function decode(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, {
      colorSpaceConversion: 'none',
      imageOrientation: 'from-image',
      premultiplyAlpha: 'none',
    });
  } catch {
    throw new Error(
        `${blob.name || 'This'} is not an image that this browser can ` +
        'decode: give a JPEG, PNG or WebP file.');
  }
  try {
    if (bitmap.width * bitmap.height > MOST_PIXELS) {
      throw new Error(
          `${bitmap.width} × ${bitmap.height} pixels are too many: give a ` +
          'smaller image.');
    }
    const image = read(bitmap);
    return isOpaque(image.data) ? image : readWithoutAlpha(bitmap);
  } finally {
    bitmap.close();
  }
}

/** Returns the pixels of what a canvas can draw, such as a video's frame. */
export function read(source) {
  const canvas = document.createElement('canvas');
  canvas.width = source.videoWidth ?? source.width;
  canvas.height = source.videoHeight ?? source.height;
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context?.drawImage(source, 0, 0);
  try {
    return context.getImageData(0, 0, canvas.width, canvas.height);
  } catch {
    throw new Error(
        `${canvas.width} × ${canvas.height} pixels are more than this ` +
        'browser can draw: give a smaller image.');
  }
}

function isOpaque(data) {
  for (let i = 3; i < data.length; i += 4) if (data[i] !== 255) return false;
  return true;
}

/**
 * Returns the colours of transparent pixels too, which a canvas of two
 * dimensions loses: it keeps colours multiplied by alpha.
 */
function readWithoutAlpha(bitmap) {
  const {width, height} = bitmap;
  const gl = document.createElement('canvas').getContext('webgl2');
  if (!gl || Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) {
    throw new Error(
        'This browser cannot read an image with transparent parts of this ' +
        'size: save it without transparency.');
  }
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(
      gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D,
      gl.getParameter(gl.TEXTURE_BINDING_2D), 0);
  const data = new Uint8Array(4 * width * height);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, data);
  gl.getExtension('WEBGL_lose_context')?.loseContext();
  for (let i = 3; i < data.length; i += 4) data[i] = 255;
  return {width, height, data};
}
