"""Folders of small images, opened as a data set."""

import contextlib
import io
import os

from absl.testing import parameterized
from PIL import Image

from ft_tf.data import sources


class FolderCase(parameterized.TestCase):
  """Makes images in an empty folder.

  Attributes:
    root: The folder.
    data_dir: The folder of the prepared copy.
  """

  def setUp(self):
    super().setUp()
    self.root = self.create_tempdir().full_path
    self.data_dir = self.create_tempdir().full_path

  def image(self, path, color=(10, 20, 30), size=(12, 9), **options):
    """Saves an image of one colour, or grey value; returns its path."""
    path = os.path.join(self.root, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    mode = 'L' if isinstance(color, int) else 'RGB'
    Image.new(mode, size, color).save(path, **options)
    return path

  def file(self, path, content):
    path = os.path.join(self.root, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as file:
      file.write(content)

  def fill(self, split_folder='train/', count=3):
    """Saves images of two classes: red is the class, green the number."""
    for label, red in (('cat', 50), ('dog', 200)):
      for i in range(count):
        self.image(f'{split_folder}{label}/{i}.png', (red, i, 0))

  def source(self, **values):
    return sources.Source(
      f'folder:{self.root}',
      data_dir=self.data_dir,
      **{'image_size': 8, **values},
    )

  def open(self, **values):
    """Returns the messages of opening the folder, and the source."""
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
      source = self.source(**values)
    return printed.getvalue(), source
