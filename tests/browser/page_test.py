"""The page in Chromium: its outputs are LiteRT's, bit by bit."""

import base64
import io
import os
import tempfile
import threading
import unittest

import numpy as np
import pytest
from absl.testing import absltest, parameterized
from ai_edge_litert import interpreter as litert
from PIL import Image

from ft_tf import errors
from ft_tf.browser import exports, packages, server, site
from ft_tf.data import image_files, image_ops
from tests.browser import chromium, small_exports

_IMAGES = 100
# Network, its images, and how pictures become such: small ones of each kind.
_NETWORKS = {
  'resnet20': ((32, 32, 3), 'stretch'),
  'mobilenetv2x0.35': ((96, 96, 3), 'crop'),
  'mobilenetv3small': ((96, 96, 3), 'crop'),
  'efficientnetb0': ((64, 64, 3), 'stretch'),
  'resnet8x0.5': ((8, 8, 1), 'stretch'),
}
_WITH_SIGMOIDS = ('efficientnetb0',)
_GREY = 'resnet8x0.5'
_COLOUR = 'resnet20'


@pytest.mark.slow
class PageTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    if chromium.find() is None:
      raise unittest.SkipTest('Chromium is not installed')
    try:
      cls.litert = packages.read()
    except errors.UsageError as error:
      raise unittest.SkipTest(f'LiteRT.js is not at hand: {error}') from error
    cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.page = chromium.Page()
    cls.addClassCleanup(cls.page.close)

  def _open(self, network):
    """Opens the page of a network; returns its export."""
    folder = os.path.join(self.folder, network)
    if not os.path.exists(folder):
      shape, resizing = _NETWORKS[network]
      small_exports.write_network(folder, network, shape, resizing)
    export = exports.read(folder)
    served = server.Server(site.make(export, self.litert), 0)
    self.addCleanup(served.server_close)
    self.addCleanup(served.shutdown)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    self.page.events.clear()
    self.page.open(served.url)
    return export

  def _problem(self):
    return self.page.run('document.getElementById("problem").textContent')

  def _best(self):
    return self.page.run('document.getElementById("best").textContent')

  def _wait_for_result(self):
    self.page.wait('document.getElementById("latency").textContent')
    self.assertRegex(self._best(), r'class \d: [\d.]+%')

  def _pixels_of(self, content):
    """Returns what the network is given of an image file."""
    return np.array(
      self.page.run(
        '(async () => Array.from(await ftTf.pixelsOf('
        f'new Blob([{_bytes(content)}]))))()'
      ),
      np.uint8,
    )

  @parameterized.parameters(*_NETWORKS)
  def test_outputs_are_those_of_the_interpreter(self, network):
    export = self._open(network)
    self.assertTrue(self.page.run('crossOriginIsolated'))
    shape, _ = _NETWORKS[network]
    images = small_exports.images(_IMAGES, shape)
    self.page.run(f'window.images = {_bytes(images.tobytes())}; 0')
    for file in export.about['files']:
      expected = _interpret(export.files[file['name']], images)
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

  @parameterized.parameters('mobilenetv2x0.35', _COLOUR, _GREY)
  def test_images_are_resized_as_evaluation_does(self, network):
    self._open(network)
    shape, resizing = _NETWORKS[network]
    rng = np.random.default_rng(0)
    for height, width in ((37, 300), (301, 122), (5, 4), (256, 256), (1, 1)):
      image = rng.integers(256, size=(height, width, 3)).astype(np.uint8)
      for mode in ('RGB', 'RGBA', 'L', 'P'):
        content = _encode(Image.fromarray(image).convert(mode), 'png')
        expected = _evaluation_image(content, shape, resizing)
        # libpng cuts off what other decoders round when they make grey of
        # colours.
        most = 1 if shape[-1] == 1 and mode == 'RGB' else 0
        with self.subTest(height=height, width=width, mode=mode):
          np.testing.assert_allclose(
            self._pixels_of(content), expected.ravel(), rtol=0, atol=most
          )

  def test_photos_are_turned_as_their_exif_says(self):
    shape, resizing = _NETWORKS[_COLOUR]
    self._open(_COLOUR)
    image = np.zeros((60, 90, 3), np.uint8)
    image[:30, :30] = (200, 40, 90)
    image[30:, 60:] = (20, 180, 240)
    for orientation in range(1, 9):
      exif = Image.Exif()
      exif[0x0112] = orientation
      content = _encode(Image.fromarray(image), 'jpeg', exif=exif, quality=95)
      # TensorFlow's JPEG decoder has a faster and less exact transform.
      np.testing.assert_allclose(
        self._pixels_of(content).astype(int),
        _evaluation_image(content, shape, resizing).ravel(),
        rtol=0,
        atol=8,
      )

  def test_chosen_file_is_classified(self):
    export = self._open(_COLOUR)
    path = os.path.join(self.folder, 'image.png')
    shape, resizing = _NETWORKS[_COLOUR]
    image = np.random.default_rng(1).integers(256, size=(90, 120, 3))
    Image.fromarray(image.astype(np.uint8)).save(path)
    self.page.choose_file('#file', path)
    self._wait_for_result()
    with open(path, 'rb') as file:
      pixels = _evaluation_image(file.read(), shape, resizing)
    smallest = min(export.about['files'], key=lambda file: file['bytes'])
    (output,) = _interpret(export.files[smallest['name']], pixels[None])
    scale, zero = (smallest['output'][key] for key in ('scale', 'zero_point'))
    logits = scale * (output.astype(float) - zero)
    best = int(logits.argmax())
    share = np.exp(logits[best]) / np.exp(logits).sum()
    self.assertEqual(self._best(), f'class {best}: {100 * share:.1f}%')
    self.assertTrue(self.page.run('document.getElementById("draw").hidden'))

  def test_dropped_and_pasted_images_are_classified(self):
    self._open(_COLOUR)
    image = np.full((20, 20, 3), 90, np.uint8)
    content = _bytes(_encode(Image.fromarray(image), 'png'))
    for event, field in {
      'DragEvent("drop"': 'dataTransfer',
      'ClipboardEvent("paste"': 'clipboardData',
    }.items():
      self.page.run(
        '(() => { document.getElementById("latency").textContent = "";'
        '  const data = new DataTransfer();'
        f'  data.items.add(new File([{content}], "x.png"));'
        f'  document.body.dispatchEvent(new {event},'
        f'      {{{field}: data, bubbles: true, cancelable: true}})); }})()'
      )
      self._wait_for_result()
      self.assertEqual(self._problem(), '')

  def test_camera(self):
    self._open(_COLOUR)
    self.page.run('document.getElementById("camera").click()')
    self.page.wait('!document.getElementById("shoot").hidden')
    self.page.wait('document.getElementById("video").videoWidth')
    self.page.run('document.getElementById("shoot").click()')
    self._wait_for_result()
    self.assertTrue(self.page.run('document.getElementById("video").hidden'))

  def test_drawing_by_keyboard_and_mouse(self):
    self._open(_GREY)
    self.page.run('document.getElementById("pad").focus()')
    for key in (' ', *['ArrowDown'] * 4, *['ArrowRight'] * 4):
      self.page.press(key)
    self._wait_for_result()
    drawn = self.page.run(
      'Array.from(document.getElementById("input").getContext("2d")'
      '.getImageData(0, 0, 8, 8).data).filter((_, i) => i % 4 === 0)'
    )
    self.assertGreater(np.array(drawn).reshape(8, 8)[5, 4], 60)
    self.assertEqual(np.array(drawn).reshape(8, 8)[:3].max(), 0)
    self.page.press('Delete')
    self.page.wait(
      'document.getElementById("best").textContent === "No image yet."'
    )
    left, top = self.page.run(
      '(() => { const box = document.getElementById("pad")'
      '.getBoundingClientRect(); return [box.left, box.top]; })()'
    )
    self.page.run('document.getElementById("latency").textContent = ""; 0')
    self.page.drag([(left + 20 * i, top + 20 * i) for i in range(1, 10)])
    self._wait_for_result()

  def test_everything_is_reached_by_keyboard(self):
    self._open(_GREY)
    reached = []
    for _ in range(9):
      self.page.press('Tab')
      reached.append(
        self.page.run(
          'document.activeElement.id || document.activeElement.type'
        )
      )
    for name in ('pad', 'clear', 'choose', 'camera', 'invert', 'radio'):
      self.assertIn(name, reached)
    self.assertIn('threads', reached)

  def test_what_is_no_image_is_told(self):
    self._open(_COLOUR)
    for name, content in {
      'note.txt': b'this is text',
      'cut.png': b'\x89PNG\r\n\x1a\n\0\0',
      'empty.jpg': b'',
    }.items():
      path = os.path.join(self.folder, name)
      with open(path, 'wb') as file:
        file.write(content)
      self.page.choose_file('#file', path)
      self.page.wait('!document.getElementById("problem").hidden')
      self.assertStartsWith(self._problem(), f'{name} is not an image')
      self.page.run(
        'document.dispatchEvent(new ClipboardEvent("paste",'
        ' {clipboardData: new DataTransfer()}))'
      )
      self.assertStartsWith(self._problem(), 'That is not an image file')
    self.assertEqual(self._best(), 'No image yet.')

  def test_browser_without_simd_is_told(self):
    script = self.page.send(
      'Page.addScriptToEvaluateOnNewDocument',
      source='WebAssembly.validate = () => false',
    )
    self.addCleanup(
      self.page.send, 'Page.removeScriptToEvaluateOnNewDocument', **script
    )
    with self.assertRaisesRegex(RuntimeError, 'no WebAssembly SIMD'):
      self._open(_COLOUR)
    self.assertIn('no WebAssembly SIMD', self._problem())

  def test_nothing_is_asked_of_another_host_and_the_policy_holds(self):
    self._open(_COLOUR)
    self.page.run('ftTf.choose("student_fp32.tflite", 2)')
    hosts = {
      event['params']['request']['url'].split('/')[2]
      for event in self.page.events
      if event['method'] == 'Network.requestWillBeSent'
    }
    self.assertEqual(hosts, {self.page.run('location.host')})
    for event in self.page.events:
      text = str(event)
      self.assertNotIn('Content Security Policy', text)
      self.assertNotEqual(event['method'], 'Runtime.exceptionThrown', text)
    # The policy does forbid.
    self.assertTrue(
      self.page.run('fetch("https://example.com/").then(() => 0, () => true)')
    )
    self.assertTrue(
      self.page.run(
        '(() => { const script = document.createElement("script");'
        '  script.textContent = "window.inline = 1"; document.body.append('
        '  script); return window.inline === undefined; })()'
      )
    )

  def test_it_fits_narrow_and_wide_windows(self):
    self._open(_GREY)
    for width in (320, 390, 768, 1280):
      for dark in (False, True):
        self.page.shoot(
          os.path.join(self.folder, 'shot.png'), width=width, dark=dark
        )
        scroll = self.page.run('document.documentElement.scrollWidth')
        self.assertLessEqual(scroll, width)


def _bytes(content: bytes) -> str:
  """Returns JavaScript for some bytes."""
  encoded = base64.b64encode(content).decode()
  return f'Uint8Array.from(atob("{encoded}"), c => c.charCodeAt(0))'


def _encode(image, form, **options):
  content = io.BytesIO()
  image.save(content, form, **options)
  return content.getvalue()


def _evaluation_image(content, shape, resizing):
  """Returns an image file as evaluation reads it from a folder."""
  upright = image_files.encode(content, channels=shape[-1], bits=16)
  return image_ops.make_evaluation_image(upright, shape, resizing).numpy()


def _interpret(content, images):
  """Returns the raw outputs of a file, one row per image."""
  interpreter = litert.Interpreter(model_content=content, num_threads=1)
  interpreter.allocate_tensors()
  (taken,) = interpreter.get_input_details()
  (given,) = interpreter.get_output_details()
  outputs = []
  for image in images:
    interpreter.set_tensor(taken['index'], image[None])
    interpreter.invoke()
    outputs.append(interpreter.get_tensor(given['index'])[0].copy())
  return np.stack(outputs)


if __name__ == '__main__':
  absltest.main()
