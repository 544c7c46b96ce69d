"""The page in Chromium, as a user has it."""

import os

import numpy as np
import pytest
from absl.testing import absltest
from PIL import Image

from tests.browser import page_case


@pytest.mark.slow
class PageTest(page_case.PageCase):
  def test_chosen_file_is_classified(self):
    export = self.open_page(page_case.COLOUR)
    path = os.path.join(self.folder, 'image.png')
    shape, resizing = page_case.NETWORKS[page_case.COLOUR]
    image = np.random.default_rng(1).integers(256, size=(90, 120, 3))
    Image.fromarray(image.astype(np.uint8)).save(path)
    self.page.choose_file('#file', path)
    self.wait_for_result()
    with open(path, 'rb') as file:
      pixels = page_case.evaluation_image(file.read(), shape, resizing)
    smallest = min(export.about['files'], key=lambda file: file['bytes'])
    (output,) = page_case.interpret(
      export.files[smallest['name']], pixels[None]
    )
    scale, zero = (smallest['output'][key] for key in ('scale', 'zero_point'))
    logits = scale * (output.astype(float) - zero)
    best = int(logits.argmax())
    share = np.exp(logits[best]) / np.exp(logits).sum()
    self.assertEqual(self.best(), f'class {best}: {100 * share:.1f}%')
    self.assertTrue(self.page.run('document.getElementById("draw").hidden'))

  def test_dropped_and_pasted_images_are_classified(self):
    self.open_page(page_case.COLOUR)
    image = np.full((20, 20, 3), 90, np.uint8)
    content = page_case.to_script(
      page_case.encode(Image.fromarray(image), 'png')
    )
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
      self.wait_for_result()
      self.assertEqual(self.problem(), '')

  def test_camera(self):
    self.open_page(page_case.COLOUR)
    self.page.run('document.getElementById("camera").click()')
    self.page.wait('!document.getElementById("shoot").hidden')
    self.page.wait('document.getElementById("video").videoWidth')
    self.page.run('document.getElementById("shoot").click()')
    self.wait_for_result()
    self.assertTrue(self.page.run('document.getElementById("video").hidden'))

  def test_drawing_by_keyboard_and_mouse(self):
    self.open_page(page_case.GREY)
    self.page.run('document.getElementById("pad").focus()')
    for key in (' ', *['ArrowDown'] * 4, *['ArrowRight'] * 4):
      self.page.press(key)
    self.wait_for_result()
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
    self.wait_for_result()

  def test_everything_is_reached_by_keyboard(self):
    self.open_page(page_case.GREY)
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
    self.open_page(page_case.COLOUR)
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
      self.assertStartsWith(self.problem(), f'{name} is not an image')
      self.page.run(
        'document.dispatchEvent(new ClipboardEvent("paste",'
        ' {clipboardData: new DataTransfer()}))'
      )
      self.assertStartsWith(self.problem(), 'That is not an image file')
    self.assertEqual(self.best(), 'No image yet.')

  def test_browser_without_simd_is_told(self):
    script = self.page.send(
      'Page.addScriptToEvaluateOnNewDocument',
      source='WebAssembly.validate = () => false',
    )
    self.addCleanup(
      self.page.send, 'Page.removeScriptToEvaluateOnNewDocument', **script
    )
    with self.assertRaisesRegex(RuntimeError, 'no WebAssembly SIMD'):
      self.open_page(page_case.COLOUR)
    self.assertIn('no WebAssembly SIMD', self.problem())

  def test_server_that_has_ended_is_told(self):
    self.open_page(page_case.COLOUR)
    self.page.send('Network.setBlockedURLs', urls=['*/files/*'])
    self.addCleanup(self.page.send, 'Network.setBlockedURLs', urls=[])
    self.page.run('document.querySelector("input[name=file]").click()')
    self.page.wait('!document.getElementById("problem").hidden')
    self.assertIn('Is `ft-tf demo` still running?', self.problem())
    # The file that is chosen is the one that still runs.
    self.assertEqual(
      self.page.run('document.querySelector("input[name=file]:checked").value'),
      'student_int8.tflite',
    )

  def test_nothing_is_asked_of_another_host_and_the_policy_holds(self):
    self.open_page(page_case.COLOUR)
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
    self.open_page(page_case.GREY)
    for width in (320, 390, 768, 1280):
      for dark in (False, True):
        self.page.shoot(
          os.path.join(self.folder, 'shot.png'), width=width, dark=dark
        )
        scroll = self.page.run('document.documentElement.scrollWidth')
        self.assertLessEqual(scroll, width)


if __name__ == '__main__':
  absltest.main()
