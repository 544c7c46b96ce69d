"""Views: a pure function of (seed, epoch, example), and the crop in numpy."""

import dataclasses

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import catalogue
from ft_tf.data import example_sets, views
from tests import fixtures

_COUNT = 10
_BATCH = 4
_EPOCHS = 3
_STEPS = 8  # 3 epochs of 10 images are 30; 8 steps of 4 show 32.


def _examples():
  """Returns images of noise, so that every view differs; label k is image k."""
  rng = np.random.default_rng(0)
  images = rng.integers(1, 256, size=(_COUNT, 6, 5, 3)).astype(np.uint8)
  return example_sets.Examples(images, np.arange(_COUNT))


def _data(**values):
  return dataclasses.replace(
    catalogue.cifar10_resnet56_resnet20().data,
    **{'batch_size': _BATCH, 'pad': 2, 'flip': True, **values},
  )


def _batches(
  seed=0, first_step=0, last_step=_STEPS, labels=True, share=(0, 1), **values
):
  stream = views.stream(
    _examples(),
    _data(**values),
    seed=seed,
    first_step=first_step,
    last_step=last_step,
    labels=labels,
    share=share,
  )
  return list(stream.as_numpy_iterator())


def _order(batches):
  """Returns the examples seen, in order."""
  return [int(label) for batch in batches for label in batch['label']]


def _views(batches):
  """Returns `{(epoch, example): image}`."""
  images = [image for batch in batches for image in batch['image']]
  order = _order(batches)
  return {
    (place // _COUNT, order[place]): images[place]
    for place in range(len(order))
  }


class StepsTest(parameterized.TestCase):
  @parameterized.parameters(
    (50_000, 128, 164, 64_063),  # 64,062.5: the last step is begun.
    (512, 128, 1, 4),
    (513, 128, 1, 5),
    (10, 4, 3, 8),
    (3, 4, 2, 2),  # A batch longer than the epoch.
    (100, 10, 0.5, 5),
  )
  def test_steps_see_every_epoch_to_its_end(
    self, examples, batch_size, epochs, steps
  ):
    self.assertEqual(
      views.count_steps(examples, batch_size=batch_size, epochs=epochs), steps
    )


class StreamTest(parameterized.TestCase):
  def assert_equal_batches(self, ours, theirs):
    self.assertLen(ours, len(theirs))
    for one, other in zip(ours, theirs, strict=True):
      self.assertEqual(one.keys(), other.keys())
      for key in one:
        np.testing.assert_array_equal(one[key], other[key])

  def test_every_example_comes_once_per_epoch(self):
    order = _order(_batches())
    for epoch in range(_EPOCHS):
      seen = order[epoch * _COUNT : (epoch + 1) * _COUNT]
      self.assertCountEqual(seen, range(_COUNT))

  def test_every_batch_is_full_across_the_ends_of_epochs(self):
    batches = _batches()
    self.assertLen(batches, _STEPS)
    for batch in batches:
      self.assertEqual(batch['image'].shape, (_BATCH, 6, 5, 3))
      self.assertEqual(batch['label'].shape, (_BATCH,))

  def test_shapes_and_types_are_known_before_the_first_batch(self):
    spec = views.stream(
      _examples(), _data(), seed=0, first_step=0, last_step=1
    ).element_spec
    self.assertEqual(spec['image'], tf.TensorSpec((_BATCH, 6, 5, 3), tf.uint8))
    self.assertEqual(spec['label'], tf.TensorSpec((_BATCH,), tf.int64))

  def test_batch_larger_than_the_data_set_is_full_too(self):
    batches = _batches(batch_size=25, last_step=2)
    self.assertLen(batches, 2)
    order = _order(batches)
    self.assertLen(order, 50)
    for epoch in range(5):
      self.assertCountEqual(
        order[epoch * _COUNT : (epoch + 1) * _COUNT], range(_COUNT)
      )

  def test_same_arguments_give_the_same_batches(self):
    self.assert_equal_batches(_batches(seed=3), _batches(seed=3))

  @parameterized.parameters(1, 2, 4)
  def test_parts_of_a_batch_are_the_batch(self, parts):
    whole = _batches(seed=3)
    of_part = [_batches(seed=3, share=(part, parts)) for part in range(parts)]
    together = [
      {name: np.concatenate([each[name] for each in same]) for name in same[0]}
      for same in zip(*of_part, strict=True)
    ]
    self.assert_equal_batches(whole, together)

  # Within an epoch, on its last batch, on the start of one, at the end.
  @parameterized.parameters(1, 2, 3, 5, 7, 8)
  def test_stream_begun_at_a_step_goes_on_where_the_whole_one_is(self, step):
    self.assert_equal_batches(_batches(first_step=step), _batches()[step:])

  def test_stream_that_ends_later_begins_the_same(self):
    self.assert_equal_batches(
      _batches(last_step=_STEPS + 5)[:_STEPS], _batches()
    )

  def test_epochs_differ_in_order_and_views(self):
    batches = _batches()
    order, seen = _order(batches), _views(batches)
    self.assertNotEqual(order[:_COUNT], order[_COUNT : 2 * _COUNT])
    same = [
      np.array_equal(seen[0, example], seen[1, example])
      for example in range(_COUNT)
    ]
    # One view in 50 is the same by chance.
    self.assertLess(sum(same), 5)

  def test_seed_changes_the_order_and_leaves_every_examples_view(self):
    first, second = _batches(seed=0), _batches(seed=1)
    self.assertNotEqual(_order(first), _order(second))
    ours, theirs = _views(first), _views(second)
    # Both have seen all of the first 3 epochs.
    for epoch in range(_EPOCHS):
      for example in range(_COUNT):
        np.testing.assert_array_equal(
          ours[epoch, example], theirs[epoch, example]
        )

  def test_view_seed_changes_the_views_and_leaves_the_order(self):
    first, second = _batches(view_seed=0), _batches(view_seed=1)
    self.assertEqual(_order(first), _order(second))
    same = [
      np.array_equal(one, other)
      for a, b in zip(first, second, strict=True)
      for one, other in zip(a['image'], b['image'], strict=True)
    ]
    self.assertLess(np.mean(same), 0.3)

  def test_batch_size_changes_neither_order_nor_views(self):
    ours, theirs = _batches(), _batches(batch_size=8, last_step=4)
    self.assertEqual(_order(ours), _order(theirs))
    ours, theirs = _views(ours), _views(theirs)
    for place in ours:
      np.testing.assert_array_equal(ours[place], theirs[place])

  def test_labels_are_absent_when_they_are_not_asked_for(self):
    without = _batches(labels=False)
    self.assertEqual(
      without[0].keys(), {'image'}, 'a paraphraser must see no label'
    )
    self.assert_equal_batches(
      without, [{'image': batch['image']} for batch in _batches()]
    )

  def test_without_augmentation_images_come_as_they_are(self):
    images = _examples().images
    for batch in _batches(pad=0, flip=False):
      np.testing.assert_array_equal(batch['image'], images[batch['label']])

  def test_empty_range_of_steps_gives_no_batch(self):
    self.assertEmpty(_batches(first_step=_STEPS))


class CropAndFlipTest(parameterized.TestCase):
  def _reference(self, image, chance, pad, flip):
    """Pads with zeros, cuts a window out, then mirrors it: in numpy."""
    height, width, _ = image.shape
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    top, left = (int(c * (2 * pad + 1)) for c in chance[:2])
    view = padded[top : top + height, left : left + width]
    return view[:, ::-1] if flip and chance[2] < 0.5 else view

  @parameterized.product(pad=(0, 1, 4), flip=(True, False), channels=(1, 3))
  def test_views_equal_numpys(self, pad, flip, channels):
    rng = np.random.default_rng(pad)
    images = rng.integers(256, size=(32, 7, 5, channels)).astype(np.uint8)
    chance = rng.random((32, 3)).astype(np.float32)
    cropped = views.crop_and_flip(images, chance, pad=pad, flip=flip)
    self.assertEqual(cropped.dtype, tf.uint8)
    np.testing.assert_array_equal(
      cropped,
      [
        self._reference(image, row, pad, flip)
        for image, row in zip(images, chance, strict=True)
      ],
    )

  @parameterized.parameters(
    # (row, column): the corner of the image that is left, over black.
    (0.0, 0.0, [[0, 0], [0, 1]]),
    (0.999, 0.999, [[4, 0], [0, 0]]),
    (0.0, 0.999, [[0, 0], [2, 0]]),
    (0.5, 0.5, [[1, 2], [3, 4]]),
  )
  def test_crop_at_the_edge_is_black_where_it_leaves_the_image(
    self, row, column, view
  ):
    image = np.array([[1, 2], [3, 4]], np.uint8)[None, ..., None]
    cropped = views.crop_and_flip(
      image, np.array([[row, column, 0.9]], np.float32), pad=1, flip=True
    )
    np.testing.assert_array_equal(cropped[0, ..., 0], view)

  def test_flip_mirrors_left_to_right_below_a_half(self):
    image = np.array([[1, 2], [3, 4]], np.uint8)[None, ..., None]
    chance = np.array([[0, 0, 0.49], [0, 0, 0.5]], np.float32)
    cropped = views.crop_and_flip(
      np.repeat(image, 2, axis=0), chance, pad=0, flip=True
    )
    np.testing.assert_array_equal(cropped[0, ..., 0], [[2, 1], [4, 3]])
    np.testing.assert_array_equal(cropped[1, ..., 0], [[1, 2], [3, 4]])

  def test_offsets_cover_the_whole_padding_evenly(self):
    # 9 offsets a side at pad 4, as torchvision's RandomCrop(32, padding=4).
    image = np.zeros((1, 9, 9, 1), np.uint8)
    image[0, 4, 4] = 255
    count = 9 * 9 * 50
    chance = tf.random.stateless_uniform([count, 3], seed=[0, 0])
    cropped = views.crop_and_flip(
      np.repeat(image, count, axis=0), chance, pad=4, flip=False
    ).numpy()
    counts = (cropped[..., 0] == 255).sum(axis=0)
    self.assertEqual(counts.sum(), count)  # The bright pixel stays in view.
    # Poisson of mean 50: the odds of one of 81 beyond 5 sigma are 1e-4.
    self.assertGreater(counts.min(), 50 - 5 * 50**0.5)
    self.assertLess(counts.max(), 50 + 5 * 50**0.5)


class _Echo:
  """Signals that return the view number and the example."""

  width = 2

  def read(self, views, examples):
    return np.stack([views, examples], axis=1).astype(np.float16)


class SignalsTest(parameterized.TestCase):
  def _batches(self, first_step=0, last_step=9, **values):
    recipe = fixtures.recipe(view_seed=3, **values)
    stream = views.stream(
      fixtures.blobs().train,
      recipe.data,
      seed=1,
      first_step=first_step,
      last_step=last_step,
      signals=_Echo(),
    )
    return recipe.data, list(stream.as_numpy_iterator())

  @parameterized.parameters(0, 2)
  def test_batches_carry_the_signals_of_the_views_they_show(self, number):
    # Batches of 20 out of 48 straddle epochs.
    data, batches = self._batches(batch_size=20, last_step=10, views=number)
    shown = {}
    for batch in batches:
      for image, (view, example) in zip(
        batch['image'], batch['signal'].astype(int), strict=True
      ):
        if view not in shown:
          shown[view] = np.concatenate(
            list(
              views.read_view(
                fixtures.blobs().train, data, view
              ).as_numpy_iterator()
            )
          )
        np.testing.assert_array_equal(image, shown[view][example])
    self.assertEqual(set(shown), {0, 1} if number else {0, 1, 2, 3, 4})

  def test_epochs_repeat_views_in_another_order(self):
    _, batches = self._batches(views=1)
    first, second = (
      np.concatenate([b['signal'][:, 1] for b in batches[i : i + 3]])
      for i in (0, 3)
    )
    self.assertFalse((first == second).all())
    np.testing.assert_array_equal(np.sort(first), np.sort(second))

  def test_stream_that_begins_later_goes_on_the_same(self):
    _, whole = self._batches(views=2)
    _, rest = self._batches(first_step=4, views=2)
    for batch, expected in zip(rest, whole[4:], strict=True):
      for name in ('image', 'label', 'signal'):
        np.testing.assert_array_equal(batch[name], expected[name])


class NumbersTest(parameterized.TestCase):
  @parameterized.parameters(
    # 48 images: exact, one epoch more for the last batch, repeated views.
    (16, 0, 3),
    (20, 0, 4),
    (16, 2, 2),
    (20, 8, 4),
  )
  def test_views_are_those_that_the_stream_asks_for(self, batch, count, last):
    data = fixtures.recipe(batch_size=batch, views=count).data
    numbers = views.view_numbers(48, data, epochs=3)
    self.assertEqual(numbers, range(last))
    asked = set()

    class Signals:
      width = 1

      def read(self, numbers_read, examples):
        asked.update(numbers_read.tolist())
        return np.zeros((len(examples), 1), np.float16)

    total = views.count_steps(48, batch_size=batch, epochs=3)
    stream = views.stream(
      fixtures.blobs().train,
      data,
      seed=0,
      first_step=0,
      last_step=total,
      signals=Signals(),
    )
    for _ in stream:
      pass
    self.assertEqual(asked, set(numbers))


if __name__ == '__main__':
  absltest.main()
