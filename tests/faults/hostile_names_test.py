"""Names and texts from strangers in what TensorBoard shows of a run."""

import glob
import os
import random
import re

import tensorflow as tf
from absl.testing import absltest
from tensorboard import plugin_util
from tensorboard.backend.event_processing import event_file_loader

from ft_tf import run_dir
from ft_tf.training import tensorboard

_SEED = int(os.environ.get('FT_TF_FAULTS_SEED', '0'))
_PIECES = (
  '<script>alert(1)</script>',
  '<img src=x onerror=alert(1)>',
  '[x](javascript:alert(1))',
  '```',
  '~~~',
  '\n```\n<b>',
  '\u2028```\u2028',
  '"></code></pre><iframe>',
  '&lt;script&gt;',
  '\\',
  '| a | b |',
  '\r\n\r\n# x',
)


class HostileNamesTest(absltest.TestCase):
  def _shown(self, names):
    """Returns the recipe of a run as TensorBoard's page has it."""
    run = run_dir.RunDir(os.path.join(self.create_tempdir().full_path, 'run'))
    run.claim(
      {
        'stage': 'teacher',
        'data': {'dataset': names[0], 'train_split': names[1]},
        'teacher': {'model': names[2], 'teacher_weights': names[3]},
      }
    )
    self.addCleanup(run.release)
    log = tensorboard.Log(run, 0)
    log.describe('teacher')
    log.close(0, None)
    (path,) = glob.glob(os.path.join(run.tensorboard, '*tfevents*'))
    texts = [
      tf.make_ndarray(value.tensor).item()
      for event in event_file_loader.EventFileLoader(path).Load()
      for value in event.summary.value
      if value.tag == 'recipe'
    ]
    return plugin_util.markdown_to_safe_html(texts[0])

  def test_recipe_is_shown_as_text_whatever_its_names_are(self):
    draw = random.Random(_SEED)
    for _ in range(20):
      names = [
        ''.join(draw.choices(_PIECES, k=draw.randint(1, 5))) for _ in range(4)
      ]
      page = self._shown(names)
      # One block of code, and no element within.
      self.assertEqual(
        re.findall(r'</?\w+', page), ['<pre', '<code', '</code', '</pre'], page
      )


if __name__ == '__main__':
  absltest.main()
