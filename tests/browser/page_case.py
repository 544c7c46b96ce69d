"""What the tests of the page in Chromium share."""

import base64
import functools
import io
import os
import tempfile
import threading
import unittest

import numpy as np
from absl.testing import parameterized
from ai_edge_litert import interpreter as litert

from ft_tf import errors
from ft_tf.browser import exports, packages, server, site
from ft_tf.data import image_files, image_ops
from tests.browser import chromium, small_exports

# Network, the shape of its images, and how others become such.
NETWORKS = {
  'resnet8': ((32, 32, 3), 'stretch'),
  'mobilenetv2x0.35': ((96, 64, 3), 'crop'),
  'mobilenetv3small': ((96, 96, 3), 'crop'),
  'efficientnetb0': ((64, 64, 3), 'stretch'),
  'resnet8x0.5': ((8, 8, 1), 'stretch'),
}
GREY = 'resnet8x0.5'
COLOUR = 'resnet8'


@functools.cache
def _exports() -> tempfile.TemporaryDirectory:
  """Returns the folder of the networks' exports, which all classes share."""
  return tempfile.TemporaryDirectory()


class PageCase(parameterized.TestCase):
  """A browser for all tests of a class; they are skipped without one."""

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

  def open_page(self, network):
    """Opens the page of a network; returns its export."""
    folder = os.path.join(_exports().name, network)
    if not os.path.exists(folder):
      shape, resizing = NETWORKS[network]
      small_exports.write_network(folder, network, shape, resizing)
    export = exports.read(folder)
    served = server.Server(site.make(export, self.litert), 0)
    self.addCleanup(served.server_close)
    self.addCleanup(served.shutdown)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    self.page.events.clear()
    self.page.open(served.url)
    return export

  def problem(self):
    return self.page.run('document.getElementById("problem").textContent')

  def best(self):
    return self.page.run('document.getElementById("best").textContent')

  def wait_for_result(self):
    self.page.wait('document.getElementById("latency").textContent')
    self.assertRegex(self.best(), r'class \d: [\d.]+%')


def to_script(content: bytes) -> str:
  """Returns JavaScript for some bytes."""
  encoded = base64.b64encode(content).decode()
  return f'Uint8Array.from(atob("{encoded}"), c => c.charCodeAt(0))'


def encode(image, form, **options):
  content = io.BytesIO()
  image.save(content, form, **options)
  return content.getvalue()


def evaluation_image(content, shape, resizing):
  """Returns an image file as evaluation reads it from a folder."""
  upright = image_files.encode(content, channels=shape[-1], bits=16)
  return image_ops.make_evaluation_image(upright, shape, resizing).numpy()


def interpret(content, images):
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
