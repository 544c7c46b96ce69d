"""What a run says on standard error and shows in TensorBoard."""

import contextlib
import io
import os

import numpy as np
from absl.testing import absltest
from tensorboard.backend.event_processing import event_accumulator

from ft_tf import run_dir
from ft_tf.training import monitor


def _row(step, **values):
  return {'step': step, 'epoch': step / 10, 'loss': 1.5, **values}


class MonitorTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.run_dir = run_dir.RunDir(self.create_tempdir().full_path)
    self.run_dir.claim({'stage': 'toy', 'toy': {'beta': 3.0, 'drops': [1, 2]}})
    self.addCleanup(self.run_dir.release)

  def _monitor(self, step=0):
    return monitor.Monitor(self.run_dir, name='toy', step=step, steps=10)

  def _events(self):
    return event_accumulator.EventAccumulator(
      self.run_dir.tensorboard, size_guidance={'tensors': 0}
    ).Reload()

  def test_progress_is_plain_lines_when_not_on_a_terminal(self):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
      watch = self._monitor()
      watch.row(_row(5))
      watch.row(_row(10))
      watch.close()
    self.assertEqual(said.getvalue(), 'toy: step 10/10, epoch 1.00, loss 1.5\n')

  def test_progress_is_a_bar_when_on_a_terminal(self):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    with contextlib.redirect_stderr(terminal):
      watch = self._monitor()
      watch.row(_row(10))
      watch.close()
    self.assertIn('10/10', terminal.getvalue())
    self.assertIn('\r', terminal.getvalue())

  def test_continued_run_drops_later_rows_and_keeps_its_time(self):
    for step in (2, 4, 6):
      self.run_dir.append_metrics(_row(step, wall_seconds=100.0 + step))
    with contextlib.redirect_stderr(io.StringIO()) as said:
      watch = self._monitor(step=4)
      watch.row(_row(5))
      watch.close()
    self.assertIn('continues at step 4 of 10', said.getvalue())
    rows = self.run_dir.metrics()
    self.assertEqual([row['step'] for row in rows], [2, 4, 5])
    self.assertBetween(rows[-1]['wall_seconds'], 104, 114)

  def test_tags_group_training_validation_and_test(self):
    watch = self._monitor()
    watch.row(
      _row(
        10,
        train_accuracy=0.5,
        validation_accuracy=0.25,
        learning_rate=0.1,
        images_per_second=7.0,
      )
    )
    watch.close({'accuracy': 0.75, 'method': 'toy'})
    self.assertContainsSubset(
      {
        'train/loss',
        'train/accuracy',
        'validation/accuracy',
        'test/accuracy',
        'run/learning_rate',
        'run/images_per_second',
        'recipe',
      },
      self._events().Tags()['tensors'],
    )

  def test_hparams_hold_the_recipe_by_dotted_name(self):
    self._monitor().close()
    start = self._events().summary_metadata['_hparams_/session_start_info']
    self.assertIn(b'toy.beta', start.plugin_data.content)
    self.assertIn(b'toy.drops', start.plugin_data.content)


class MosaicTest(absltest.TestCase):
  def test_picture_has_the_image_and_both_networks_maps_side_by_side(self):
    images = np.zeros((2, 8, 8, 1), np.uint8)
    images[1] = 255
    ours = np.random.default_rng(0).normal(size=(2, 4, 4, 12))
    picture = monitor.mosaic(images, ours, ours)
    tile = 64
    self.assertEqual(picture.shape, (2 * tile, 25 * tile, 3))
    self.assertEqual(picture.dtype, np.uint8)
    self.assertEqual(picture[:tile, :tile].max(), 0)
    self.assertEqual(picture[tile + 1 : 2 * tile - 1, 1 : tile - 1].min(), 255)
    # Equal maps look equal, and another scale of a factor changes nothing.
    teacher, student, difference = np.split(picture[:, tile:], 3, axis=1)
    np.testing.assert_array_equal(teacher, student)
    self.assertEqual(difference.max(), 0)
    np.testing.assert_array_equal(
      monitor.mosaic(images, ours, 5 * ours), picture
    )

  def test_dead_maps_are_drawn(self):
    zeros = np.zeros((1, 2, 2, 3))
    picture = monitor.mosaic(np.zeros((1, 8, 8, 3), np.uint8), zeros, zeros)
    self.assertEqual(picture.shape, (64, 10 * 64, 3))

  def test_difference_shows_where_the_maps_differ(self):
    ours = np.zeros((1, 2, 2, 1))
    ours[0, 0, 0, 0] = ours[0, 1, 1, 0] = 1
    theirs = np.zeros((1, 2, 2, 1))
    theirs[0, 0, 0, 0] = theirs[0, 0, 1, 0] = 1
    picture = monitor.mosaic(np.zeros((1, 8, 8, 3), np.uint8), ours, theirs)
    places = picture[[16, 16, 48, 48], [3 * 64 + 16, 3 * 64 + 48] * 2, 0]
    np.testing.assert_array_equal(places, [0, 255, 0, 255])

  def test_picture_is_left_in_the_runs_folder(self):
    run = run_dir.RunDir(self.create_tempdir().full_path)
    watch = monitor.Monitor(run, name='student', step=5, steps=10)
    watch.pictures(7, np.zeros((4, 4, 3), np.uint8))
    (name,) = os.listdir(run.pictures)
    self.assertEqual(name, '0000007.png')
    with open(os.path.join(run.pictures, name), 'rb') as file:
      self.assertStartsWith(file.read(), b'\x89PNG')


if __name__ == '__main__':
  absltest.main()
