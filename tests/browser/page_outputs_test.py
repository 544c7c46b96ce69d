"""The page in Chromium: its outputs are LiteRT's, its pixels evaluation's."""

import numpy as np
import pytest
from absl.testing import absltest, parameterized
from PIL import Image

from tests.browser import page_case, small_exports

_IMAGES = 100
_WITH_SIGMOIDS = ('efficientnetb0',)
# Fails the check for relaxed SIMD, by one of its instructions.
_NO_RELAXED_SIMD = """(() => {
  const real = WebAssembly.instantiate;
  WebAssembly.instantiate = (code, ...rest) =>
    code instanceof Uint8Array && code.join().includes('253,128,2') &&
        code.length < 100 ?
      Promise.reject(Error('no relaxed SIMD')) : real(code, ...rest);
})()"""


@pytest.mark.slow
class PageOutputsTest(page_case.PageCase):
  def _pixels_of(self, content):
    """Returns what the network is given of an image file."""
    return np.array(
      self.page.run(
        '(async () => Array.from(await ftTf.pixelsOf('
        f'new Blob([{page_case.to_script(content)}]))))()'
      ),
      np.uint8,
    )

  @parameterized.parameters(*page_case.NETWORKS)
  def test_outputs_are_those_of_the_interpreter(self, network):
    export = self.open_page(network)
    self.assertTrue(self.page.run('crossOriginIsolated'))
    shape, _ = page_case.NETWORKS[network]
    images = small_exports.images(_IMAGES, shape)
    self.page.run(f'window.images = {page_case.to_script(images.tobytes())}; 0')
    for file in export.about['files']:
      expected = page_case.interpret(export.files[file['name']], images)
      self.assertGreater(len(np.unique(expected, axis=0)), 20)
      for threads in (1, 2):
        outputs = self.page.run(
          '(async () => {'
          f'  await ftTf.choose("{file["name"]}", {threads});'
          f'  const size = {images[0].size}, outputs = [];'
          f'  for (let i = 0; i < {_IMAGES}; i++)'
          '    outputs.push(Array.from(await ftTf.classifyRaw('
          '        images.subarray(i * size, (i + 1) * size))));'
          '  return outputs;'
          '})()'
        )
        # On some processors XNNPACK has another formula for sigmoids.
        most = 1e-5 if network in _WITH_SIGMOIDS else 0
        if expected.dtype == np.uint8:
          most = 0
        with self.subTest(file=file['name'], threads=threads):
          np.testing.assert_allclose(
            np.array(outputs, expected.dtype), expected, rtol=0, atol=most
          )

  def test_browser_without_relaxed_simd_has_one_thread(self):
    script = self.page.send(
      'Page.addScriptToEvaluateOnNewDocument', source=_NO_RELAXED_SIMD
    )
    self.addCleanup(
      self.page.send, 'Page.removeScriptToEvaluateOnNewDocument', **script
    )
    export = self.open_page(page_case.GREY)
    self.assertEqual(
      self.page.run('document.getElementById("threads").length'), 1
    )
    self.assertFalse(
      self.page.run('document.getElementById("threads-note").hidden')
    )
    shape, _ = page_case.NETWORKS[page_case.GREY]
    (image,) = small_exports.images(1, shape)
    for file in export.about['files']:
      output = self.page.run(
        f'(async () => {{ await ftTf.choose("{file["name"]}");'
        '  return Array.from(await ftTf.classifyRaw('
        f'{page_case.to_script(image.tobytes())})); }})()'
      )
      (expected,) = page_case.interpret(export.files[file['name']], [image])
      # It multiplies and adds in two steps, with two roundings.
      most = 0 if expected.dtype == np.uint8 else 1e-4
      np.testing.assert_allclose(output, expected, rtol=0, atol=most)

  @parameterized.parameters(
    'mobilenetv2x0.35', page_case.COLOUR, page_case.GREY
  )
  def test_images_are_resized_as_evaluation_does(self, network):
    self.open_page(network)
    shape, resizing = page_case.NETWORKS[network]
    rng = np.random.default_rng(0)
    for height, width in ((37, 300), (301, 122), (5, 4), (256, 256), (1, 1)):
      image = rng.integers(256, size=(height, width, 3)).astype(np.uint8)
      for mode in ('RGB', 'RGBA', 'L', 'P'):
        content = page_case.encode(Image.fromarray(image).convert(mode), 'png')
        expected = page_case.evaluation_image(content, shape, resizing)
        # libpng cuts off what other decoders round when they make grey of
        # colours.
        most = 1 if shape[-1] == 1 and mode == 'RGB' else 0
        with self.subTest(height=height, width=width, mode=mode):
          np.testing.assert_allclose(
            self._pixels_of(content), expected.ravel(), rtol=0, atol=most
          )

  def test_photos_are_turned_as_their_exif_says(self):
    shape, resizing = page_case.NETWORKS[page_case.COLOUR]
    self.open_page(page_case.COLOUR)
    image = np.zeros((60, 90, 3), np.uint8)
    image[:30, :30] = (200, 40, 90)
    image[30:, 60:] = (20, 180, 240)
    for orientation in range(1, 9):
      exif = Image.Exif()
      exif[0x0112] = orientation
      content = page_case.encode(
        Image.fromarray(image), 'jpeg', exif=exif, quality=95
      )
      # TensorFlow's JPEG decoder has a faster and less exact transform.
      np.testing.assert_allclose(
        self._pixels_of(content).astype(int),
        page_case.evaluation_image(content, shape, resizing).ravel(),
        rtol=0,
        atol=8,
      )


if __name__ == '__main__':
  absltest.main()
